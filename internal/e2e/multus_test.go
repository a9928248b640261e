//go:build e2e

package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// TestPodtapWithMultus is one story: Multus' real thin plugin calls the nodes' network,
// and podtap is behind it and under it.
func TestPodtapWithMultus(t *testing.T) {
	tell(t, "multus", []part{
		{"Multus and podtap are installed", testMultusInstall},
		{"podtap in the default network's chain asks podtapd", testMultusDefaultNetwork},
		{"an attachment is one tap", testMultusAttachment},
		{"a second interface is tapped, and only that", testMultusInterface},
		{"cni-args stand under the attachment's policy", testMultusArguments},
		{"the auxiliary chain taps every pod", testMultusAuxiliaryChain},
		{"podtapd never writes into Multus' file", testMultusFile},
		{"podtapd restarts beside Multus", testMultusRestarts},
		{"the plugin stays while an attachment lives", testMultusUninstall},
		{"a copy of the network's configuration has to have podtap", testMultusCopy},
		{"Multus is taken off again", testMultusRemove},
	})
}

// answered counts the plugin's questions that podtapd of n1 has answered.
func answered(t *testing.T) float64 {
	return metric(t, `podtap_agent_questions_total{result="answered"}`)
}

// refusals counts the taps of which podtapd of n1 was told that they were refused: what
// code the plugin had, Multus does not hand on.
func refusals(t *testing.T) float64 { return metric(t, `podtap_errors_total{code="100"}`) }

// metric is one of podtapd's on n1; 0 where there is none.
func metric(t *testing.T, name string) (value float64) {
	t.Helper()
	out, err := get(t, "n1", "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	if _, after, found := strings.Cut(out, "\n"+name+" "); found {
		if _, err := fmt.Sscan(after, &value); err != nil {
			t.Fatal(err)
		}
	}
	return value
}

func testMultusDefaultNetwork(t *testing.T) {
	ns := space(t)
	to := server(t, ns, "n2").ip(t)
	at := collect(t, apart, 160)
	before := answered(t)
	p := pod{namespace: ns, name: "tapped", node: "n1", annotation: `{vxlan: {vni: 160, remote: 198.18.0.100}}`, init: udpTo(to, echoes), command: []string{"sleep", "600"}}.start(t)
	at.counts("each datagram from the first on", addr(t, p), echoes, echoes)
	if got := answered(t) - before; got < 1 {
		t.Errorf("podtapd has answered %v questions, not even this pod's", got)
	}
	p.delete(t)
	nothingLeft(t, "n1")

	refusedBefore := refusals(t)
	refused := pod{namespace: ns, name: "refused", node: "n1", annotation: `{vxlan: {vni: 200, remote: 198.18.0.100}}`, command: []string{"sleep", "600"}}
	apply(t, refused.manifest())
	event(t, ns, "Pod", "refused", "FailedCreatePodSandBox", `plugin type="multus"`, "VNI 200 is not in its vnis (100-199)")
	event(t, ns, "Pod", "refused", "TapRefused", "VNI 200 is not in its vnis (100-199)")
	if got := refusals(t); got <= refusedBefore {
		t.Errorf("%v refusals, were %v", got, refusedBefore)
	}
	if got := refused.get(t, ".status.phase"); got != "Pending" {
		t.Errorf("the pod is %s", got)
	}
	refused.delete(t)
	nothingLeft(t, "n1")
}

// isRight insists that Multus says of the default network what is so.
func isRight(t *testing.T, p pod, all map[string]networkStatus) {
	t.Helper()
	own := all[primaryName]
	if ips := strings.Join(own.IPs, " "); !own.Default || own.Interface != "eth0" || ips != p.get(t, ".status.podIPs[*].ip") || len(own.IPs) != 2 ||
		own.Mac != p.mac(t, "eth0") {
		t.Errorf("of the default network Multus says %+v", own)
	}
}

func (p pod) mac(t *testing.T, device string) string {
	t.Helper()
	return kubectl(t, "-n", p.namespace, "exec", p.name, "--", "cat", "/sys/class/net/"+device+"/address")
}

