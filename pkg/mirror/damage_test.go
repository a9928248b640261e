package mirror

import (
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"

	"github.com/podtap/podtap/internal/lab"
)

// instead puts rules in the place of all that a device has at a hook.
func instead(t *testing.T, n *namespace, l netlink.Link, hook uint32, rules ...rule) {
	t.Helper()
	old, err := n.rules(l.Attrs().Index, hook)
	for _, r := range old {
		if err == nil {
			err = n.deleteRule(r)
		}
	}
	for _, r := range rules {
		if r.index, r.hook = l.Attrs().Index, hook; err == nil {
			err = n.addRule("damage", r)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

// What somebody with tc can do to a tap without taking anything away, beside what
// TestNoFailureOfTheMirrorCostsThePodAPacket takes away.
func TestCheckSeesWhatHasBeenChanged(t *testing.T) {
	const relayed = `vxlan: {vni: 1, remote: COLLECTOR4}`
	marked := newCookie(ownerOf("c1"), "mirror", 0)
	seal := rule{priority: sealPriority, program: dropAll()}
	for name, c := range map[string]struct {
		tap    string
		change func(t *testing.T, s *scene, p *Pod, made Made)
		says   string
	}{
		"a wire's MTU": {`wire: {mtu: 1400}`, func(_ *testing.T, s *scene, _ *Pod, _ Made) { s.pod.MTU("mirror", 1300) }, "mirror has MTU 1300 instead of 1400"},
		"IPv6 in the pod": {`veth: {}`, func(_ *testing.T, s *scene, _ *Pod, _ Made) { s.pod.MTU("mirror", 1280) },
			"the device mirror has IPv6 switched on"},
		"IPv6 on the node": {`veth: {}`, func(_ *testing.T, s *scene, _ *Pod, made Made) {
			s.node.Sysctl("ipv6", made.Host.Name, "disable_ipv6", "0")
		}, "has IPv6 switched on"},
		"the relay answers ARP": {relayed, func(_ *testing.T, s *scene, _ *Pod, _ Made) { s.node.ARP(s.relay()) }, "the device podtap"},
		"the seal lets all pass": {`veth: {}`, func(t *testing.T, s *scene, p *Pod, made Made) {
			pass := mustAssemble([]bpf.Instruction{bpf.RetConstant{Val: 0}}) // TC_ACT_OK
			instead(t, p.node.namespace, s.node.Link(made.Host.Name), hookIngress, rule{priority: sealPriority, program: pass})
		}, "is not sealed"},
		"somebody else's device": {`veth: {}`, func(_ *testing.T, s *scene, _ *Pod, _ Made) {
			s.pod.Delete("mirror")
			lab.Cable(s.pod.Space, "mirror", s.pod.Space, "mirror1", 65535)
		}, "its device in the pod is not this attachment's"},
		"no alias on the node": {`veth: {}`, func(t *testing.T, s *scene, _ *Pod, made Made) {
			if err := s.node.Netlink.LinkSetAlias(s.node.Link(made.Host.Name), ""); err != nil {
				t.Fatal(err)
			}
		}, "its device on the node is missing"},
		"the tapped interface is gone": {`veth: {}`, func(_ *testing.T, s *scene, _ *Pod, _ Made) { s.pod.Delete("eth0") }, "the tapped interface eth0 is missing"},
		"a direction more": {`direction: ingress, veth: {}`, func(t *testing.T, s *scene, p *Pod, _ Made) {
			instead(t, p.namespace, s.pod.Link("eth0"), hookEgress, rule{priority: 300, program: matchAll(), mirred: &mirred{to: s.pod.Link("mirror").Attrs().Index, cookie: marked}})
		}, "egress of eth0: is copied, though the tap does not ask for it"},
		"a rule twice": {`veth: {}`, func(t *testing.T, s *scene, p *Pod, _ Made) {
			r := rule{priority: 300, program: matchAll(), mirred: &mirred{to: s.pod.Link("mirror").Attrs().Index, cookie: marked}}
			again := r
			again.priority = 301
			instead(t, p.namespace, s.pod.Link("eth0"), hookEgress, r, again)
		}, "egress of eth0: has more than one rule"},
		"another device": {`veth: {}`, func(t *testing.T, s *scene, p *Pod, _ Made) {
			instead(t, p.namespace, s.pod.Link("eth0"), hookIngress, rule{priority: 300, program: matchAll(), mirred: &mirred{to: s.pod.Link("lo").Attrs().Index, cookie: marked}})
		}, "ingress of eth0: its rule mirrors to a device that is not the tap's"},
		"another program": {relayed, func(t *testing.T, s *scene, p *Pod, _ Made) {
			instead(t, p.namespace, s.pod.Link("eth0"), hookIngress, rule{priority: 300, program: matchAll(), mirred: &mirred{to: s.pod.Link("mirror").Attrs().Index, cookie: marked}})
		}, "ingress of eth0: its rule has another program"},
		"another relay": {relayed, func(t *testing.T, s *scene, _ *Pod, _ Made) {
			other := collector{address(t, "198.18.0.9"), 1, 4789, 64}
			if err := s.node.Netlink.LinkSetAlias(s.node.Link(s.relay()), other.alias()); err != nil {
				t.Fatal(err)
			}
		}, "which is not that to 198.18.0."},
		"a redirect elsewhere": {relayed, func(t *testing.T, s *scene, p *Pod, made Made) {
			instead(t, p.node.namespace, s.node.Link(made.Host.Name), hookIngress, rule{priority: redirectPriority, program: matchAll(),
				mirred: &mirred{redirect: true, to: s.node.Link("lo").Attrs().Index}}, seal)
		}, "does not redirect to the relay"},
		"a mirror in the redirect's place": {relayed, func(t *testing.T, s *scene, p *Pod, made Made) {
			instead(t, p.node.namespace, s.node.Link(made.Host.Name), hookIngress, rule{priority: redirectPriority, program: matchAll(),
				mirred: &mirred{to: s.node.Link(s.relay()).Attrs().Index}}, seal)
		}, "does not redirect to the relay"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, 1450, 1500)
			_, p := open(t, s.node, s.pod)
			want := s.want(t, c.tap, "device: mirror")
			made := add(t, p, ownerOf("c1"), want)
			healthy(t, p, ownerOf("c1"), want)
			c.change(t, s, p, made)
			s.expectCheck(t, p, want, c.says)
			remove(t, p, ownerOf("c1"))
		})
	}
}
