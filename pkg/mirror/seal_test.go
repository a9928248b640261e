package mirror

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/tap"
)

// attacker is the source of every forged frame.
var attacker = net.HardwareAddr{2, 0, 0, 0, 0, 66}

// forged are frames that an attacker would send: to each MAC address, an echo
// request and a UDP datagram to each target over IPv4 and IPv6, and an ARP request.
func forged(t *testing.T, macs []net.HardwareAddr, targets ...string) [][]byte {
	t.Helper()
	var frames [][]byte
	source := attacker
	build := func(list ...gopacket.SerializableLayer) {
		b := gopacket.NewSerializeBuffer()
		if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, list...); err != nil {
			t.Fatal(err)
		}
		frames = append(frames, append([]byte(nil), b.Bytes()...))
	}
	for _, mac := range macs {
		for _, target := range targets {
			ip := net.ParseIP(target)
			udp := &layers.UDP{SrcPort: 6666, DstPort: 6666}
			if v4 := ip.To4(); v4 != nil {
				eth := &layers.Ethernet{SrcMAC: source, DstMAC: mac, EthernetType: layers.EthernetTypeIPv4}
				head := layers.IPv4{Version: 4, TTL: 64, SrcIP: net.ParseIP("198.18.0.66").To4(), DstIP: v4}
				icmp, datagram := head, head
				icmp.Protocol, datagram.Protocol = layers.IPProtocolICMPv4, layers.IPProtocolUDP
				build(eth, &icmp, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 66}, gopacket.Payload("forged"))
				_ = udp.SetNetworkLayerForChecksum(&datagram)
				build(eth, &datagram, udp, gopacket.Payload("forged"))
				build(&layers.Ethernet{SrcMAC: source, DstMAC: mac, EthernetType: layers.EthernetTypeARP},
					&layers.ARP{AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: layers.ARPRequest,
						SourceHwAddress: source, SourceProtAddress: net.ParseIP("198.18.0.66").To4(), DstHwAddress: make([]byte, 6), DstProtAddress: v4})
				continue
			}
			eth := &layers.Ethernet{SrcMAC: source, DstMAC: mac, EthernetType: layers.EthernetTypeIPv6}
			head := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolUDP, SrcIP: net.ParseIP("fd00:18::66"), DstIP: ip}
			_ = udp.SetNetworkLayerForChecksum(head)
			build(eth, head, udp, gopacket.Payload("forged"))
		}
	}
	return frames
}

// inject sends frames out of a device, past everything but the device itself.
func inject(t *testing.T, s *lab.Space, device string, frames [][]byte) {
	t.Helper()
	index := s.Link(device).Attrs().Index
	s.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for _, f := range frames {
			if err := unix.Sendto(fd, f, 0, &unix.SockaddrLinklayer{Ifindex: index}); err != nil {
				return err
			}
		}
		return nil
	})
}

// isForged tells an attacker's frames and the answers to them.
func isForged(f lab.Frame) bool {
	p := decode(f)
	if p.Layer(layers.LayerTypeVXLAN) != nil {
		return false // on its way to the collector
	}
	if a, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP); ok {
		return net.IP(a.SourceProtAddress).String() == "198.18.0.66" || net.IP(a.DstProtAddress).String() == "198.18.0.66"
	}
	n := p.NetworkLayer()
	if n == nil {
		return false
	}
	from, to := n.NetworkFlow().Endpoints()
	for _, e := range []gopacket.Endpoint{from, to} {
		if e.String() == "198.18.0.66" || e.String() == "fd00:18::66" {
			return true
		}
	}
	return false
}

// expectNone fails where one of the captures has seen an attacker's frame.
func expectNone(t *testing.T, captures map[string]*lab.Capture) {
	t.Helper()
	time.Sleep(300 * time.Millisecond)
	for where, c := range captures {
		for _, f := range c.Frames() {
			if isForged(f) {
				t.Errorf("%s: %s", where, decode(f))
				break
			}
		}
	}
}