func testMultusAttachment(t *testing.T) {
	ns := space(t)
	to := server(t, ns, "n2").ip(t)
	at, unchanged := collect(t, apart, 101), collect(t, apart, 100)
	tapped := runs(t, pod{namespace: ns, name: "tapped"}, sample(t, "multus-attachment.yaml", ns))
	all := networks(t, tapped)
	isRight(t, tapped, all)
	if got := all[ns+"/mirror"]; len(all) != 2 || got.Interface != "net1" || got.Mac == "" || got.Mac != tapped.mac(t, "net1") || len(got.IPs) != 0 || got.Default {
		t.Errorf("of the attachment Multus says %+v of %d networks", got, len(all))
	}
	kubectl(t, append([]string{"-n", ns, "exec", "tapped", "--"}, udpTo(to, echoes)...)...)
	at.counts("with the VNI of its cni-args each datagram", addr(t, tapped), echoes, echoes)

	// From the first packet on, beside a tap of the annotation.
	both := collect(t, apart, 161)
	p := pod{namespace: ns, name: "both", node: "n1", annotation: `{vxlan: {vni: 161, remote: 198.18.0.100}}`, init: udpTo(to, echoes), command: []string{"sleep", "600"}}
	runs(t, p, attached(p, "mirror"))
	isRight(t, p, networks(t, p))
	both.counts("from the annotation's tap each datagram", addr(t, p), echoes, echoes)
	unchanged.counts("from the attachment's each datagram", addr(t, p), echoes, echoes)
	if got := unchanged.sum("udp", func(flow) bool { return true }).packets; got != 2*echoes {
		t.Errorf("%d copies with the VNI that the first pod has changed, want %d", got, 2*echoes)
	}
	for _, gone := range []pod{tapped, p} {
		gone.delete(t)
	}
	nothingLeft(t, "n1", "mirror-")
}

func testMultusInterface(t *testing.T) {
	ns := space(t)
	at := collect(t, apart, 100)
	// A server on both networks, without a tap.
	plain := `{"cniVersion":"1.0.0","name":"plain","type":"macvlan","master":"eth0","mode":"bridge",
      "ipam":{"type":"host-local","ranges":[[{"subnet":"198.18.64.0/24","rangeStart":"198.18.64.200"}]]}}`
	apply(t, fmt.Sprintf("apiVersion: k8s.cni.cncf.io/v1\nkind: NetworkAttachmentDefinition\nmetadata: {name: plain, namespace: %s}\nspec:\n  config: '%s'\n", ns, plain))
	to := pod{namespace: ns, name: "server", node: "n1", command: []string{"netutil", "serve", ":7000"}}
	runs(t, to, attached(to, "plain"))
	near := networks(t, to)[ns+"/plain"].IPs
	if len(near) != 1 || !strings.HasPrefix(near[0], "198.18.64.") {
		t.Fatalf("the server's second address is %v", near)
	}
	runs(t, pod{namespace: ns, name: "two-interfaces"}, sample(t, "multus-interface.yaml", ns))
	p := pod{namespace: ns, name: "client", node: "n1", init: []string{"sh", "-c", strings.Join(udpTo(near[0], echoes), " ") + " && " + strings.Join(udpTo(to.ip(t), echoes), " ")},
		command: []string{"sleep", "600"}}
	runs(t, p, attached(p, "second"))
	all := networks(t, p)
	isRight(t, p, all)
	own := all[ns+"/second"]
	if own.Interface != "net1" || own.Mac != p.mac(t, "net1") || len(own.IPs) != 1 {
		t.Fatalf("of the second network Multus says %+v", own)
	}
	at.counts("each datagram of the second interface", netip.MustParseAddr(own.IPs[0]), echoes, echoes)
	if got := at.sum("udp", func(flow) bool { return true }).packets; got != 2*echoes {
		t.Errorf("%d copies in all, want %d: the first interface is tapped, too", got, 2*echoes)
	}
	for _, name := range []string{"two-interfaces", "client"} {
		pod{namespace: ns, name: name}.delete(t)
	}
	nothingLeft(t, "n1", "second-")
}

