package mirror

import (
	"fmt"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"

	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/tap"
)

// hooks are both of a device's, as tcx and as tc name them.
var hooks = map[ebpf.AttachType]uint32{ebpf.AttachTCXIngress: hookIngress, ebpf.AttachTCXEgress: hookEgress}

func TestPodsBesideCiliumsVXLANAreCopiedOnce(t *testing.T) {
	o := overlays["Cilium"]
	s := newOverlayScene(t, o, (*lab.Host).RoutedPod, 1450)
	if list := s.foreign(t); len(list) != 0 {
		t.Errorf("foreign are %v, though a device in external mode has no VNI", list)
	}
	s.copiesBeside(t, o, 8472)
}

// copiesPings proves for every sink that pings and replies are copied once each, and
// that nothing is left of the tap.
func (s *scene) copiesPings(t *testing.T) {
	t.Helper()
	_, p := open(t, s.node, s.pod)
	before := track(t, s.node.Space, s.pod.Space)
	for _, v := range variants {
		want := s.want(t, v.text, "direction: both")
		copies := s.watch(add(t, p, ownerOf("c1"), want), want)
		healthy(t, p, ownerOf("c1"), want)
		if n := s.pod.Ping(s.peer.IPv4, 5); n != 5 {
			t.Errorf("%s: %d of 5 pings answered", v.name, n)
		}
		expectPings(t, v.name, copies, 5)
		copies.Stop()
		remove(t, p, ownerOf("c1"))
		before.unchanged("after Remove of " + v.name)
	}
}

// Cilium's programs hang at the host's end of the pod's cable.
func TestProgramsAtTheHostsEndLeaveATapAlone(t *testing.T) {
	needsEBPF(t)
	for name, attach := range map[string]func(*testing.T, *scene, ebpf.AttachType, int32){
		"tcx": func(t *testing.T, s *scene, hook ebpf.AttachType, verdict int32) {
			tcx(t, s.node.Space, s.pod.Port, hook, always(verdict))
		},
		"clsact": func(t *testing.T, s *scene, hook ebpf.AttachType, verdict int32) {
			classifier(t, s.node.Space, s.pod.Port, hooks[hook], always(verdict))
		},
	} {
		for _, verdict := range []int32{verdictOK, verdictNext} {
			t.Run(fmt.Sprintf("%s/%d", name, verdict), func(t *testing.T) {
				s := newScene(t, 1450, 1500)
				for hook := range hooks {
					attach(t, s, hook, verdict)
				}
				s.copiesPings(t)
			})
		}
	}
}

// bypassed switches the node's own forwarding off, so that only programs carry the
// pod's packets. Without forwarding nobody answers for the gateway.
func (s *scene) bypassed(t *testing.T) {
	t.Helper()
	s.node.Sysctl("ipv4", "all", "forwarding", "0")
	err := s.pod.Netlink.NeighSet(&netlink.Neigh{LinkIndex: s.pod.Link("eth0").Attrs().Index, State: netlink.NUD_PERMANENT,
		IP: []byte{169, 254, 1, 1}, HardwareAddr: s.node.Link(s.pod.Port).Attrs().HardwareAddr})
	if err != nil {
		t.Fatal(err)
	}
	if n := s.pod.Ping(s.peer.IPv4, 1); n != 0 {
		t.Fatal("the peer answers though nothing is forwarded")
	}
}

// repliesPassBy fails where the host's end of the pod's cable has seen a reply: then
// nothing was redirected past it.
func repliesPassBy(t *testing.T, hostEnd *lab.Capture, requests int) {
	t.Helper()
	if got := echoes(hostEnd.Settle(requests)); got.replies != 0 || got.requests != requests {
		t.Errorf("the host's end has seen %+v; want %d requests and no reply", got, requests)
	}
}

// With its own routing Cilium hands packets from the node's card straight to the
// pod's end of the cable, and the pod's straight to a neighbour: the hooks at the
// host's end see no packet to the pod. The tap sits at the pod's, and does.
func TestPacketsRedirectedPastTheHostsEndAreCopied(t *testing.T) {
	needsEBPF(t)
	s := newScene(t, 1450, 1500)
	s.pod = s.node.RoutedPod("routed", 1450)
	s.bypassed(t)
	tcx(t, s.node.Space, "eth0", ebpf.AttachTCXIngress, toAddress(s.pod.IPv4, redirectPeer(s.pod)...))
	tcx(t, s.node.Space, s.pod.Port, ebpf.AttachTCXIngress, toAddress(s.peer.IPv4, redirectNeigh(s.node.Link("eth0"))...))
	hostEnd := s.node.Capture(s.pod.Port)
	s.copiesPings(t)
	repliesPassBy(t, hostEnd, 5*len(variants))
}

