package mirror

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"testing"

	"github.com/gopacket/gopacket/layers"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/internal/lab"
)

// QUIC's senders hand the kernel many datagrams at once. The copies are the datagrams, each
// whole where it fits, over a path that is no wider than the pod's own.
func TestDatagramsThatAreSentAtOnceAreCopiedOneByOne(t *testing.T) {
	needsEBPF(t)
	s := newScene(t, 1500, 1500)
	node, p := open(t, s.node, s.pod)
	for _, v := range variants[1:3] {
		for _, c := range []struct {
			more         string
			size, atOnce int
		}{{"direction: both", 1200, 10}, {"direction: both", 1472, 40}, {"direction: both, snapLength: 200", 1200, 10}} {
			t.Run(fmt.Sprintf("%s/%s/%d bytes", v.name, c.more, c.size), func(t *testing.T) {
				want := s.want(t, v.text, c.more)
				copies := s.watch(add(t, p, ownerOf("c1"), want), want)
				defer copies.Stop()
				healthy(t, p, ownerOf("c1"), want)
				outer, original := s.collector.Capture("eth0"), s.pod.Capture("eth0")
				defer outer.Stop()
				defer original.Stop()
				const count = 400
				s.atOnce(t, count, c.size, c.atOnce)
				length := 14 + 20 + 8 + c.size
				most := min(length, 1500-overhead(want.VXLAN)+ethernetHeader)
				if want.SnapLength > 0 {
					most = int(want.SnapLength)
				}
				for direction, n := range payloads(t, copies.Settle(2*count), c.size, most) {
					for i := range count {
						if n[i] != 1 {
							t.Fatalf("%s: of the datagram %d there are %d copies", direction, i, n[i])
						}
					}
				}
				longest := 0
				for _, f := range original.Frames() {
					longest = max(longest, len(f.Data))
				}
				if longest < 3000 {
					t.Errorf("the longest packet had %d bytes, and shows nothing", longest)
				}
				noFragments(t, outer.Frames())
				s.noPathMTU(t)
				cut := Amount{}
				if length > most {
					cut = Amount{Packets: 2 * count, Bytes: 2 * count * uint64(length-most)}
				}
				if is := only(t, node); is.Trimmed == nil || is.Trimmed.Cut != cut || is.Trimmed.Segments != 0 || is.Trimmed.Lost != 0 {
					t.Errorf("trimmed is %+v; want %+v cut", is.Trimmed, cut)
				}
				remove(t, p, ownerOf("c1"))
			})
		}
	}
}

// atOnce has the pod and its peer send each other datagrams, many at once.
func (s *scene) atOnce(t *testing.T, count, size, atOnce int) {
	t.Helper()
	inPod, atPeer := s.pod.UDP("[::]:5000"), s.peer.UDP("[::]:5000")
	defer inPod.Close()
	defer atPeer.Close()
	there := lab.BurstOfSegments(t, inPod, atPeer, fmt.Sprintf("[%s]:5000", mapped(s.peer.IPv4)), count, size, atOnce)
	back := lab.BurstOfSegments(t, atPeer, inPod, fmt.Sprintf("[%s]:5000", mapped(s.pod.IPv4)), count, size, atOnce)
	if there != count || back != count {
		t.Errorf("of %d datagrams %d and %d arrived", count, there, back)
	}
}

// payloads counts the datagrams of Payload among copies, by their source and number. Each
// has the bytes that it was sent with, up to the most that a frame may have, and its length.
func payloads(t *testing.T, frames []lab.Frame, size, most int) map[string]map[int]int {
	t.Helper()
	out := map[string]map[int]int{}
	for _, f := range frames {
		p := decode(f)
		udp, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
		if !ok || udp.DstPort != 5000 {
			continue
		}
		ip := p.NetworkLayer().(*layers.IPv4)
		n := int(binary.BigEndian.Uint32(udp.Payload))
		if len(f.Data) != most || int(ip.Length) != 28+size || int(udp.Length) != 8+size || onesSum(ip.Contents) != 0xffff ||
			!bytes.Equal(udp.Payload, lab.Payload(n, size)[:most-42]) {
			t.Fatalf("of the datagram %d the copy has %d bytes, IP's length is %d, and UDP's is %d", n, len(f.Data), ip.Length, udp.Length)
		}
		from := ip.SrcIP.String()
		if out[from] == nil {
			out[from] = map[int]int{}
		}
		out[from][n]++
	}
	if len(out) != 2 {
		t.Errorf("there are copies of %d directions", len(out))
	}
	return out
}

func noFragments(t *testing.T, frames []lab.Frame) {
	t.Helper()
	for _, f := range frames {
		if isFragment(f) {
			t.Fatalf("there is a fragment: %x", f.Data)
		}
	}
}