// allMACs are addresses that somebody could take for his own.
func (s *scene) allMACs(t *testing.T, devices ...net.HardwareAddr) []net.HardwareAddr {
	t.Helper()
	macs := append(devices, net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1})
	for _, l := range []netlink.Link{s.pod.Link("eth0"), s.node.Link("cni0"), s.node.Link("eth0")} {
		macs = append(macs, l.Attrs().HardwareAddr)
	}
	return macs
}

func TestWhatIsSentToATapsPortReachesNobody(t *testing.T) {
	for _, v := range variants[1:] {
		t.Run(v.name, func(t *testing.T) {
			s := newScene(t, 1450, 1500)
			victim := s.node.Pod("victim", 1450)
			_, p := open(t, s.node, s.pod)
			want := s.want(t, v.text, "direction: both")
			made := add(t, p, ownerOf("c1"), want)
			device, in := netlink.Link(nil), s.pod.Space
			if want.VXLAN.Placement == tap.PlacementNode {
				in = s.node.Space
				device = in.Link(s.relay())
			} else {
				device = in.Link(made.Device.Name)
			}
			id := device.(*netlink.Vxlan).VxlanId
			macs := s.allMACs(t, device.Attrs().HardwareAddr, s.pod.Link("mirror").Attrs().HardwareAddr)
			captures := map[string]*lab.Capture{
				"the pod's eth0": s.pod.Capture("eth0"), "another pod's eth0": victim.Capture("eth0"),
				"the node's bridge": s.node.Capture("cni0"), "the node's loopback": s.node.Capture("lo"),
			}
			arrived := in.Capture(device.Attrs().Name)
			sockets := map[string]*net.UDPConn{"the pod": s.pod.UDP("[::]:6666"), "the node": s.node.UDP("[::]:6666"), "another pod": victim.UDP("[::]:6666")}
			target := s.node.IPv4()
			if want.VXLAN.Remote.Is6() {
				target = s.node.IPv6()
			}
			frames := forged(t, macs, s.pod.IPv4, s.pod.IPv6, s.node.IPv4(), s.node.IPv6(), victim.IPv4, victim.IPv6)
			from := s.collector.UDP("[::]:0")
			for _, f := range frames {
				packet := binary.BigEndian.AppendUint32([]byte{8, 0, 0, 0}, uint32(id)<<8)
				if _, err := from.WriteTo(append(packet, f...), &net.UDPAddr{IP: net.ParseIP(target), Port: device.(*netlink.Vxlan).Port}); err != nil {
					t.Fatal(err)
				}
			}
			if n := len(arrived.Settle(len(frames))); n < len(frames) {
				t.Fatalf("only %d of %d forged frames reached the device, so the seal was not tried", n, len(frames))
			}
			// What the node itself got is the outer packet, which is not forged.
			expectNone(t, captures)
			expectNoDatagram(t, sockets)
		})
	}
}

func expectNoDatagram(t *testing.T, sockets map[string]*net.UDPConn) {
	t.Helper()
	b := make([]byte, 100)
	for who, conn := range sockets {
		_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		if n, _, err := conn.ReadFrom(b); err == nil {
			t.Errorf("%s received %q", who, b[:n])
		}
	}
}

