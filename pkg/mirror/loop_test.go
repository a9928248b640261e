package mirror

import (
	"fmt"
	"testing"
	"time"

	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/tap"
)

// Two collectors that are pods, each tapped into the other: without care one
// ping would go round for ever.
func TestTwoCollectorsTappedIntoEachOtherStayBounded(t *testing.T) {
	for name, ports := range map[string][2]int{"on one port": {4789, 4789}, "on two ports": {4789, 4790}} {
		for _, placement := range []tap.Placement{tap.PlacementNode, tap.PlacementPod} {
			for _, family := range []string{"IPv4", "IPv6"} {
				t.Run(name+"/"+string(placement)+"/"+family, func(t *testing.T) {
					s := newScene(t, 1450, 1500)
					a, b := s.pod.IPv4, s.peer.IPv4
					if family == "IPv6" {
						a, b = s.pod.IPv6, s.peer.IPv6
					}
					_, p := open(t, s.node, s.pod)
					_, q := open(t, s.other, s.peer)
					format := "{vxlan: {vni: %d, remote: %q, port: %d, placement: %s, oversize: fragment}}"
					add(t, p, ownerOf("c1"), parse(t, format, 1, b, ports[0], placement))
					add(t, q, ownerOf("c2"), parse(t, format, 2, a, ports[1], placement))
					s.pod.Collect(fmt.Sprintf("[::]:%d", ports[1]))
					s.peer.Collect(fmt.Sprintf("[::]:%d", ports[0]))
					wires := map[string]*lab.Capture{"a": s.pod.Capture("eth0"), "b": s.peer.Capture("eth0")}
					if n := s.collector.Ping(a, 1); n != 1 {
						t.Fatal("the ping was not answered")
					}
					time.Sleep(500 * time.Millisecond)
					for who, c := range wires {
						if n := vxlans(c.Frames()); n > 16 {
							t.Errorf("%s's interface saw %d VXLAN packets for one ping", who, n)
						}
						for _, f := range c.Frames() {
							if isCopyOfCopy(f) {
								t.Errorf("%s's interface saw a copy of a copy: %s", who, decode(f))
							}
						}
					}
				})
			}
		}
	}
}

// A collector's pod that taps itself to its own collector by another address: the
// copies come back in, and must not be copied again.
func TestVXLANBoundForTheTapsOwnCollectorIsNotCopied(t *testing.T) {
	s := newScene(t, 1450, 1500)
	_, p := open(t, s.node, s.pod)
	for _, v := range variants[1:] {
		t.Run(v.name, func(t *testing.T) {
			want := s.want(t, v.text, "direction: both")
			capture := s.watch(add(t, p, ownerOf("c1"), want), want)
			defer capture.Stop()
			inPod := s.pod.UDP("[::]:0")
			defer inPod.Close()
			remote := want.VXLAN.Remote.String()
			send := func(port int, payload ...byte) {
				lab.Send(t, inPod, remote, port, append(payload, make([]byte, 60)...))
			}
			// To the collector's port as VXLAN: passed over. The same as anything
			// else, or to another port, and too short to be VXLAN: copied.
			send(4789, 8, 0, 0, 0, 0, 0, 9, 0)
			send(4789, 9, 0, 0, 0, 0, 0, 9, 0)
			send(4788, 8, 0, 0, 0, 0, 0, 9, 0)
			lab.Send(t, inPod, remote, 4789, []byte{8, 0, 0, 0})
			lab.Send(t, inPod, remote, 4789, nil)
			// The first arrives itself at the collector, as what it is.
			var direct, copies int
			for _, f := range capture.Settle(6) {
				if port := destinationPort(f); port == 4789 || port == 4788 {
					copies++
				} else if f.VNI == 9 {
					direct++
				}
			}
			if copies != 4 {
				t.Errorf("%d datagrams were copied; want 4 of 5", copies)
			}
			if direct != 2 {
				t.Errorf("%d datagrams reached the collector's port themselves; want 2 with a VXLAN header's length", direct)
			}
			remove(t, p, ownerOf("c1"))
		})
	}
}