// A pod may have a tunnel of its own, and its kernel leaves TCP in that whole too. No segment of
// it is too long, and the pod's stream does not suffer. What comes one by one is cut, or goes on
// whole where the kernel refuses that.
func TestSuperPacketsInThePodsOwnTunnelFit(t *testing.T) {
	needsEBPF(t)
	s := newScene(t, 1500, 1500)
	node, p := open(t, s.node, s.pod)
	s.tunnel(t, "198.19.0.1", "198.19.0.2")
	s.node.Offloads("eth0", false, "tx-checksum-ip-generic") // checksums are filled in
	for _, v := range variants[1:3] {
		t.Run(v.name, func(t *testing.T) {
			want := s.want(t, v.text, "direction: both")
			copies := s.watch(add(t, p, ownerOf("c1"), want), want)
			defer copies.Stop()
			original := s.pod.Capture("eth0")
			defer original.Stop()
			const size = 300_000
			if n := lab.Stream(t, s.pod.Space, s.peer.Space, "198.19.0.2", size); n != size {
				t.Errorf("%d of %d bytes came back", n, size)
			}
			frames, copiedFrames := original.Settle(1), copies.Settle(1)
			sent, longest := tunnelled(t, frames, false)
			copied, _ := tunnelled(t, copiedFrames, true)
			if longest < 3000 || len(sent) != 2 {
				t.Errorf("%d directions with packets of up to %d bytes show nothing", len(sent), longest)
			}
			most := 1500 - overhead(want.VXLAN) + ethernetHeader
			if whole, single := between(copiedFrames, most, 1514), between(frames, most, 1514); whole > single {
				t.Errorf("%d copies do not fit, of %d packets that came one by one", whole, single)
			}
			wrong, missing := 0, 0
			for from, bytes := range sent {
				if len(bytes) < size {
					t.Errorf("%s sent %d bytes", from, len(bytes))
				}
				for at, b := range bytes {
					if c, there := copied[from][at]; !there {
						missing++
					} else if b != c {
						wrong++
					}
				}
			}
			// What came one by one is no TCP to podtap, and was cut; or over IPv6 the sender lost it.
			is, lost := only(t, node), listOf(t, node).Senders[0].Dropped[DropOther].Packets
			if wrong > 0 || is.Trimmed == nil || missing > int(is.Trimmed.Cut.Bytes+1514*lost) || is.Trimmed.Segments == 0 || is.Trimmed.Lost != 0 {
				t.Errorf("%d bytes are missing and %d are others; trimmed is %+v", missing, wrong, is.Trimmed)
			}
			t.Logf("%d bytes are missing; trimmed is %+v", missing, is.Trimmed)
			s.noPathMTU(t)
			remove(t, p, ownerOf("c1"))
		})
	}
}

// between counts the frames that are longer than one length, and not longer than another.
func between(frames []lab.Frame, least, most int) (n int) {
	for _, f := range frames {
		if len(f.Data) > least && len(f.Data) <= most {
			n++
		}
	}
	return n
}

// tunnel makes a VXLAN device in the pod and one in its peer, each with an address.
func (s *scene) tunnel(t *testing.T, inPod, atPeer string) {
	t.Helper()
	const port = 4790
	for _, end := range []struct {
		*lab.Pod
		address string
		other   *lab.Pod
	}{{s.pod, inPod, s.peer}, {s.peer, atPeer, s.pod}} {
		end.VXLAN("tunnel0", 5, port)
		end.MTU("tunnel0", 1450)
		// To whomever it does not know yet it sends to the other end.
		err := end.Netlink.NeighAppend(&netlink.Neigh{LinkIndex: end.Link("tunnel0").Attrs().Index, Family: unix.AF_BRIDGE, State: netlink.NUD_PERMANENT,
			Flags: netlink.NTF_SELF, HardwareAddr: make(net.HardwareAddr, 6), IP: net.ParseIP(end.other.IPv4)})
		if err != nil {
			t.Fatal(err)
		}
		end.Address("tunnel0", end.address+"/24")
	}
}

// tunnelled are the bytes of TCP in the tunnel's packets, by sender and sequence number, and
// the longest of those packets. A packet that was not cut is sound.
func tunnelled(t *testing.T, frames []lab.Frame, verify bool) (bytes map[string]map[uint32]byte, longest int) {
	t.Helper()
	bytes = map[string]map[uint32]byte{}
	for _, f := range frames {
		udp, ok := decode(f).Layer(layers.LayerTypeUDP).(*layers.UDP)
		if !ok || udp.DstPort != 4790 || len(udp.Payload) < 8 {
			continue
		}
		longest = max(longest, len(f.Data))
		inner := decode(lab.Frame{Data: udp.Payload[8:]})
		tcp, ok := inner.Layer(layers.LayerTypeTCP).(*layers.TCP)
		if !ok {
			continue
		}
		if verify && !inner.Metadata().Truncated && (int(udp.Length) != 8+len(udp.Payload) || !soundTCP(inner, tcp)) {
			t.Fatalf("a copy is unsound: %x", f.Data)
		}
		from := inner.NetworkLayer().NetworkFlow().Src().String()
		if bytes[from] == nil {
			bytes[from] = map[uint32]byte{}
		}
		for i, b := range tcp.Payload {
			bytes[from][tcp.Seq+uint32(i)] = b
		}
	}
	return bytes, longest
}
