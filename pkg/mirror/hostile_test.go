package mirror

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/podtap/podtap/internal/lab"
)

// marked makes a veth on the node with an alias and a group that somebody wrote.
func marked(t *testing.T, s *scene, name, alias string, group int) {
	t.Helper()
	lab.Cable(s.node.Space, name, s.other.Space, name+"x", 1500)
	l := s.node.Link(name)
	if err := errors.Join(s.node.Netlink.LinkSetAlias(l, alias), s.node.Netlink.LinkSetGroup(l, group)); err != nil {
		t.Fatal(err)
	}
}

// A device may have been in a pod, which wrote what it liked into its alias, and
// come back to the node.
func TestAnAliasWithoutGroupAndKindDeletesNothing(t *testing.T) {
	s := newScene(t, 1450, 1500)
	node, p := open(t, s.node, s.pod)
	relay := (collector{address(t, "198.18.0.9"), 1, 4789, 64}).alias()
	marked(t, s, "uplink", relay, 0)
	marked(t, s, "uplink2", relay, deviceGroup)
	marked(t, s, "uplink3", "podtap/1 cni net gone eth0 mirror if=eth0 dir=both", 0)
	lab.Settle(t, s.node.Space)
	before := track(t, s.node.Space)
	add(t, p, ownerOf("c1"), s.want(t, variants[1].text, "direction: both"))
	remove(t, p, ownerOf("c1"))
	if err := node.RemoveStale("net", nil); err != nil {
		t.Error(err)
	}
	before.unchanged("after Remove and RemoveStale")
}

func TestARelayWhoseNameIsTakenGetsAnother(t *testing.T) {
	s := newScene(t, 1450, 1500)
	_, p := open(t, s.node, s.pod)
	want := s.want(t, variants[1].text, "direction: both")
	taken := relayName(collectorOf(want.VXLAN), 0)
	lab.Cable(s.node.Space, taken, s.other.Space, "takenx", 1500)
	lab.Settle(t, s.node.Space)
	before := track(t, s.node.Space)
	capture := s.watch(add(t, p, ownerOf("c1"), want), want)
	healthy(t, p, ownerOf("c1"), want)
	s.pod.Ping(s.peer.IPv4, 3)
	expectPings(t, "the collector", capture, 3)
	remove(t, p, ownerOf("c1"))
	before.unchanged("after Remove")
}

// Another pod's ADD finds a relay that somebody has changed; the pods that use it
// must not be cut off by its repair.
func TestARelayIsRepairedInPlace(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, s *scene){
		"IPv6 on":  func(_ *testing.T, s *scene) { s.node.MTU(s.relay(), 1500) },
		"down":     func(_ *testing.T, s *scene) { s.node.Down(s.relay()) },
		"ARP on":   func(_ *testing.T, s *scene) { s.node.ARP(s.relay()) },
		"unsealed": func(_ *testing.T, s *scene) { s.node.DeleteClsact(s.relay()) },
		"one destination more": func(t *testing.T, s *scene) {
			needsTC(t)
			s.node.Run("bridge", "fdb", "append", "00:00:00:00:00:00", "dev", s.relay(), "dst", "198.18.0.77", "vni", "5", "self", "permanent")
		},
		"no destination": func(t *testing.T, s *scene) {
			needsTC(t)
			s.node.Run("bridge", "fdb", "del", "00:00:00:00:00:00", "dev", s.relay(), "dst", s.collector.IPv4(), "vni", "100", "port", "4789", "self")
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, 1450, 1500)
			second := s.node.Pod("second", 1450)
			_, p := open(t, s.node, s.pod)
			_, q := open(t, s.node, second)
			want := s.want(t, variants[1].text, "direction: both")
			capture := s.watch(add(t, p, ownerOf("c1"), want), want)
			index := s.node.Link(s.relay()).Attrs().Index
			damage(t, s)
			add(t, q, ownerOf("c2"), want)
			healthy(t, p, ownerOf("c1"), want)
			healthy(t, q, ownerOf("c2"), want)
			if now := s.node.Link(s.relay()).Attrs().Index; now != index {
				t.Errorf("the relay was made anew: index %d, was %d", now, index)
			}
			s.pod.Ping(s.peer.IPv4, 3)
			expectPings(t, "the collector", capture, 3)
		})
	}
}