// The same below clsact, with which Cilium works on older kernels.
func TestPacketsRedirectedByClassifiersAreCopied(t *testing.T) {
	needsEBPF(t)
	s := newScene(t, 1450, 1500)
	s.pod = s.node.RoutedPod("routed", 1450)
	s.bypassed(t)
	classifier(t, s.node.Space, "eth0", hookIngress, toAddress(s.pod.IPv4, redirectPeer(s.pod)...))
	classifier(t, s.node.Space, s.pod.Port, hookIngress, toAddress(s.peer.IPv4, redirectNeigh(s.node.Link("eth0"))...))
	hostEnd := s.node.Capture(s.pod.Port)
	s.copiesPings(t)
	repliesPassBy(t, hostEnd, 5*len(variants))
}

// In tunnel mode a program gives each packet its node and VNI, and another takes
// what comes out of the tunnel to the pod.
func TestPacketsThatProgramsTunnelAreCopied(t *testing.T) {
	needsEBPF(t)
	o := overlays["Cilium"]
	s := newOverlayScene(t, o, (*lab.Host).RoutedPod, 1450)
	s.bypassed(t)
	tcx(t, s.node.Space, o.Device, ebpf.AttachTCXIngress, toAddress(s.pod.IPv4, redirectPeer(s.pod)...))
	tcx(t, s.node.Space, s.pod.Port, ebpf.AttachTCXIngress, toAddress(s.peer.IPv4, encapsulate(o, 7, s.node, s.other)...))
	hostEnd, wire := s.node.Capture(s.pod.Port), s.node.Capture("eth0")
	s.copiesPings(t)
	repliesPassBy(t, hostEnd, 5*len(variants))
	if got := echoes(carried(wire.Settle(10*len(variants)), o, s.node, s.other)); got.requests != 5*len(variants) || got.replies != 5*len(variants) {
		t.Errorf("the tunnel carried %+v; want %d of each", got, 5*len(variants))
	}
}

// A tcx program on the pod's own interface comes before every tc rule. One that says
// "next" changes nothing. One that says "OK" ends the hook there: the tap gets
// nothing from it, its counters stand still, and CHECK, which looks at what the tap
// has made, finds it whole.
func TestATCXProgramInThePodHidesPacketsUnlessItSaysNext(t *testing.T) {
	needsEBPF(t)
	for name, late := range map[string]bool{"before the tap": false, "after the tap": true} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, 1450, 1500)
			node, p := open(t, s.node, s.pod)
			want := s.want(t, variants[1].text, "direction: both")
			copies := s.collector.Collect("[::]:4789")
			seen := pings{}
			for _, c := range []struct {
				hook              ebpf.AttachType
				verdict           int32
				requests, replies int
			}{
				{ebpf.AttachTCXIngress, verdictNext, 3, 3}, {ebpf.AttachTCXEgress, verdictNext, 3, 3},
				{ebpf.AttachTCXIngress, verdictOK, 3, 0}, {ebpf.AttachTCXEgress, verdictOK, 0, 3},
			} {
				if late {
					add(t, p, ownerOf("c1"), want)
				}
				detach := tcx(t, s.pod.Space, "eth0", c.hook, always(c.verdict))
				if !late {
					add(t, p, ownerOf("c1"), want)
				}
				matched := map[tap.Direction]uint64{} // before both were there
				for _, k := range only(t, node).Counters {
					matched[k.Direction] = k.Matched.Packets
				}
				if n := s.pod.Ping(s.peer.IPv4, 3); n != 3 {
					t.Fatalf("%d of 3 pings answered", n)
				}
				healthy(t, p, ownerOf("c1"), want)
				seen.requests, seen.replies = seen.requests+c.requests, seen.replies+c.replies
				if got := echoes(copies.Settle(seen.requests + seen.replies)); got != seen {
					t.Errorf("%v, verdict %d: copied are %+v; want %+v", c.hook, c.verdict, got, seen)
				}
				for _, k := range only(t, node).Counters {
					hidden := c.requests == 0 && k.Direction == tap.Egress || c.replies == 0 && k.Direction == tap.Ingress
					if more := k.Matched.Packets - matched[k.Direction]; hidden != (more == 0) {
						t.Errorf("%v, verdict %d: %s has counted %d packets more", c.hook, c.verdict, k.Direction, more)
					}
				}
				detach()
				remove(t, p, ownerOf("c1"))
			}
		})
	}
}
