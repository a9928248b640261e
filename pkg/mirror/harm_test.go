package mirror

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/tap"
)

// exchange sends datagrams of a size both ways between pod and peer, in step with
// captures that see them all, and fails where one is lost.
func (s *scene) exchange(t *testing.T, when string, size int, captures ...*lab.Capture) {
	t.Helper()
	const count = 500
	inPod, atPeer := s.pod.UDP("[::]:5000"), s.peer.UDP("[::]:5000")
	defer inPod.Close()
	defer atPeer.Close()
	for _, to := range []string{s.peer.IPv4, s.peer.IPv6} {
		if n := lab.Burst(t, inPod, atPeer, fmt.Sprintf("[%s]:5000", mapped(to)), count, size, captures...); n != count {
			t.Errorf("%s: %d of %d datagrams arrived at %s", when, n, count, to)
		}
	}
	for _, to := range []string{s.pod.IPv4, s.pod.IPv6} {
		if n := lab.Burst(t, atPeer, inPod, fmt.Sprintf("[%s]:5000", mapped(to)), count, size, captures...); n != count {
			t.Errorf("%s: %d of %d datagrams arrived at %s", when, n, count, to)
		}
	}
}

func TestNoFailureOfTheMirrorCostsThePodAPacket(t *testing.T) {
	// What goes wrong, with which tap, and what Check says of it.
	for name, c := range map[string]struct {
		tap    string
		breaks func(t *testing.T, s *scene, made Made)
		says   string
	}{
		"the collector is unreachable":           {`vxlan: {vni: 1, remote: 198.18.0.99}`, func(*testing.T, *scene, Made) {}, ""},
		"the node has no route to the collector": {`vxlan: {vni: 1, remote: 203.0.113.9}`, func(*testing.T, *scene, Made) {}, ""},
		"the node's end is down": {`vxlan: {vni: 1, remote: COLLECTOR4}`, func(t *testing.T, s *scene, made Made) {
			s.node.Down(made.Host.Name)
		}, "is down"},
		"the pod's end is down": {`veth: {}`, func(t *testing.T, s *scene, _ Made) { s.pod.Down("mirror") }, "the device mirror is down"},
		"the relay is down": {`vxlan: {vni: 1, remote: COLLECTOR4}`, func(t *testing.T, s *scene, _ Made) {
			s.node.Down(s.relay())
		}, "the relay podtap"},
		"the relay is deleted": {`vxlan: {vni: 1, remote: COLLECTOR4}`, func(t *testing.T, s *scene, _ Made) { s.node.Delete(s.relay()) }, "is missing on the node; nothing is sent to 198.18.0."},
		"the relay sends elsewhere too": {`vxlan: {vni: 1, remote: COLLECTOR4}`, func(t *testing.T, s *scene, _ Made) {
			needsTC(t)
			s.node.Run("bridge", "fdb", "append", "00:00:00:00:00:00", "dev", s.relay(), "dst", "198.18.0.77", "vni", "5", "self", "permanent")
		}, "instead of 198.18.0."},
		"the VXLAN device in the pod is deleted": {`vxlan: {vni: 1, remote: COLLECTOR4, placement: pod, oversize: fragment}`, func(t *testing.T, s *scene, _ Made) { s.pod.Delete("mirror") }, "its device is missing in the pod"},
		"the veth is deleted":                    {`veth: {}`, func(t *testing.T, s *scene, made Made) { s.node.Delete(made.Host.Name) }, "its device is missing in the pod"},
		"the pod's own clsact is deleted":        {`veth: {}`, func(t *testing.T, s *scene, _ Made) { s.pod.DeleteClsact("eth0") }, "ingress of eth0: its rule is missing; nothing is copied"},
		"the seal is taken off": {`veth: {}`, func(t *testing.T, s *scene, made Made) {
			s.node.DeleteClsact(made.Host.Name)
		}, "is not sealed"},
		"the redirect is taken off": {`vxlan: {vni: 1, remote: COLLECTOR4}`, func(t *testing.T, s *scene, made Made) {
			needsTC(t)
			s.node.Run("tc", "filter", "del", "dev", made.Host.Name, "ingress", "prio", fmt.Sprint(redirectPriority))
		}, "does not redirect to the relay"},
		"the mirror's MTU is lowered": {`veth: {}`, func(t *testing.T, s *scene, made Made) {
			s.node.MTU(made.Host.Name, 1000)
		}, "has MTU 1000 instead of 65535"},
		"ARP is switched on": {`veth: {}`, func(t *testing.T, s *scene, made Made) { s.node.ARP(made.Host.Name) }, "answers ARP"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, 1450, 1500)
			_, p := open(t, s.node, s.pod)
			want := s.want(t, c.tap, "direction: both")
			made := add(t, p, ownerOf("c1"), want)
			healthy(t, p, ownerOf("c1"), want)
			s.exchange(t, "before", 300)
			c.breaks(t, s, made)
			s.exchange(t, "after", 1300)
			s.expectCheck(t, p, want, c.says)
			remove(t, p, ownerOf("c1"))
			s.exchange(t, "after Remove", 300)
		})
	}
}

