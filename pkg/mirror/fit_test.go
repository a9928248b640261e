package mirror

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/podtap/podtap/internal/lab"
)

// A pod with the underlay's own MTU, which VXLAN's overhead takes over it: every byte of
// TCP arrives, in segments that fit, with right checksums, and no packet is fragmented.
func TestEveryByteOfTCPArrivesWithoutFragments(t *testing.T) {
	needsEBPF(t)
	segmentation := []string{"tx-tcp-segmentation", "tx-tcp6-segmentation", "tx-tcp-ecn-segmentation"}
	for _, v := range variants[1:3] {
		for _, offloads := range []string{"on", "off", "off, with checksums"} {
			t.Run(v.name+"/offloads "+offloads, func(t *testing.T) {
				s := newScene(t, 1500, 1500)
				node, p := open(t, s.node, s.pod)
				// The underlay's card fills in the checksums: what arrives can be verified.
				s.node.Offloads("eth0", false, "tx-checksum-ip-generic")
				if offloads != "on" {
					s.pod.Offloads("eth0", false, segmentation...)
					s.peer.Offloads("eth0", false, segmentation...)
				}
				if offloads == "off, with checksums" {
					s.pod.Offloads("eth0", false, "tx-checksum-ip-generic")
					s.peer.Offloads("eth0", false, "tx-checksum-ip-generic")
				}
				want := s.want(t, v.text, "direction: both")
				made := add(t, p, ownerOf("c1"), want)
				if len(made.Warnings) != 0 {
					t.Errorf("warnings: %q", made.Warnings)
				}
				healthy(t, p, ownerOf("c1"), want)
				original, outer, copies := s.pod.Capture("eth0"), s.collector.Capture("eth0"), s.watch(made, want)
				const size = 300_000
				for _, to := range []string{s.peer.IPv4, s.peer.IPv6} {
					if n := lab.Stream(t, s.pod.Space, s.peer.Space, to, size); n != size {
						t.Fatalf("%d of %d bytes came back", n, size)
					}
				}
				sent, longest := streams(t, original.Settle(1), false)
				copied, longestCopy := streams(t, copies.Settle(1), true)
				sameStreams(t, sent, copied)
				if longest < 1500 || offloads == "on" && longest < 3000 {
					t.Errorf("the longest packet had %d bytes, and shows nothing", longest)
				}
				if most := 1500 - overhead(want.VXLAN) + ethernetHeader; longestCopy > most {
					t.Errorf("a copy has %d bytes, more than the %d that fit", longestCopy, most)
				}
				for _, f := range outer.Frames() {
					if isFragment(f) {
						t.Fatalf("there is a fragment: %x", f.Data)
					}
				}
				s.noPathMTU(t)
				is := only(t, node)
				if is.Trimmed == nil || is.Trimmed.Cut.Packets != 0 || is.Trimmed.Segments == 0 || is.Trimmed.Lost != 0 {
					t.Errorf("trimmed is %+v", is.Trimmed)
				}
				remove(t, p, ownerOf("c1"))
			})
		}
	}
}

// streams are the bytes of each direction of each TCP connection, by sequence number, and
// the length of the longest frame.
func streams(t *testing.T, frames []lab.Frame, verify bool) (map[string]map[uint32]byte, int) {
	t.Helper()
	out, longest, wrong := map[string]map[uint32]byte{}, 0, 0
	for _, f := range frames {
		packet := decode(f)
		tcp, ok := packet.Layer(layers.LayerTypeTCP).(*layers.TCP)
		if !ok {
			continue
		}
		longest = max(longest, len(f.Data))
		if verify && !soundTCP(packet, tcp) {
			wrong++
		}
		key := fmt.Sprint(packet.NetworkLayer().NetworkFlow(), tcp.TransportFlow())
		if out[key] == nil {
			out[key] = map[uint32]byte{}
		}
		for i, b := range tcp.Payload {
			out[key][tcp.Seq+uint32(i)] = b
		}
		if tcp.FIN {
			out[key][tcp.Seq+uint32(len(tcp.Payload))] = 0xff
		}
	}
	if wrong > 0 {
		t.Errorf("%d frames have wrong lengths or checksums", wrong)
	}
	return out, longest
}

// soundTCP says whether a packet's lengths and checksums are right.
func soundTCP(packet gopacket.Packet, tcp *layers.TCP) bool {
	segment := len(tcp.Contents) + len(tcp.Payload)
	switch ip := packet.NetworkLayer().(type) {
	case *layers.IPv4:
		if int(ip.Length) != int(ip.IHL)*4+segment || onesSum(ip.Contents) != 0xffff {
			return false
		}
	case *layers.IPv6:
		if int(ip.Length) != segment {
			return false
		}
	}
	pseudo := append(append([]byte(nil), packet.NetworkLayer().NetworkFlow().Src().Raw()...), packet.NetworkLayer().NetworkFlow().Dst().Raw()...)
	pseudo = append(pseudo, 0, 6, byte(segment>>8), byte(segment))
	return onesSum(append(append(pseudo, tcp.Contents...), tcp.Payload...)) == 0xffff
}

