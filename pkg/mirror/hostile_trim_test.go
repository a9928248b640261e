package mirror

import (
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/internal/lab"
)

// Whoever can send a packet to the node can tell it of a narrow path, and the kernel believes
// that for ten minutes. Copies are not cut for it.
func TestNobodyCutsCopiesByTellingOfANarrowPath(t *testing.T) {
	needsEBPF(t)
	s := newScene(t, 1450, 1500)
	node, p := open(t, s.node, s.pod)
	want := s.want(t, variants[1].text, "direction: both")
	add(t, p, ownerOf("c1"), want)
	var f Follower
	if _, err := f.Round(node); err != nil {
		t.Fatal(err)
	}
	s.tellOfAPath(t, 576)
	waitFor(t, func() bool { return learnedMTU(t, s.node.Space, s.collector.IPv4()) == 576 })
	if changed, err := f.Round(node); changed != 0 || err != nil {
		t.Errorf("%d taps were changed (%v)", changed, err)
	}
	if path, err := node.pathMTU(want.VXLAN); path != 1500 || err != nil {
		t.Errorf("the path takes %d (%v)", path, err)
	}
	// What an administrator has said of the path counts all the same.
	s.node.Run("ip", "route", "add", s.collector.IPv4()+"/32", "dev", "eth0", "mtu", "1400")
	s.tellOfAPath(t, 600)
	waitFor(t, func() bool { return learnedMTU(t, s.node.Space, s.collector.IPv4()) == 600 })
	if path, err := node.pathMTU(want.VXLAN); path != 1400 || err != nil {
		t.Errorf("the path takes %d (%v), the route 1400", path, err)
	}
	s.node.Run("ip", "route", "del", s.collector.IPv4()+"/32")
	other := want
	other.Device = "mirror1"
	add(t, p, ownerOf("c2"), other)
	healthy(t, p, ownerOf("c2"), other)
	if at, err := node.trimAt(asLink(s.node.Link(hostName(ownerOf("c2"), "mirror1")))); err != nil || at.Path != 1464 {
		t.Errorf("the tap made then has a path of %d (%v)", at.Path, err)
	}
}

// tellOfAPath sends an ICMP error from the pod to its node, about a packet to the collector
// that was never sent.
func (s *scene) tellOfAPath(t *testing.T, mtu uint16) {
	t.Helper()
	serialize := func(l ...gopacket.SerializableLayer) []byte {
		b := gopacket.NewSerializeBuffer()
		if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, l...); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	about := serialize(&layers.IPv4{Version: 4, TTL: 64, Protocol: 1, SrcIP: net.ParseIP(s.node.IPv4()), DstIP: net.ParseIP(s.collector.IPv4())},
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(0, 0)}, gopacket.Payload(make([]byte, 20)))
	packet := serialize(&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 4), Seq: mtu}, gopacket.Payload(about))
	s.pod.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_ICMP)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		return unix.Sendto(fd, packet, 0, &unix.SockaddrInet4{Addr: [4]byte(net.ParseIP(s.node.IPv4()).To4())})
	})
}

// A path may be narrower than all that is worth sending, for a while.
func TestAPathThatTakesNearlyNothingIsLeftAgain(t *testing.T) {
	needsEBPF(t)
	s := newScene(t, 1500, 1500)
	node, p := open(t, s.node, s.pod)
	want := s.want(t, `vxlan: {vni: 100, remote: COLLECTOR4, oversize: fit}`, "direction: both")
	made := add(t, p, ownerOf("c1"), want)
	var f Follower
	for mtu, path := range map[int]int{68: leastPath, 36: leastPath, 700: 664} {
		for at, want := range map[int]int{mtu: path, 1500: 1464} {
			s.node.Run("ip", "route", "replace", s.collector.IPv4()+"/32", "dev", "eth0", "mtu", fmt.Sprint(at))
			if _, err := f.Round(node); err != nil {
				t.Fatal(err)
			}
			if is, err := node.trimAt(asLink(s.node.Link(made.Host.Name))); err != nil || is.Path != want {
				t.Errorf("over %d bytes frames of %d fit (%v), want %d", at, is.Path, err, want)
			}
		}
	}
	healthy(t, p, ownerOf("c1"), want)
}

// Who works on one pod for long does not hold up the others' paths.
func TestABusyPodHoldsUpNoOthersPath(t *testing.T) {
	needsEBPF(t)
	s := newScene(t, 1450, 1500)
	node, p := open(t, s.node, s.pod)
	other := s.node.Pod("other", 1450)
	q := openPod(t, node, other)
	busy := add(t, p, ownerOf("busy"), s.want(t, variants[1].text, "direction: both"))
	free := add(t, q, ownerOf("free"), s.want(t, variants[2].text, "direction: both"))
	path := func(m Made) int {
		at, err := node.trimAt(asLink(s.node.Link(m.Host.Name)))
		if err != nil {
			t.Fatal(err)
		}
		return at.Path
	}
	unlock, err := LockPod("busy")
	if err != nil {
		t.Fatal(err)
	}
	var f Follower
	s.node.MTU("eth0", 1400)
	begin := time.Now()
	if _, err := f.Round(node); err != nil || time.Since(begin) > lockWait/3 {
		t.Errorf("a round took %v (%v)", time.Since(begin), err)
	}
	if path(busy) != 1464 || path(free) != 1344 {
		t.Errorf("frames of %d and %d bytes fit, want 1464 still, and 1344", path(busy), path(free))
	}
	unlock()
	if _, err := f.Round(node); err != nil || path(busy) != 1364 {
		t.Errorf("afterwards frames of %d bytes fit (%v), want 1364", path(busy), err)
	}
}

