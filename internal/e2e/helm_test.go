//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestPodtapByHelm goes the chart's way: install, upgrade, uninstall.
func TestPodtapByHelm(t *testing.T) {
	tell(t, "helm", []part{
		{"helm install makes both nodes ready, and pods are tapped", testHelmInstall},
		{"helm upgrade changes the settings", testHelmUpgrade},
		{"helm uninstall leaves nothing", testHelmUninstall},
	})
}

// chart is podtap's.
var chart = filepath.Join(root, "deploy", "helm", "podtap")

// helm runs as the cluster's administrator, with these settings of podtap's, if any.
func helm(t *testing.T, settings string, args ...string) {
	t.Helper()
	dir := t.TempDir()
	if settings != "" {
		if err := os.WriteFile(filepath.Join(dir, "settings.yaml"), []byte(settings), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--set-file", "config=settings.yaml") // a comma in a path would end it
	}
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	c := exec.CommandContext(ctx, built(t, "helm"), append(args, "--timeout=150s")...)
	c.Dir = dir
	c.Env = append(os.Environ(), "KUBECONFIG="+must(t, "kubeconfig"), "HELM_CACHE_HOME="+dir, "HELM_CONFIG_HOME="+dir, "HELM_DATA_HOME="+dir)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("helm %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func testHelmInstall(t *testing.T) {
	bare(t)
	helm(t, fmt.Sprintf("policy: {rules: [{sinks: [vxlan], destinations: [%s]}]}\n", apartAddress), "install", "podtap", chart, "--wait")
	ready(t, patience)
	ns := space(t)
	to := server(t, ns, "n2").ip(t)
	at := collect(t, apart, 195)
	p := pod{namespace: ns, name: "tapped", node: "n1", annotation: vxlan(195, apartAddress), init: udpTo(to, echoes), command: []string{"sleep", "600"}}.start(t)
	at.counts("each datagram", addr(t, p), echoes, echoes)
}

func testHelmUpgrade(t *testing.T) {
	helm(t, "failurePolicy: Ignore\n", "upgrade", "podtap", chart, "--reuse-values", "--wait")
	eventually(t, patience, "the nodes have the new settings", func() error {
		for _, node := range nodes {
			if text, err := try("", "sh", node, "sh", "-c", conflist); err != nil || !strings.Contains(text, `"failurePolicy":"Ignore"`) || strings.Contains(text, apartAddress) {
				return fmt.Errorf("%s has: %v %s", node, err, text)
			}
		}
		return nil
	})
	ready(t, patience)
}

func testHelmUninstall(t *testing.T) {
	helm(t, "", "uninstall", "podtap", "--wait")
	for _, node := range nodes {
		if got, err := try("", "sh", node, "sh", "-c", conflist); err != nil || got != pristine[node] {
			t.Errorf("on %s the configuration is: %v\n%s\nwant\n%s", node, err, got, pristine[node])
		}
		if got := on(t, node, "ls", "/opt/cni/bin"); strings.Contains(got, "podtap") {
			t.Errorf("on %s there still is the plugin: %s", node, got)
		}
	}
	if out, err := try("", "kubectl", "get", "all,serviceaccounts,configmaps", "-A", "-o", "name"); err != nil || strings.Contains(out, "podtap") {
		t.Errorf("the cluster still has: %v\n%s", err, out)
	}
	if out, err := try("", "kubectl", "get", "clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings", "-o", "name"); err != nil || strings.Contains(out, "podtap") {
		t.Errorf("the cluster still has: %v\n%s", err, out)
	}
	ns := space(t)
	for _, node := range nodes {
		pod{namespace: ns, name: "plain-" + node, node: node, command: []string{"true"}}.start(t).ends(t, "Succeeded")
	}
}
