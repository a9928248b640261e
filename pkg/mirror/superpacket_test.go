package mirror

import (
	"testing"

	"github.com/gopacket/gopacket/layers"
	"github.com/vishvananda/netlink"

	"github.com/podtap/podtap/internal/lab"
)

// What TCP's offload has left whole is segmented on the way into two tunnels.
func TestSuperPacketsReachACollectorBehindTheOverlayWhole(t *testing.T) {
	if !lab.Privileged() {
		t.Skip("an ordinary user's sockets are too small for TCP at full speed")
	}
	for _, name := range []string{"flannel", "Cilium"} {
		t.Run(name, func(t *testing.T) {
			s := newOverlayScene(t, overlays[name], (*lab.Host).Pod, 1400)
			sensor := s.other.Pod("sensor", 1400)
			_, p := open(t, s.node, s.pod)
			copies := sensor.Collect("[::]:4789")
			add(t, p, ownerOf("c1"), parse(t, "{vxlan: {vni: 9, remote: %s}}", sensor.IPv4))
			original := s.pod.Capture("eth0")
			const size = 1 << 20
			if n := lab.Stream(t, s.pod.Space, s.peer.Space, s.peer.IPv4, size); n != size {
				t.Fatalf("%d of %d bytes came back", n, size)
			}
			sent, longest := streamed(original.Settle(1))
			copied, _ := streamed(copies.Settle(1))
			if sent < 2*size || copied != sent {
				t.Errorf("of %d bytes of TCP %d were copied; want all, and at least %d", sent, copied, 2*size)
			}
			if longest <= 1400 {
				t.Errorf("the longest packet had %d bytes, so that nothing had to be segmented", longest)
			}
		})
	}
}

// streamed sums up the payload of frames' TCP, and says how long the longest was.
func streamed(frames []lab.Frame) (bytes, longest int) {
	for _, f := range frames {
		p := decode(f)
		if tcp, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP); ok {
			bytes += len(tcp.Payload)
			longest = max(longest, len(tcp.Payload))
		}
	}
	return bytes, longest
}

// Cilium lets the pods' cables take super-packets above 64 KiB (BIG TCP). A mirror
// has no such limit set, and the kernel segments the copy on the way into it.
func TestSuperPacketsAbove64KiBAreCopiedWhole(t *testing.T) {
	if !lab.Privileged() {
		t.Skip("an ordinary user's sockets are too small for TCP at full speed")
	}
	if !lab.KernelHas(6, 3) {
		t.Skip("BIG TCP over IPv4 takes Linux 6.3 or later")
	}
	const limit, size = 120_000, 1 << 20
	s := newScene(t, 1400, 1500)
	local := s.node.Pod("local", 1400) // no card is between it and the pod
	for at, devices := range map[*lab.Space][]string{s.pod.Space: {"eth0"}, local.Space: {"eth0"}, s.node.Space: {s.pod.Port, local.Port, "cni0"}} {
		for _, device := range devices {
			l := at.Link(device)
			for what, set := range map[string]func(netlink.Link, int) error{
				"IPv6": at.Netlink.LinkSetGSOMaxSize, "IPv4": at.Netlink.LinkSetGSOIPv4MaxSize,
				"GRO": at.Netlink.LinkSetGROMaxSize, "GRO for IPv4": at.Netlink.LinkSetGROIPv4MaxSize,
			} {
				if err := set(l, limit); err != nil {
					t.Skipf("this kernel has no BIG TCP for %s: %v", what, err)
				}
			}
		}
	}
	_, p := open(t, s.node, s.pod)
	for _, v := range variants {
		for family, address := range map[string]string{"IPv4": local.IPv4, "IPv6": local.IPv6} {
			t.Run(v.name+"/"+family, func(t *testing.T) {
				want := s.want(t, v.text, "direction: both")
				copies := s.watch(add(t, p, ownerOf("c1"), want), want)
				original := s.pod.Capture("eth0")
				if n := lab.Stream(t, s.pod.Space, local.Space, address, size); n != size {
					t.Fatalf("%d of %d bytes came back", n, size)
				}
				sent, longest := streamed(original.Settle(1))
				copied, longestCopy := streamed(copies.Settle(1))
				if longestCopy > 65536 {
					t.Errorf("the longest copy had %d bytes, more than collectors expect", longestCopy)
				}
				if sent < 2*size || copied != sent {
					t.Errorf("of %d bytes of TCP %d were copied; want all, and at least %d", sent, copied, 2*size)
				}
				if longest <= 65536 {
					t.Errorf("the longest packet had %d bytes, which is no BIG TCP", longest)
				}
				original.Stop()
				copies.Stop()
				remove(t, p, ownerOf("c1"))
			})
		}
	}
}