func TestWhatThePodWritesIntoItsMirrorGoesOnlyWhereCopiesGo(t *testing.T) {
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			s := newScene(t, 1450, 1500)
			victim := s.node.Pod("victim", 1450)
			_, p := open(t, s.node, s.pod)
			want := s.want(t, v.text, "direction: both")
			made := add(t, p, ownerOf("c1"), want)
			sink := s.watch(made, want)
			devices := []net.HardwareAddr{s.pod.Link("mirror").Attrs().HardwareAddr}
			captures := map[string]*lab.Capture{
				"the pod's eth0": s.pod.Capture("eth0"), "another pod's eth0": victim.Capture("eth0"),
				"the node's bridge": s.node.Capture("cni0"), "the node's eth0": s.node.Capture("eth0"), "the node's loopback": s.node.Capture("lo"),
			}
			if made.Host != nil {
				devices = append(devices, s.node.Link(made.Host.Name).Attrs().HardwareAddr)
			}
			sockets := map[string]*net.UDPConn{"the node": s.node.UDP("[::]:6666"), "another pod": victim.UDP("[::]:6666")}
			back := s.pod.Capture("mirror")
			frames := forged(t, s.allMACs(t, devices...), s.node.IPv4(), s.node.IPv6(), victim.IPv4, victim.IPv6, s.peer.IPv4)
			inject(t, s.pod.Space, "mirror", frames)
			if n := len(onlyFrom(sink.Settle(len(frames)), attacker)); n != len(frames) {
				t.Errorf("the sink got %d of %d frames", n, len(frames))
			}
			expectNone(t, captures)
			expectNoDatagram(t, sockets)
			for _, f := range back.Frames() {
				if !f.Outgoing {
					t.Errorf("came back to the pod: %s", decode(f))
				}
			}
		})
	}
}

func TestNothingSentIntoAMirrorFromTheNodeReachesThePod(t *testing.T) {
	s := newScene(t, 1450, 1500)
	_, p := open(t, s.node, s.pod)
	for _, v := range variants[:2] {
		t.Run(v.name, func(t *testing.T) {
			want := s.want(t, v.text, "direction: both")
			made := add(t, p, ownerOf("c1"), want)
			conn := s.pod.UDP("[::]:6666")
			defer conn.Close()
			answers := s.node.Capture(made.Host.Name)
			out := s.pod.Capture("eth0")
			inject(t, s.node.Space, made.Host.Name, forged(t, s.allMACs(t, s.pod.Link("mirror").Attrs().HardwareAddr), s.pod.IPv4, s.pod.IPv6))
			expectNoDatagram(t, map[string]*net.UDPConn{"the pod": conn})
			expectNone(t, map[string]*lab.Capture{"the pod's eth0": out})
			mine := s.pod.Link("mirror").Attrs().HardwareAddr
			for _, f := range answers.Frames() {
				if bytes.Equal(f.SourceMAC(), mine) || bytes.HasPrefix(f.Data, attacker) {
					t.Errorf("answered by the pod: %s", decode(f))
				}
			}
			remove(t, p, ownerOf("c1"))
		})
	}
}

// The pod's neighbours must not get a second answer to an ARP request that the
// tap has copied.
func TestACopiedARPRequestIsNotAnswered(t *testing.T) {
	s := newScene(t, 1450, 1500)
	_, p := open(t, s.node, s.pod)
	made := add(t, p, ownerOf("c1"), s.want(t, variants[0].text, "direction: both"))
	host, eth0 := s.node.Capture(made.Host.Name), s.pod.Capture("eth0")
	gateway := fmt.Sprintf("198.18.%d.1", 101)
	if err := s.pod.Netlink.NeighDel(neighbour(t, s.pod, gateway)); err != nil {
		t.Logf("no neighbour entry to forget: %v", err)
	}
	s.pod.Ping(gateway, 1)
	requests := func(frames []lab.Frame, operation uint16) (n int) {
		for _, f := range frames {
			if a, ok := decode(f).Layer(layers.LayerTypeARP).(*layers.ARP); ok && a.Operation == operation {
				n++
			}
		}
		return n
	}
	if asked, answered := requests(eth0.Settle(4), layers.ARPRequest), requests(eth0.Frames(), layers.ARPReply); asked != answered || asked == 0 {
		t.Errorf("%d ARP requests on eth0 and %d answers", asked, answered)
	}
	for _, f := range host.Settle(4) {
		if f.Outgoing {
			t.Errorf("the node sent into the mirror: %s", decode(f))
		}
	}
}

func neighbour(t *testing.T, p *lab.Pod, ip string) *netlink.Neigh {
	t.Helper()
	return &netlink.Neigh{LinkIndex: p.Link("eth0").Attrs().Index, IP: net.ParseIP(ip)}
}