// expectCheck wants Check to say one thing, or nothing.
func (s *scene) expectCheck(t *testing.T, p *Pod, want tap.Tap, says string) {
	t.Helper()
	problems, err := p.Check(ownerOf("c1"), []tap.Tap{want})
	switch text := strings.Join(problems, "; "); {
	case err != nil:
		t.Errorf("Check: %v", err)
	case says == "" && text != "":
		t.Errorf("Check says %q of a healthy tap", text)
	case !strings.Contains(text, says):
		t.Errorf("Check says %q; want %q", text, says)
	}
}

// relay is the name of the node's only relay.
func (s *scene) relay() string {
	links, _ := s.node.Netlink.LinkList()
	for _, l := range links {
		if _, ok := relayMark(asLink(l)); ok {
			return l.Attrs().Name
		}
	}
	return "no relay"
}

func TestRaisingThePodsMTULaterLosesNeitherPacketsNorCopies(t *testing.T) {
	s := newScene(t, 1500, 9200)
	_, p := open(t, s.node, s.pod)
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			s.mtu(1500)
			want := s.want(t, v.text, "direction: both")
			capture := s.watch(add(t, p, ownerOf("c1"), want), want)
			defer capture.Stop()
			s.mtu(9000)
			s.exchange(t, "with MTU 9000", 8900, capture)
			if n := len(datagrams(capture.Settle(2000))); n != 2000 {
				t.Errorf("%d of 2000 large datagrams were copied", n)
			}
			remove(t, p, ownerOf("c1"))
		})
	}
}

// mtu sets that of the pods' cables and bridges.
func (s *scene) mtu(n int) {
	for _, h := range []*lab.Host{s.node, s.other} {
		h.MTU("pod1", n)
		h.MTU("cni0", n)
	}
	s.pod.MTU("eth0", n)
	s.peer.MTU("eth0", n)
}

// A copy that does not fit must not teach the pod, or the node, a smaller path.
func TestNoDefaultConfigurationChangesAPathMTU(t *testing.T) {
	for _, v := range variants {
		for _, podMTU := range []int{1430, 1450, 1500} {
			t.Run(fmt.Sprintf("%s/%d", v.name, podMTU), func(t *testing.T) {
				s := newScene(t, podMTU, 1500)
				_, p := open(t, s.node, s.pod)
				want := s.want(t, strings.ReplaceAll(v.text, ", oversize: fragment", ""), "direction: both")
				if _, err := p.Add(ownerOf("c1"), want, ""); err != nil {
					// In the pod, what does not fit is refused by default.
					if want.VXLAN == nil || want.VXLAN.Placement != tap.PlacementPod || podMTU+overhead(want.VXLAN) <= 1500 {
						t.Fatal(err)
					}
					return
				}
				s.exchange(t, "full-size datagrams", podMTU-48)
				s.exchangeTCP(t)
				s.noPathMTU(t)
			})
		}
	}
}

// learnedMTU is what a route's cache entry says, 0 where it says nothing.
func learnedMTU(t *testing.T, from *lab.Space, to string) int {
	t.Helper()
	routes, err := from.Netlink.RouteGetWithOptions(net.ParseIP(to), &netlink.RouteGetOptions{})
	if err != nil || len(routes) == 0 {
		t.Fatalf("route from %s to %s: %v", from.Name, to, err)
	}
	return routes[0].MTU
}

// exchangeTCP sends a megabyte each way, in the super-packets that TCP makes.
func (s *scene) exchangeTCP(t *testing.T) {
	t.Helper()
	for _, to := range []string{s.peer.IPv4, s.peer.IPv6} {
		if n := lab.Stream(t, s.pod.Space, s.peer.Space, to, 1<<20); n != 1<<20 {
			t.Errorf("%d of %d bytes came back from %s", n, 1<<20, to)
		}
	}
}
