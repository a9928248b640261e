//go:build e2e

package e2e

import (
	"path/filepath"
	"strings"
	"testing"
)

func testUninstall(t *testing.T) {
	ns := space(t)
	before := pod{namespace: ns, name: "before", node: "n1", annotation: "{vxlan: {vni: 150, remote: 198.18.0.12}}", command: []string{"sleep", "600"}}.start(t)
	churn(t, 151, false, func(<-chan struct{}) {
		if _, err := try("", "kubectl", "apply", "-k", uninstaller); err != nil {
			t.Error(err)
		}
		if _, err := try("", "kubectl", "-n", system, "wait", "--for=condition=complete", "--timeout=150s", "job/podtap-uninstall"); err != nil {
			out, _ := try("", "kubectl", "-n", system, "logs", "job/podtap-uninstall")
			t.Errorf("%v\n%s", err, out)
		}
	})
	for _, node := range nodes {
		if got := on(t, node, "sh", "-c", conflist); got != strings.TrimSpace(pristine[node]) {
			t.Errorf("on %s the configuration is\n%s\nwant\n%s", node, got, pristine[node])
		}
		if got := on(t, node, "sh", "-c", "ls -A /opt/cni/bin /etc/cni/net.d /run/podtap | grep -e podtap-tmp -e '^podtap$' -e agent.sock -e install.lock || true"); got != "" {
			t.Errorf("on %s there still is %s", node, got)
		}
		if got := on(t, node, "sh", "-c", "{ ip -d link; for n in /run/netns/*; do ip -n $(basename $n) -d link; done; } | grep -e 'alias podtap' || true"); got != "" {
			t.Errorf("on %s there still are devices: %s", node, got)
		}
	}
	if out, err := try("", "kubectl", "-n", system, "get", "daemonset", "podtap"); err == nil {
		t.Errorf("there still is %s", out)
	}
	must(t, "kubectl", "delete", "-k", uninstaller, "--timeout=60s")
	must(t, "kubectl", "delete", "-k", filepath.Join(root, "deploy", "kustomize", "base"), "--ignore-not-found", "--timeout=120s")
	// Pods live on, go, and come.
	if got := before.get(t, ".status.phase"); got != "Running" {
		t.Errorf("a pod that was tapped is %s", got)
	}
	before.delete(t)
	churn(t, 152, false, func(<-chan struct{}) {})
}
