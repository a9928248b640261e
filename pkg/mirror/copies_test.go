package mirror

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/tap"
)

// variants are the ways in which copies leave a pod: each sink, each placement,
// each family of the underlay.
var variants = []struct{ name, text string }{
	{"veth", `veth: {}`},
	{"node-IPv4", `vxlan: {vni: 100, remote: COLLECTOR4}`},
	{"node-IPv6", `vxlan: {vni: 100, remote: COLLECTOR6}`},
	{"pod-IPv4", `vxlan: {vni: 100, remote: COLLECTOR4, placement: pod}`},
	{"pod-IPv6", `vxlan: {vni: 100, remote: COLLECTOR6, placement: pod, oversize: fragment}`},
}

// want is a variant's tap with the scene's collector, and more fields.
func (s *scene) want(t *testing.T, text, more string) tap.Tap {
	t.Helper()
	b := bytes.ReplaceAll([]byte(text), []byte("COLLECTOR4"), []byte(s.collector.IPv4()))
	b = bytes.ReplaceAll(b, []byte("COLLECTOR6"), fmt.Appendf(nil, "%q", s.collector.IPv6()))
	return parse(t, "{%s, %s}", b, more)
}

// watch listens where a tap's copies come out.
func (s *scene) watch(made Made, want tap.Tap) *lab.Capture {
	if want.VXLAN != nil {
		return s.collector.Collect(fmt.Sprintf("[::]:%d", want.VXLAN.Port))
	}
	return s.node.Capture(made.Host.Name)
}

var directions = []tap.Direction{tap.Both, tap.Ingress, tap.Egress}

// families are the pods' addresses of each family.
func (s *scene) families() map[string][2]string {
	return map[string][2]string{"IPv4": {s.pod.IPv4, s.peer.IPv4}, "IPv6": {s.pod.IPv6, s.peer.IPv6}}
}

func TestEveryPingAndItsReplyIsCopiedOnce(t *testing.T) {
	s := newScene(t, 1450, 1500)
	_, p := open(t, s.node, s.pod)
	o := ownerOf("c1")
	for _, v := range variants {
		for _, direction := range directions {
			for family, at := range s.families() {
				t.Run(fmt.Sprintf("%s/%s/%s", v.name, direction, family), func(t *testing.T) {
					want := s.want(t, v.text, "direction: "+string(direction))
					capture := s.watch(add(t, p, o, want), want)
					defer capture.Stop()
					// The pod's very first packet is among these.
					if n := s.pod.Ping(at[1], 3); n != 3 {
						t.Fatalf("%d of 3 pings answered", n)
					}
					requests, replies := 0, 0
					if want.Includes(tap.Egress) {
						requests = 3
					}
					if want.Includes(tap.Ingress) {
						replies = 3
					}
					got := echoes(capture.Settle(requests + replies))
					if got.requests != requests || got.replies != replies || got.broken != 0 {
						t.Errorf("copied %+v; want %d requests, %d replies, all whole", got, requests, replies)
					}
					remove(t, p, o)
				})
			}
		}
	}
}

func TestTenThousandDatagramsEachWayAreCopiedByteForByte(t *testing.T) {
	s := newScene(t, 1450, 1500)
	_, p := open(t, s.node, s.pod)
	o := ownerOf("c1")
	count := 10_000
	if testing.Short() {
		count = 1000
		t.Logf("-short: %d datagrams each way, not ten thousand", count)
	}
	for _, v := range variants {
		for family, at := range s.families() {
			t.Run(v.name+"/"+family, func(t *testing.T) {
				want := s.want(t, v.text, "direction: both")
				capture := s.watch(add(t, p, o, want), want)
				defer capture.Stop()
				original := s.pod.Capture("eth0")
				defer original.Stop()
				inPod, atPeer := s.pod.UDP("[::]:5000"), s.peer.UDP("[::]:5000")
				defer inPod.Close()
				defer atPeer.Close()
				if n := lab.Burst(t, inPod, atPeer, fmt.Sprintf("[%s]:5000", mapped(at[1])), count, 300, original, capture); n != count {
					t.Fatalf("%d of %d datagrams arrived at the peer", n, count)
				}
				if n := lab.Burst(t, atPeer, inPod, fmt.Sprintf("[%s]:5000", mapped(at[0])), count, 300, original, capture); n != count {
					t.Fatalf("%d of %d datagrams arrived at the pod", n, count)
				}
				sent, copied := datagrams(original.Settle(2*count)), datagrams(capture.Settle(2*count))
				if len(sent) != 2*count {
					t.Fatalf("the pod's own interface showed %d datagrams of %d", len(sent), 2*count)
				}
				compare(t, sent, copied)
				remove(t, p, o)
			})
		}
	}
}

// A full-size frame does not fit the underlay with VXLAN's overhead: over IPv4 it
// arrives whole, in fragments, where that is asked for.
func TestFullSizeFramesArriveWholeOverIPv4(t *testing.T) {
	s := newScene(t, 1500, 1500)
	_, p := open(t, s.node, s.pod)
	o := ownerOf("c1")
	want := s.want(t, `vxlan: {vni: 100, remote: COLLECTOR4, oversize: fragment}`, "direction: both")
	made := add(t, p, o, want)
	if len(made.Warnings) != 0 {
		t.Errorf("warnings over IPv4: %q", made.Warnings)
	}
	capture := s.watch(made, want)
	original := s.pod.Capture("eth0")
	inPod, atPeer := s.pod.UDP("[::]:5000"), s.peer.UDP("[::]:5000")
	const count = 500
	lab.Burst(t, inPod, atPeer, fmt.Sprintf("[%s]:5000", mapped(s.peer.IPv4)), count, 1472, original, capture)
	lab.Burst(t, atPeer, inPod, fmt.Sprintf("[%s]:5000", mapped(s.pod.IPv4)), count, 1472, original, capture)
	compare(t, datagrams(original.Settle(2*count)), datagrams(capture.Settle(2*count)))
}

// Over IPv6 such a frame is lost, and ADD has to say so.
func TestACopyThatCannotArriveOverIPv6IsWarnedOf(t *testing.T) {
	s := newScene(t, 1500, 1500)
	_, p := open(t, s.node, s.pod)
	made := add(t, p, ownerOf("c1"), s.want(t, `vxlan: {vni: 100, remote: COLLECTOR6, oversize: fragment}`, "direction: both"))
	if len(made.Warnings) != 1 || !bytes.Contains([]byte(made.Warnings[0]), []byte("above 1430 bytes will be lost")) {
		t.Errorf("warnings: %q", made.Warnings)
	}
}
