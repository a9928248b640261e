package mirror

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/podtap/podtap/internal/lab"
)

const snap = 96

// A cut takes bytes away and nothing else: of all that is in a super-packet there is one
// copy for each packet that goes out on a wire, with the length that it has there.
func TestOfEveryTCPSegmentOnTheWireThereIsOneCutCopy(t *testing.T) {
	needsEBPF(t)
	s := newScene(t, 1430, 1500)
	node, p := open(t, s.node, s.pod)
	for _, v := range variants[:3] {
		t.Run(v.name, func(t *testing.T) {
			want := s.want(t, v.text, "direction: both, snapLength: 96")
			made := add(t, p, ownerOf("c1"), want)
			healthy(t, p, ownerOf("c1"), want)
			original, copies := s.pod.Capture("eth0"), s.watch(made, want)
			defer original.Stop()
			defer copies.Stop()
			const size = 300_000
			for _, to := range []string{s.peer.IPv4, s.peer.IPv6} {
				if n := lab.Stream(t, s.pod.Space, s.peer.Space, to, size); n != size {
					t.Errorf("%d of %d bytes came back", n, size)
				}
			}
			sent := original.Settle(1)
			all, longest := streams(t, sent, false)
			if longest < 3000 {
				t.Errorf("the longest packet had %d bytes, and shows nothing", longest)
			}
			onWire, copied := segmentsOnWire(sent, 1430), copies.Settle(1)
			sameSegments(t, onWire, segmentsOnWire(copied, 1430))
			for _, f := range copied {
				if len(f.Data) > snap {
					t.Fatalf("a copy has %d bytes", len(f.Data))
				}
			}
			sameBytes(t, all, copied)
			if is := only(t, node); is.SnapLength != snap || is.Trimmed == nil || is.Trimmed.Lost != 0 || is.Trimmed.Cut.Packets == 0 {
				t.Errorf("the tap is listed with %d bytes kept, trimmed %+v", is.SnapLength, is.Trimmed)
			}
			remove(t, p, ownerOf("c1"))
		})
	}
}

// lengthByIP is how many bytes of TCP a packet has, as IP's length field tells.
func lengthByIP(packet gopacket.Packet, tcp *layers.TCP) int {
	switch ip := packet.NetworkLayer().(type) {
	case *layers.IPv4:
		return int(ip.Length) - 4*int(ip.IHL) - 4*int(tcp.DataOffset)
	case *layers.IPv6:
		return int(ip.Length) - 4*int(tcp.DataOffset)
	}
	return -1
}

// segmentsOnWire counts the packets of TCP that become of frames on a path with an MTU, by
// connection, sequence numbers and length.
func segmentsOnWire(frames []lab.Frame, mtu int) map[string]int {
	out := map[string]int{}
	for _, f := range frames {
		packet := decode(f)
		tcp, ok := packet.Layer(layers.LayerTypeTCP).(*layers.TCP)
		if !ok {
			continue
		}
		most := mtu - 20 - 4*int(tcp.DataOffset)
		if _, ok := packet.NetworkLayer().(*layers.IPv6); ok {
			most -= 20
		}
		left, at := lengthByIP(packet, tcp), tcp.Seq
		for {
			n := min(left, most)
			out[fmt.Sprint(packet.NetworkLayer().NetworkFlow(), tcp.TransportFlow(), " ", at, "+", n, " acknowledges ", tcp.Ack)]++
			at += uint32(n)
			if left -= n; left <= 0 {
				break
			}
		}
	}
	return out
}

func sameSegments(t *testing.T, sent, copied map[string]int) {
	t.Helper()
	if maps.Equal(sent, copied) {
		return
	}
	missing, extra := []string{}, []string{}
	for s, n := range sent {
		if copied[s] < n {
			missing = append(missing, s)
		}
	}
	for s, n := range copied {
		if sent[s] < n {
			extra = append(extra, s)
		}
	}
	slices.Sort(missing)
	slices.Sort(extra)
	t.Errorf("of %d segments %d were not copied, such as %q; %d copies are of none, such as %q",
		len(sent), len(missing), missing[:min(3, len(missing))], len(extra), extra[:min(3, len(extra))])
}

// sameBytes fails where what cut copies have left of TCP is not what was sent.
func sameBytes(t *testing.T, sent map[string]map[uint32]byte, copied []lab.Frame) {
	t.Helper()
	compared, wrong := 0, 0
	for _, f := range copied {
		packet := decode(f)
		tcp, ok := packet.Layer(layers.LayerTypeTCP).(*layers.TCP)
		if !ok {
			continue
		}
		for i, b := range tcp.Payload {
			if compared++; sent[fmt.Sprint(packet.NetworkLayer().NetworkFlow(), tcp.TransportFlow())][tcp.Seq+uint32(i)] != b {
				wrong++
			}
		}
	}
	if wrong > 0 || compared < 1000 {
		t.Errorf("of %d bytes left %d are wrong", compared, wrong)
	}
}