// onesSum is the Internet's checksum of some bytes, not yet complemented.
func onesSum(b []byte) uint32 {
	var sum uint32
	for i, v := range b {
		if i%2 == 0 {
			sum += uint32(v) << 8
		} else {
			sum += uint32(v)
		}
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return sum
}

func sameStreams(t *testing.T, sent, copied map[string]map[uint32]byte) {
	t.Helper()
	total := 0
	for key, bytes := range sent {
		missing, wrong := 0, 0
		for at, b := range bytes {
			if c, there := copied[key][at]; !there {
				missing++
			} else if b != c {
				wrong++
			}
		}
		if total += len(bytes); missing+wrong > 0 || len(copied[key]) != len(bytes) {
			t.Errorf("%s: of %d bytes %d are missing and %d are others; copied were %d", key, len(bytes), missing, wrong, len(copied[key]))
		}
	}
	if total < 1_200_000 {
		t.Errorf("%d bytes were sent, and show nothing", total)
	}
}

// isFragment says whether a frame is an IP fragment.
func isFragment(f lab.Frame) bool {
	p := decode(f)
	ip, ok := p.NetworkLayer().(*layers.IPv4)
	return ok && (ip.FragOffset > 0 || ip.Flags&layers.IPv4MoreFragments != 0) || p.Layer(layers.LayerTypeIPv6Fragment) != nil
}

// noPathMTU fails where anybody has learned a path's MTU.
func (s *scene) noPathMTU(t *testing.T) {
	t.Helper()
	for _, to := range []struct {
		from *lab.Space
		ip   string
	}{
		{s.pod.Space, s.peer.IPv4}, {s.pod.Space, s.peer.IPv6}, {s.node.Space, s.collector.IPv4()}, {s.node.Space, s.collector.IPv6()},
		{s.node.Space, s.pod.IPv4}, {s.node.Space, s.pod.IPv6}, {s.node.Space, s.peer.IPv6}, {s.peer.Space, s.pod.IPv6}, {s.peer.Space, s.pod.IPv4},
	} {
		if mtu := learnedMTU(t, to.from, to.ip); mtu != 0 {
			t.Errorf("%s has learned a path MTU of %d to %s", to.from.Name, mtu, to.ip)
		}
	}
}

// Datagrams that do not fit are cut to the path, and counted; their IP length stands.
func TestDatagramsThatDoNotFitAreCutAndCounted(t *testing.T) {
	needsEBPF(t)
	for _, v := range variants[1:3] {
		t.Run(v.name, func(t *testing.T) {
			s := newScene(t, 1500, 1500)
			node, p := open(t, s.node, s.pod)
			want := s.want(t, v.text, "direction: both")
			copies := s.watch(add(t, p, ownerOf("c1"), want), want)
			outer := s.collector.Capture("eth0")
			inPod, atPeer := s.pod.UDP("[::]:5000"), s.peer.UDP("[::]:5000")
			const count, size = 200, 1472
			lab.Burst(t, inPod, atPeer, fmt.Sprintf("[%s]:5000", mapped(s.peer.IPv4)), count, size, copies)
			lab.Burst(t, atPeer, inPod, fmt.Sprintf("[%s]:5000", mapped(s.pod.IPv4)), count, size, copies)
			most, found := 1500-overhead(want.VXLAN)+ethernetHeader, 0
			for _, f := range copies.Settle(2 * count) {
				p := decode(f)
				if ip, ok := p.NetworkLayer().(*layers.IPv4); ok && ip.Protocol == layers.IPProtocolUDP && bytes.Contains(f.Data, lab.Payload(found%count, size)[:100]) {
					found++
					if len(f.Data) != most || ip.Length != 1500 {
						t.Fatalf("a copy has %d bytes, and IP says %d; want %d and 1500", len(f.Data), ip.Length, most)
					}
				}
			}
			for _, f := range outer.Frames() {
				if isFragment(f) {
					t.Fatalf("there is a fragment: %x", f.Data)
				}
			}
			is := only(t, node)
			if found != 2*count || is.Trimmed == nil || is.Trimmed.Cut.Packets != 2*count || is.Trimmed.Cut.Bytes != 2*count*uint64(1514-most) {
				t.Errorf("%d copies of %d; trimmed is %+v", found, 2*count, is.Trimmed)
			}
			remove(t, p, ownerOf("c1"))
		})
	}
}
