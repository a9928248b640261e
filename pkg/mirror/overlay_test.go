package mirror

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/gopacket/gopacket/layers"
	"github.com/vishvananda/netlink"

	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/tap"
)

// podMaker makes a pod: (*lab.Host).Pod at a bridge, (*lab.Host).RoutedPod without.
type podMaker func(h *lab.Host, name string, mtu int) *lab.Pod

// newOverlayScene builds a scene whose pods reach each other through an overlay
// alone.
func newOverlayScene(t *testing.T, o lab.Overlay, pod podMaker, podMTU int) *scene {
	t.Helper()
	n := lab.NewNetwork(t, "", 1500)
	s := &scene{network: n, node: n.Host("node"), other: n.Host("other"), collector: n.Host("collector")}
	s.pod, s.peer = pod(s.node, "pod", podMTU), pod(s.other, "peer", podMTU)
	o.Join(s.node, s.other)
	lab.Settle(t, s.node.Space, s.other.Space, s.collector.Space, s.pod.Space, s.peer.Space)
	return s
}

// carried are the frames that an overlay took between two hosts, as a capture of
// the underlay saw them.
func carried(frames []lab.Frame, o lab.Overlay, a, b *lab.Host) (inner []lab.Frame) {
	for _, f := range frames {
		p := decode(f)
		udp, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
		if !ok || int(udp.DstPort) != o.Port || !isVXLAN(udp) {
			continue
		}
		from, to := p.NetworkLayer().NetworkFlow().Endpoints()
		if ends := from.String() + " " + to.String(); ends == a.IPv4()+" "+b.IPv4() || ends == b.IPv4()+" "+a.IPv4() {
			inner = append(inner, lab.Frame{Data: udp.Payload[8:]})
		}
	}
	return inner
}

// copiesBeside proves, for every sink, that an overlay carries each of the pod's
// packets once while the tap copies each of them once to a collector's port, and
// that nothing is left of the tap.
func (s *scene) copiesBeside(t *testing.T, o lab.Overlay, port uint16) {
	t.Helper()
	_, p := open(t, s.node, s.pod)
	before := track(t, s.node.Space, s.pod.Space)
	const count = 300
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			want := s.want(t, v.text, "direction: both")
			if want.VXLAN != nil {
				want.VXLAN.Port = port
			}
			copies := s.watch(add(t, p, ownerOf("c1"), want), want)
			defer copies.Stop()
			healthy(t, p, ownerOf("c1"), want)
			if want.VXLAN != nil && want.VXLAN.Placement == tap.PlacementNode {
				if relay := s.node.Link(s.relay()).(*netlink.Vxlan); relay.Port < firstLocalPort || relay.Port > lastLocalPort {
					t.Errorf("the relay's own port is %d", relay.Port)
				}
			}
			original, overlay := s.pod.Capture("eth0"), s.node.Capture(o.Device)
			defer original.Stop()
			defer overlay.Stop()
			inPod, atPeer := s.pod.UDP("[::]:5000"), s.peer.UDP("[::]:5000")
			defer inPod.Close()
			defer atPeer.Close()
			if n := lab.Burst(t, inPod, atPeer, fmt.Sprintf("[%s]:5000", mapped(s.peer.IPv4)), count, 300, original, copies, overlay); n != count {
				t.Fatalf("%d of %d datagrams arrived at the peer", n, count)
			}
			if n := lab.Burst(t, atPeer, inPod, fmt.Sprintf("[%s]:5000", mapped(s.pod.IPv4)), count, 300, original, copies, overlay); n != count {
				t.Fatalf("%d of %d datagrams arrived at the pod", n, count)
			}
			if n := s.pod.Ping(s.peer.IPv6, 3); n != 3 {
				t.Fatalf("%d of 3 pings answered over IPv6", n)
			}
			expectPings(t, "the tap", copies, 3)
			sent := datagrams(original.Settle(2 * count))
			if len(sent) != 2*count {
				t.Fatalf("the pod's interface showed %d datagrams of %d", len(sent), 2*count)
			}
			compare(t, sent, datagrams(copies.Settle(2*count)))
			tunnelled := overlay.Settle(2 * count)
			if got := echoes(tunnelled); got.requests != 3 || got.replies != 3 {
				t.Errorf("the overlay carried %+v; want 3 requests and replies", got)
			}
			through := datagrams(tunnelled)
			for key := range through {
				if _, there := sent[key]; !there {
					t.Errorf("the overlay carried what the pod neither sent nor received: %s", key)
				}
			}
			if len(through) != 2*count {
				t.Errorf("the overlay carried %d datagrams; want %d", len(through), 2*count)
			}
			remove(t, p, ownerOf("c1"))
			before.unchanged("after Remove")
		})
	}
}