// What a datagram loses is counted to the byte, and one that is short enough loses nothing.
func TestOfDatagramsTheFirstBytesAreKept(t *testing.T) {
	needsEBPF(t)
	s := newScene(t, 1430, 1500)
	node, p := open(t, s.node, s.pod)
	for _, v := range variants[:3] {
		for family, at := range s.families() {
			t.Run(v.name+"/"+family, func(t *testing.T) {
				want := s.want(t, v.text, "direction: both, snapLength: 96")
				copies := s.watch(add(t, p, ownerOf("c1"), want), want)
				defer copies.Stop()
				original := s.pod.Capture("eth0")
				defer original.Stop()
				inPod, atPeer := s.pod.UDP("[::]:5000"), s.peer.UDP("[::]:5000")
				defer inPod.Close()
				defer atPeer.Close()
				const count = 200
				for _, size := range []int{10, 64, 1300} {
					_, there := lab.Flow(t, inPod, atPeer, fmt.Sprintf("[%s]:5000", mapped(at[1])), count, size, never)
					_, back := lab.Flow(t, atPeer, inPod, fmt.Sprintf("[%s]:5000", mapped(at[0])), count, size, never)
					if there != count || back != count {
						t.Errorf("of %d datagrams of %d bytes %d and %d arrived", count, size, there, back)
					}
				}
				sent, _ := kept(original.Settle(6*count), 0)
				got, cut := kept(copies.Settle(6*count), snap)
				if !maps.Equal(sent, got) || len(sent) < 5*count {
					t.Errorf("%d kinds of datagrams were sent, and their copies are not their first bytes: there are %d kinds", len(sent), len(got))
				}
				if is := only(t, node); is.Trimmed == nil || is.Trimmed.Cut != cut || is.Trimmed.Segments != 0 || is.Trimmed.Lost != 0 || cut.Packets < 4*count {
					t.Errorf("trimmed is %+v; want %+v cut", is.Trimmed, cut)
				}
				remove(t, p, ownerOf("c1"))
			})
		}
	}
}

// never has a flow go on until all is sent.
func never() bool { return false }

// kept counts datagrams by their first bytes. Of frames that were cut it tells what they
// have lost, as IP's length says, whatever else they are.
func kept(frames []lab.Frame, most int) (map[string]int, Amount) {
	kinds, cut := map[string]int{}, Amount{}
	for _, f := range frames {
		if destinationPort(f) == 5000 {
			kinds[withoutSum(f)]++
		}
		length := 0
		switch ip := decode(f).NetworkLayer().(type) {
		case *layers.IPv4:
			length = ethernetHeader + int(ip.Length)
		case *layers.IPv6:
			length = ethernetHeader + 40 + int(ip.Length)
		}
		if length > most && len(f.Data) == most {
			cut.Packets++
			cut.Bytes += uint64(length - most)
		}
	}
	return kinds, cut
}

// withoutSum is what is kept of a UDP frame, without UDP's checksum, which the kernel may
// fill in later.
func withoutSum(f lab.Frame) string {
	b := bytes.Clone(f.Data[:min(len(f.Data), snap)])
	at := 14 + 20 + 6
	if b[12] == 0x86 { // IPv6
		at = 14 + 40 + 6
	}
	b[at], b[at+1] = 0, 0
	return string(b)
}

// A tag that the kernel carries beside the bytes counts as they do.
func TestATaggedFrameIsCutWithItsTag(t *testing.T) {
	needsEBPF(t)
	s := newScene(t, 1430, 1500)
	_, p := open(t, s.node, s.pod)
	for _, v := range variants[:3] {
		t.Run(v.name, func(t *testing.T) {
			want := s.want(t, v.text, "direction: both, snapLength: 96")
			copies := s.watch(add(t, p, ownerOf("c1"), want), want)
			defer copies.Stop()
			out, in := tagged(t, 100, "out "+strings.Repeat("o", 200)), tagged(t, 200, "in "+strings.Repeat("i", 200))
			short := tagged(t, 300, "short") // 78 bytes
			inject(t, s.pod.Space, "eth0", [][]byte{out, short})
			inject(t, s.node.Space, "pod1", [][]byte{in, short})
			got := map[string]int{}
			for _, f := range onlyFrom(copies.Settle(4), attacker) {
				if len(f.Data) > snap {
					t.Errorf("a copy has %d bytes", len(f.Data))
				}
				got[string(f.Data)]++
			}
			if want.VXLAN != nil && (got[string(out[:snap])] != 1 || got[string(in[:snap])] != 1 || got[string(short)] != 2) {
				t.Errorf("the copies are %x", slices.Collect(maps.Keys(got)))
			}
			remove(t, p, ownerOf("c1"))
		})
	}
}

// The shortest cut ends before the checksum of TCP over IPv6, which the pod leaves to a card.
func TestTheShortestCutIsExact(t *testing.T) {
	needsEBPF(t)
	s := newScene(t, 1430, 1500)
	_, p := open(t, s.node, s.pod)
	for _, v := range variants[:3] {
		t.Run(v.name, func(t *testing.T) {
			want := s.want(t, v.text, "direction: both, snapLength: 64")
			copies := s.watch(add(t, p, ownerOf("c1"), want), want)
			defer copies.Stop()
			const size = 100_000
			for _, to := range []string{s.peer.IPv4, s.peer.IPv6} {
				if n := lab.Stream(t, s.pod.Space, s.peer.Space, to, size); n != size {
					t.Errorf("%d of %d bytes came back", n, size)
				}
			}
			longest := map[string]int{}
			for _, f := range copies.Settle(1) {
				family := decode(f).NetworkLayer()
				if family != nil {
					longest[family.LayerType().String()] = max(longest[family.LayerType().String()], len(f.Data))
				}
			}
			if longest["IPv4"] != 64 || longest["IPv6"] != 64 {
				t.Errorf("the longest copies have %v bytes", longest)
			}
			remove(t, p, ownerOf("c1"))
		})
	}
}