// A sensor may have an XDP program of its own on a tap's end: it hides nothing, and stays.
func TestASensorsXDPProgramStays(t *testing.T) {
	needsEBPF(t)
	s := newScene(t, 1450, 1500)
	node, p := open(t, s.node, s.pod)
	pass, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, License: "GPL", Instructions: always(2)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pass.Close() })
	for _, v := range variants[:2] {
		t.Run(v.name, func(t *testing.T) {
			want := s.want(t, v.text, "direction: both")
			made := add(t, p, ownerOf("c1"), want)
			host := s.node.Link(made.Host.Name)
			s.node.Do(func() error { return netlink.LinkSetXdpFdWithFlags(host, pass.FD(), xdpGenericMode) })
			theirs := s.node.Link(made.Host.Name).Attrs().Xdp.ProgId
			healthy(t, p, ownerOf("c1"), want)
			if is := only(t, node); (is.Trimmed != nil) != (want.VXLAN != nil) {
				t.Errorf("it is listed as %+v", is)
			}
			var f Follower
			s.node.MTU("eth0", 1400)
			if changed, err := f.Round(node); err != nil || (changed == 1) != (want.VXLAN != nil) {
				t.Errorf("%d taps were changed (%v)", changed, err)
			}
			s.node.MTU("eth0", 1500)
			cut := want
			cut.SnapLength = 96
			if _, err := p.Change(ownerOf("c1"), want, cut); !errors.Is(err, ErrConflict) {
				t.Errorf("to be cut it says %v", err)
			}
			healthy(t, p, ownerOf("c1"), want)
			if now := s.node.Link(made.Host.Name).Attrs().Xdp; now == nil || now.ProgId != theirs {
				t.Errorf("the sensor's program is %+v, it was %d", now, theirs)
			}
			remove(t, p, ownerOf("c1"))
		})
	}
}

// What a pod sends in a tunnel of its own is cut as all else, inner checksums or not.
func TestWhatIsInThePodsOwnTunnelIsCut(t *testing.T) {
	needsEBPF(t)
	s := newScene(t, 1500, 1500)
	_, p := open(t, s.node, s.pod)
	s.tunnel(t, "198.19.0.1", "198.19.0.2")
	for _, v := range variants[:3] {
		t.Run(v.name, func(t *testing.T) {
			want := s.want(t, v.text, "direction: both, snapLength: 96")
			copies := s.watch(add(t, p, ownerOf("c1"), want), want)
			defer copies.Stop()
			const size = 100_000
			if n := lab.Stream(t, s.pod.Space, s.peer.Space, "198.19.0.2", size); n != size {
				t.Errorf("%d of %d bytes came back", n, size)
			}
			full := 0
			for _, f := range copies.Settle(1) {
				if len(f.Data) > 96 {
					t.Fatalf("a copy has %d bytes", len(f.Data))
				}
				if ip, ok := decode(f).NetworkLayer().(*layers.IPv4); ok && ip.Length > 1000 {
					full++
				}
			}
			if full < 2*size/1500 {
				t.Errorf("%d copies are of long packets, and show nothing", full)
			}
			remove(t, p, ownerOf("c1"))
		})
	}
}

// While the relay is down a packet of which two are made is one loss.
func TestAPacketInHalvesIsOneLossWhileTheRelayIsDown(t *testing.T) {
	needsEBPF(t)
	s := newScene(t, 1500, 1500)
	node, p := open(t, s.node, s.pod)
	s.pod.Offloads("eth0", false, "tx-tcp-segmentation", "tx-tcp6-segmentation")
	add(t, p, ownerOf("c1"), s.want(t, variants[1].text, "direction: egress"))
	s.node.Down(s.relay())
	if n := lab.Stream(t, s.pod.Space, s.peer.Space, s.peer.IPv4, 50_000); n != 50_000 {
		t.Errorf("%d bytes came back", n)
	}
	s.eth0(t)
	is, sender := only(t, node), listOf(t, node).Senders[0]
	if is.Trimmed.Segments == 0 || is.Trimmed.Lost != 0 || sender.Dropped[DropDown].Packets < is.Trimmed.Segments {
		t.Errorf("the sender dropped %+v; trimmed is %+v", sender.Dropped, is.Trimmed)
	}
}
