//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
)

func testUntapped(t *testing.T) {
	ns := space(t)
	const tap = `{device: mirror, vxlan: {vni: 100, remote: 198.18.0.12}}`
	pod{namespace: ns, name: "on-host", node: "n1", annotation: tap, more: "hostNetwork: true", command: []string{"sleep", "600"}}.start(t)
	cut := pod{namespace: ns, name: "cuts", node: "n1", annotation: tap, command: []string{"sleep", "600"},
		more: "securityContext: {}"}.start(t)
	event(t, ns, "Pod", "on-host", "HostNetwork")
	// Seen by podtapd once, so that it knows what is gone afterwards.
	listed(t, ns, "cuts")
	eventually(t, patience, "podtapd has compared", func() error {
		out, err := get(t, "n1", "/metrics")
		if err == nil && !strings.Contains(out, `podtap_pods_untapped{reason="HostNetwork"} 1`) {
			err = fmt.Errorf("the metrics are\n%s", out)
		}
		return err
	})
	sandbox := sandboxOf(t, "n1", cut)
	on(t, "n1", "sh", "-c", "ip -n "+sandbox+" link del mirror")
	event(t, ns, "Pod", "cuts", "TapRemoved")
	// The pods that cannot be tapped are in doctor's findings, too.
	out, err := podtap(t, "doctor")
	if err == nil || !strings.Contains(out, "on-host") || !strings.Contains(out, "cuts") {
		t.Errorf("doctor: %v\n%s", err, out)
	}
}

// sandboxOf is the name of a pod's network namespace on its node: the one whose
// address is the pod's.
func sandboxOf(t *testing.T, node string, p pod) string {
	t.Helper()
	name := on(t, node, "sh", "-c", fmt.Sprintf(`for n in /run/netns/*; do ip -n "$(basename $n)" -o addr 2>/dev/null | grep -qF ' %s/' && basename $n; done; true`, p.ip(t)))
	if strings.TrimSpace(name) == "" || strings.Contains(name, "\n") {
		t.Fatalf("the network namespaces of %s are %q", p.name, name)
	}
	return name
}

// testQuestion calls the plugin as Multus does: without the annotations that the
// runtime would hand over. podtapd knows them.
func testQuestion(t *testing.T) {
	ns := space(t)
	p := pod{namespace: ns, name: "asked", node: "n1", annotation: `{device: asked, veth: {}}`, command: []string{"sleep", "600"}}.start(t)
	netns := sandboxOf(t, "n1", p)
	uid := p.get(t, ".metadata.uid")
	const conf = `{"cniVersion":"1.0.0","name":"other","type":"podtap","capabilities":{"io.kubernetes.cri.pod-annotations":true},` +
		`"prevResult":{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","sandbox":"/run/netns/%s"}]}}`
	call := func(verb, uid string) string {
		t.Helper()
		out, err := try(fmt.Sprintf(conf, netns), "sh", "n1", "env", "CNI_COMMAND="+verb, "CNI_CONTAINERID=asked", "CNI_NETNS=/run/netns/"+netns, "CNI_IFNAME=eth0", "CNI_PATH=/opt/cni/bin",
			"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE="+ns+";K8S_POD_NAME=asked;K8S_POD_UID="+uid, "/opt/cni/bin/podtap")
		if err != nil {
			return err.Error()
		}
		return out
	}
	// The tap is there from the pod's start, under that name: so it is asked for again,
	// which says so; nobody but podtapd can have told.
	if got := call("ADD", uid); !strings.Contains(got, "asked") || !strings.Contains(got, "annotation podtap.io/taps") {
		t.Errorf("asked of the pod, podtap says %s", got)
	}
	call("DEL", uid)
	if got := call("ADD", "another-pods"); strings.Contains(got, "annotation podtap.io/taps") {
		t.Errorf("asked of a pod before this one, podtap says %s", got)
	}
	call("DEL", uid)
	if mode := on(t, "n1", "stat", "-c", "%a %u", "/run/podtap/agent.sock"); mode != "600 0" {
		t.Errorf("the socket's mode and owner are %s", mode)
	}
}