func testMultusArguments(t *testing.T) {
	ns := space(t)
	to := server(t, ns, "n2").ip(t)
	there := collect(t, "n2", 104)
	apply(t, fmt.Sprintf(`apiVersion: k8s.cni.cncf.io/v1
kind: NetworkAttachmentDefinition
metadata: {name: mirror, namespace: %s}
spec:
  config: |
    {"cniVersion": "1.0.0", "name": "mirror", "type": "podtap", "taps": [{"vxlan": {"vni": 100, "remote": "198.18.0.100"}}],
     "policy": {"rules": [{"sinks": ["vxlan"], "destinations": ["198.18.0.100", "198.18.0.12"], "vnis": ["100-199"]}]}}
`, ns))
	p := pod{namespace: ns, name: "elsewhere", node: "n1", init: udpTo(to, echoes), command: []string{"sleep", "600"}}
	runs(t, p, attached(p, `[{"name": "mirror", "cni-args": {"direction": "egress", "vxlan": {"vni": 104, "remote": "198.18.0.12"}}}]`))
	there.counts("at another collector each datagram that was sent", addr(t, p), echoes, 0)

	for name, c := range map[string]struct{ args, says string }{
		"vni":       {`{"vxlan": {"vni": 200}}`, "VNI 200 is not in its vnis (100-199)"},
		"collector": {`{"vxlan": {"remote": "198.18.0.13"}}`, "198.18.0.13"},
		"placement": {`{"vxlan": {"placement": "pod"}}`, "placement"},
	} {
		before := refusals(t)
		p := pod{namespace: ns, name: "refused-" + name, node: "n1", command: []string{"sleep", "600"}}
		apply(t, attached(p, `[{"name": "mirror", "cni-args": `+c.args+`}]`))
		event(t, ns, "Pod", p.name, "FailedCreatePodSandBox", `error adding container to network "mirror"`, "attachment's cni-args is refused: policy.rules[0] comes closest", c.says)
		event(t, ns, "Pod", p.name, "TapRefused", "policy.rules[0] comes closest", c.says)
		if got := refusals(t); got <= before {
			t.Errorf("%s: %v refusals with code 100, were %v", name, got, before)
		}
		if got := p.get(t, ".status.phase"); got != "Pending" {
			t.Errorf("%s: the pod is %s", name, got)
		}
		p.delete(t)
	}
	p.delete(t)
	nothingLeft(t, "n1", "mirror-")
}

// testMultusAuxiliaryChain has Multus add a chain to each pod, of which podtap is the
// only plugin that makes anything. Multus wants the network's path for that.
func testMultusAuxiliaryChain(t *testing.T) {
	ns := space(t)
	to := server(t, ns, "n2").ip(t) // before the chain, and so without a tap
	for _, node := range nodes {
		put(t, node, "/etc/cni/multus/primary/taps/podtap.conf", sample(t, "multus-auxiliary-taps.conf", ""))
		on(t, node, "ln", "-s", primaryFile, "/etc/cni/multus/primary/")
	}
	useMultus(t, sample(t, "multus-auxiliary.conf", ""))
	at := collect(t, apart, 100)
	p := pod{namespace: ns, name: "any", node: "n1", init: udpTo(to, echoes), command: []string{"sleep", "600"}}.start(t)
	at.counts("each datagram", addr(t, p), echoes, echoes)
	all := networks(t, p)
	isRight(t, p, all)
	if got := all["taps"]; len(got.IPs) != 0 || got.Mac != "" {
		t.Errorf("of the chain Multus says %+v", got)
	}
	p.delete(t)
	nothingLeft(t, "n1", "taps-")
	useMultus(t, sample(t, "multus-default.conf", ""))
	for _, node := range nodes {
		on(t, node, "rm", "-r", "/etc/cni/multus")
	}
}