// foreign says which VXLAN devices a tap's port and VNI are compared with.
func (s *scene) foreign(t *testing.T) []VXLAN {
	t.Helper()
	node, _ := open(t, s.node, s.pod)
	list, err := node.ForeignVXLANs()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// overlays are those of the big network plugins.
var overlays = map[string]lab.Overlay{
	"flannel": {Device: "flannel.1", ID: 1, Port: 8472},
	"Cilium":  {Device: "cilium_vxlan", Port: 8472},
	"Calico":  {Device: "vxlan.calico", ID: 4096, Port: 4789},
}

// A network's daemon may come after the first taps, as it does where a node is set
// up anew: its device finds its port free.
func TestAnOverlayComesUpBesideTapsThatAreThere(t *testing.T) {
	for _, name := range []string{"flannel", "Cilium"} {
		t.Run(name, func(t *testing.T) {
			n := lab.NewNetwork(t, "", 1500)
			s := &scene{network: n, node: n.Host("node"), other: n.Host("other"), collector: n.Host("collector")}
			s.pod, s.peer = s.node.Pod("pod", 1450), s.other.Pod("peer", 1450)
			// Before the underlay is at rest, a first question for a neighbour over IPv6
			// may be lost, and the next comes a second later.
			lab.Settle(t, s.node.Space, s.other.Space, s.collector.Space, s.pod.Space, s.peer.Space)
			_, p := open(t, s.node, s.pod)
			for i, v := range variants[1:] {
				want := s.want(t, v.text, "direction: both")
				want.Device, want.VXLAN.Port, want.VXLAN.VNI = fmt.Sprintf("tap%d", i), 8472, uint32(100+i)
				add(t, p, ownerOf("c1"), want)
			}
			overlays[name].Join(s.node, s.other)
			copies := s.collector.Collect("[::]:8472")
			if n := s.pod.Ping(s.peer.IPv4, 3); n != 3 {
				t.Fatalf("%d of 3 pings answered", n)
			}
			all := copies.Settle(4 * 2 * 3)
			for i, v := range variants[1:] {
				mine := slices.DeleteFunc(slices.Clone(all), func(f lab.Frame) bool { return f.VNI != uint32(100+i) })
				if got := echoes(mine); got != (pings{requests: 3, replies: 3}) {
					t.Errorf("%s: the collector got %+v; want 3 requests and replies", v.name, got)
				}
			}
		})
	}
}

// segments counts the UDP packets and fragments among frames.
func segments(frames []lab.Frame) (n int) {
	for _, f := range frames {
		if ip, ok := decode(f).Layer(layers.LayerTypeIPv4).(*layers.IPv4); ok && ip.Protocol == layers.IPProtocolUDP {
			n++
		}
	}
	return n
}

// The collector is itself a pod, on the other node: a copy is encapsulated twice.
// Where that does not fit the overlay, it goes through it in two fragments.
func TestCopiesReachACollectorBehindTheOverlayOnce(t *testing.T) {
	const count = 300
	for _, c := range []struct {
		overlay        string
		podMTU, pieces int
		placement      tap.Placement
	}{
		{"flannel", 1450, 2, tap.PlacementNode}, {"flannel", 1450, 2, tap.PlacementPod}, {"flannel", 1400, 1, tap.PlacementNode},
		{"Cilium", 1450, 2, tap.PlacementNode}, {"Cilium", 1400, 1, tap.PlacementPod},
	} {
		t.Run(fmt.Sprintf("%s/%d/%s", c.overlay, c.podMTU, c.placement), func(t *testing.T) {
			o := overlays[c.overlay]
			s := newOverlayScene(t, o, (*lab.Host).Pod, c.podMTU)
			sensor := s.other.Pod("sensor", c.podMTU)
			_, p := open(t, s.node, s.pod)
			before := track(t, s.node.Space, s.pod.Space)
			copies, wire := sensor.Collect("[::]:4789"), s.node.Capture("eth0")
			add(t, p, ownerOf("c1"), parse(t, "{vxlan: {vni: 9, remote: %s, placement: %s, oversize: fragment}}", sensor.IPv4, c.placement))
			original := s.pod.Capture("eth0")
			inPod, atPeer := s.pod.UDP("[::]:5000"), s.peer.UDP("[::]:5000")
			size := c.podMTU - 28
			if n := lab.Burst(t, inPod, atPeer, s.peer.IPv4+":5000", count, size, original, copies); n != count {
				t.Fatalf("%d of %d datagrams arrived at the peer", n, count)
			}
			if n := lab.Burst(t, atPeer, inPod, s.pod.IPv4+":5000", count, size, original, copies); n != count {
				t.Fatalf("%d of %d datagrams arrived at the pod", n, count)
			}
			compare(t, datagrams(original.Settle(2*count)), datagrams(copies.Settle(2*count)))
			// Each datagram once, each copy of one in its pieces, each copy of anything
			// else, such as ARP, whole: and no copy of a copy.
			// An ordinary user's capture does not keep pace with all of that.
			if !lab.Privileged() {
				t.Log("what the overlay carries is not counted: that takes a larger capture than an ordinary user's")
			} else {
				most := 2 * count * (1 + c.pieces)
				n := segments(carried(wire.Settle(most), o, s.node, s.other))
				others := len(copies.Settle(2*count)) - 2*count
				if n != most+others {
					// One more may have come between the two.
					n, others = segments(carried(wire.Settle(most), o, s.node, s.other)), copies.Len()-2*count
				}
				if n != most+others {
					t.Errorf("the overlay carried %d UDP packets and fragments; want %d, with %d copies of other packets", n, most+others, others)
				}
			}
			remove(t, p, ownerOf("c1"))
			before.unchanged("after Remove")
		})
	}
}

// The collector behind the overlay is tapped too, to the underlay: the copies that
// come in there are not copied again.
func TestATappedCollectorBehindTheOverlayDoesNotFeedOnCopies(t *testing.T) {
	for _, name := range []string{"flannel", "Cilium"} {
		t.Run(name, func(t *testing.T) {
			s := newOverlayScene(t, overlays[name], (*lab.Host).Pod, 1400)
			_, p := open(t, s.node, s.pod)
			sensor := s.other.Pod("sensor", 1400)
			_, q := open(t, s.other, sensor)
			add(t, p, ownerOf("c1"), parse(t, "{vxlan: {vni: 9, remote: %s}}", sensor.IPv4))
			add(t, q, ownerOf("c2"), parse(t, "{vxlan: {vni: 10, remote: %s}}", s.collector.IPv4()))
			first, second := sensor.Collect("[::]:4789"), s.collector.Collect("[::]:4789")
			s.pod.Ping(s.peer.IPv4, 20)
			expectPings(t, "the sensor", first, 20)
			sensor.Ping(s.pod.IPv4, 5) // 5 pings of its own, which the first tap copies too
			expectPings(t, "the sensor, with its own pings,", first, 25)
			expectPings(t, "the sensor's collector", second, 5)
			if n := vxlans(second.Settle(10)); n != 0 {
				t.Errorf("%d copies were copied again", n)
			}
		})
	}
}

// Where copies come in pieces, the later ones tell no port that they could be known
// by. A tapped collector's tap copies those, but not what it has copied itself.
func TestOfCopiesInPiecesATappedCollectorCopiesTheLaterOnesOnce(t *testing.T) {
	s := newOverlayScene(t, overlays["flannel"], (*lab.Host).Pod, 1450)
	_, p := open(t, s.node, s.pod)
	sensor := s.other.Pod("sensor", 1450)
	_, q := open(t, s.other, sensor)
	first, second := sensor.Collect("[::]:4789"), s.collector.Collect("[::]:4789")
	add(t, p, ownerOf("c1"), parse(t, "{vxlan: {vni: 9, remote: %s, oversize: fragment}, direction: egress}", sensor.IPv4))
	add(t, q, ownerOf("c2"), parse(t, "{vxlan: {vni: 10, remote: %s}}", s.collector.IPv4()))
	const count = 100
	inPod, atPeer := s.pod.UDP("[::]:5000"), s.peer.UDP("[::]:5000")
	if n := lab.Burst(t, inPod, atPeer, s.peer.IPv4+":5000", count, 1450-28, first); n != count {
		t.Fatalf("%d of %d datagrams arrived at the peer", n, count)
	}
	if n := segments(second.Settle(count)); n != count || vxlans(second.Frames()) != 0 {
		t.Errorf("%d pieces of %d copies, and %d copies, were copied again; want each second piece once", n, count, vxlans(second.Frames()))
	}
}

func TestRefuseTakesTheOverlaysMTU(t *testing.T) {
	o := overlays["flannel"]
	s := newOverlayScene(t, o, (*lab.Host).Pod, 1400)
	_, p := open(t, s.node, s.pod)
	want := parse(t, "{vxlan: {vni: 9, remote: %s, oversize: refuse}}", s.peer.IPv4)
	add(t, p, ownerOf("c1"), want)
	remove(t, p, ownerOf("c1"))
	s.pod.MTU("eth0", 1401)
	if _, err := p.Add(ownerOf("c1"), want, ""); !errors.Is(err, ErrMTU) || !strings.Contains(err.Error(), "takes 1450") {
		t.Errorf("with an MTU of 1401: %v", err)
	}
}
