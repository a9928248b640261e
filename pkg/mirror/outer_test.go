package mirror

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/gopacket/gopacket/layers"
	"github.com/vishvananda/netlink"

	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/tap"
)

// The outer packet as it is on the wire: what a tap's text says of it, and the
// source port by which every tap knows a copy.
func TestTheOuterPacketIsAsTheTapSays(t *testing.T) {
	s := newScene(t, 1450, 1500)
	_, p := open(t, s.node, s.pod)
	for _, v := range variants[1:] {
		t.Run(v.name, func(t *testing.T) {
			want := s.want(t, v.text, "direction: both")
			want.VXLAN.VNI, want.VXLAN.Port, want.VXLAN.TTL = 0xabcdef, 14000, 7
			add(t, p, ownerOf("c1"), want)
			defer s.collector.Collect("[::]:14000").Stop()
			wire := s.collector.Capture("eth0")
			defer wire.Stop()
			s.pod.Ping(s.peer.IPv4, 3)
			seen := 0
			for _, f := range wire.Settle(6) {
				d := decode(f)
				udp, ok := d.Layer(layers.LayerTypeUDP).(*layers.UDP)
				if !ok || udp.DstPort != 14000 {
					continue
				}
				seen++
				ttl := uint8(0)
				switch ip := d.NetworkLayer().(type) {
				case *layers.IPv4:
					ttl = ip.TTL
				case *layers.IPv6:
					ttl = ip.HopLimit
				}
				if vni := binary.BigEndian.Uint32(udp.Payload[4:]) >> 8; ttl != 7 || vni != 0xabcdef || udp.SrcPort < 0xff00 {
					t.Errorf("a copy has TTL %d, VNI %#x and source port %d", ttl, vni, udp.SrcPort)
				}
			}
			if seen < 6 {
				t.Errorf("%d copies were seen; want 3 requests and 3 replies", seen)
			}
			remove(t, p, ownerOf("c1"))
		})
	}
}

func TestTapsWithDifferentTTLsShareNoRelay(t *testing.T) {
	s := newScene(t, 1450, 1500)
	_, p := open(t, s.node, s.pod)
	before := track(t, s.node.Space, s.pod.Space)
	var taps []tap.Tap
	for i, ttl := range []int{7, 9} {
		want := parse(t, "{device: d%d, vxlan: {vni: 1, remote: %s, ttl: %d}}", i, s.collector.IPv4(), ttl)
		add(t, p, ownerOf("c1"), want)
		taps = append(taps, want)
	}
	healthy(t, p, ownerOf("c1"), taps...)
	ttls := map[int]bool{}
	links, err := s.node.Netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if v, ok := l.(*netlink.Vxlan); ok {
			ttls[v.TTL] = true
		}
	}
	if len(ttls) != 2 || !ttls[7] || !ttls[9] {
		t.Errorf("the relays' TTLs are %v", ttls)
	}
	remove(t, p, ownerOf("c1"))
	before.unchanged("after Remove")
}

// A collector, or the cluster's network, may start on the node after the taps.
func TestTapsTakeNobodysUDPPort(t *testing.T) {
	s := newScene(t, 1450, 1500)
	_, p := open(t, s.node, s.pod)
	for i, v := range variants[1:] {
		add(t, p, ownerOf("c1"), s.want(t, v.text, fmt.Sprintf("device: d%d", i)))
	}
	for _, port := range []int{4789, 8472} {
		for _, address := range []string{"0.0.0.0", "[::]"} {
			s.node.UDP(fmt.Sprintf("%s:%d", address, port)).Close()
		}
	}
}

// What somebody sends to a VXLAN device's own port must not teach it that the
// pod's neighbours are behind him.
func TestNobodyDrawsCopiesToHimself(t *testing.T) {
	for _, v := range variants[1:] {
		t.Run(v.name, func(t *testing.T) {
			s := newScene(t, 1450, 1500)
			thief := s.network.Host("thief")
			_, p := open(t, s.node, s.pod)
			want := s.want(t, v.text, "direction: both")
			collected := s.watch(add(t, p, ownerOf("c1"), want), want)
			in, name := s.pod.Space, "mirror"
			if want.VXLAN.Placement == tap.PlacementNode {
				in, name = s.node.Space, s.relay()
			}
			device := in.Link(name).(*netlink.Vxlan)
			stolen := thief.Collect(fmt.Sprintf("[::]:%d", device.Port))
			arrived := in.Capture(name)
			target := s.node.IPv4()
			if want.VXLAN.Remote.Is6() {
				target = s.node.IPv6()
			}
			from := thief.UDP("[::]:0")
			for _, l := range []netlink.Link{s.pod.Link("eth0"), s.node.Link("cni0")} {
				frame := append(append([]byte{2, 0, 0, 0, 0, 1}, l.Attrs().HardwareAddr...), make([]byte, 60)...)
				packet := binary.BigEndian.AppendUint32([]byte{8, 0, 0, 0}, uint32(device.VxlanId)<<8)
				lab.Send(t, from, target, device.Port, append(packet, frame...))
			}
			if n := len(arrived.Settle(2)); n < 2 {
				t.Fatalf("only %d of 2 frames reached the device, so it was taught nothing", n)
			}
			s.pod.Ping(s.peer.IPv4, 3)
			expectPings(t, "the collector", collected, 3)
			if n := stolen.Len(); n != 0 {
				t.Errorf("%d copies went to somebody else", n)
			}
		})
	}
}