func TestSomebodyOnPodtapsOwnPortStopsNoTap(t *testing.T) {
	s := newScene(t, 1450, 1500)
	_, p := open(t, s.node, s.pod)
	for port := firstLocalPort; port < lastLocalPort; port++ {
		s.node.UDP(fmt.Sprintf("127.0.0.1:%d", port))
	}
	for _, v := range variants[1:] {
		t.Run(v.name, func(t *testing.T) {
			before := track(t, s.node.Space, s.pod.Space)
			want := s.want(t, v.text, "direction: both")
			capture := s.watch(add(t, p, ownerOf("c1"), want), want)
			defer capture.Stop()
			s.pod.Ping(s.peer.IPv4, 3)
			expectPings(t, "the collector", capture, 3)
			remove(t, p, ownerOf("c1"))
			before.unchanged("after Remove")
		})
	}
	s.node.UDP(fmt.Sprintf("127.0.0.1:%d", lastLocalPort))
	before := track(t, s.node.Space, s.pod.Space)
	_, err := p.Add(ownerOf("c1"), s.want(t, variants[1].text, "direction: both"), "")
	if err == nil || !strings.Contains(err.Error(), "hold the UDP ports 14789 to 14796") {
		t.Errorf("with every port taken: %v", err)
	}
	before.unchanged("with every port taken")
}

func TestAnAddressOfManyHostsIsNoCollector(t *testing.T) {
	s := newScene(t, 1450, 1500)
	_, p := open(t, s.node, s.pod)
	before := track(t, s.node.Space, s.pod.Space)
	for _, remote := range []string{"198.18.0.255", "198.18.101.255", "fd00:18::"} {
		for _, placement := range []string{"node", "pod"} {
			_, err := p.Add(ownerOf("c1"), parse(t, "{vxlan: {vni: 1, remote: %q, placement: %s}}", remote, placement), "")
			if !errors.Is(err, ErrForbidden) || !strings.Contains(err.Error(), "use the collector's own address") {
				t.Errorf("%s: %v", remote, err)
			}
		}
	}
	before.unchanged("after the refusals")
}

// A pod that may administer its network writes aliases of podtap's into devices
// of its own; Remove must not be kept busy by them.
func TestForgedAliasesInAPodDoNotKeepRemoveBusy(t *testing.T) {
	s := newScene(t, 1450, 1500)
	_, p := open(t, s.node, s.pod)
	made := add(t, p, ownerOf("c1"), s.want(t, variants[0].text, "direction: both"))
	alias := s.pod.Link("mirror").Attrs().Alias
	const forged = 60
	for i := range forged {
		l := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("f%d", i), Group: deviceGroup, TxQLen: -1}, PeerName: fmt.Sprintf("g%d", i)}
		if err := errors.Join(s.pod.Netlink.LinkAdd(l), s.pod.Netlink.LinkSetAlias(l, alias)); err != nil {
			t.Fatal(err)
		}
	}
	deleted := 0
	p.before = func(what string) error {
		if strings.HasPrefix(what, "delete the device") {
			deleted++
		}
		return nil
	}
	remove(t, p, ownerOf("c1"))
	if deleted > 16 {
		t.Errorf("Remove deleted %d of the pod's devices", deleted)
	}
	if s.node.Has(made.Host.Name) || s.pod.Has("mirror") {
		t.Error("the tap itself is still there")
	}
}

func TestManyUnusedRelaysAreSweptAFewAtATime(t *testing.T) {
	s := newScene(t, 1450, 1500)
	node, _ := open(t, s.node, s.pod)
	for i := range maxStale + 4 {
		if _, err := node.makeRelay(fmt.Sprintf("podtap%d", i), collector{address(t, "198.18.0.9"), uint32(i + 1), 4789, 64}); err != nil {
			t.Fatal(err)
		}
	}
	for want := range 2 {
		if _, err := node.Sweep(func(Trace) bool { return false }); err != nil {
			t.Fatal(err)
		}
		left, err := node.linksOf("vxlan", 0)
		if err != nil || len(left) != 4*(1-want) {
			t.Errorf("after %d sweeps %d relays are left (%v)", want+1, len(left), err)
		}
	}
}

// /run/podtap belongs to root alone, so that nobody else can hold its locks.
func TestTheDirectoryOfLocksIsRootsOnly(t *testing.T) {
	unlock, err := LockPod("c1")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	info, err := os.Stat(lockDir)
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}
