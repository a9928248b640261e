package mirror

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/pkg/tap"
)

// Each alias tells of a clsact at another interface of the pod's.
func TestForgedClaimsOfClsactDoNotKeepRemoveBusy(t *testing.T) {
	s := newScene(t, 1430, 1500)
	_, p := open(t, s.node, s.pod)
	add(t, p, ownerOf("c1"), parse(t, "veth: {}"))
	const forged = 300
	for i := range forged {
		name := fmt.Sprintf("f%d", i)
		m := mark{Owner: ownerOf("c1"), Device: name, Interface: name, Direction: tap.Both, Clsact: true, ZeroQueue: true}
		l := &netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: name, Group: deviceGroup, TxQLen: -1}, VxlanId: i + 1, Port: 4789}
		if err := errors.Join(s.pod.Netlink.LinkAdd(l), s.pod.Netlink.LinkSetAlias(l, m.alias())); err != nil {
			t.Fatal(err)
		}
	}
	before := p.socket.seq
	remove(t, p, ownerOf("c1"))
	if requests := p.socket.seq - before; requests > 10*tap.MaxTaps {
		t.Errorf("Remove made %d requests in a pod with %d forged aliases", requests, forged)
	}
	hooks, err := p.hookQdiscs()
	if err != nil || len(hooks) != 0 || s.pod.Has("mirror") {
		t.Errorf("after Remove there are the qdiscs %v (%v), and the device: %t", hooks, err, s.pod.Has("mirror"))
	}
}

// The kernel lists what it has learned of the path to one address as a route.
func TestALearnedPathMTUIsNoRouteThatAWireCouldTakeTrafficFrom(t *testing.T) {
	s := newScene(t, 1430, 1500)
	_, p := open(t, s.node, s.pod)
	far := s.network.Host("far")
	s.node.Route("0.0.0.0/0", s.collector.IPv4())
	_, narrow, err := net.ParseCIDR("198.19.7.0/24")
	if err == nil {
		err = s.collector.Netlink.RouteAdd(&netlink.Route{Dst: narrow, Gw: net.ParseIP(far.IPv4()), MTU: 1000, MTULock: true})
	}
	if err != nil {
		t.Fatal(err)
	}
	const to = "198.19.7.5"
	for range 100 {
		if learnedMTU(t, s.node.Space, to) == 1000 {
			break
		}
		s.node.Do(func() error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			defer func() { _ = unix.Close(fd) }()
			err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
			if err == nil {
				_ = unix.Sendto(fd, make([]byte, 1400), 0, &unix.SockaddrInet4{Port: 9, Addr: [4]byte(net.ParseIP(to).To4())}) // it may be known already
			}
			return err
		})
		time.Sleep(20 * time.Millisecond)
	}
	if mtu := learnedMTU(t, s.node.Space, to); mtu != 1000 {
		t.Fatalf("the node has learned a path MTU of %d; want 1000", mtu)
	}
	want := parse(t, "wire: {addresses: [198.19.7.2/24], hostAddresses: [198.19.7.1/24]}")
	add(t, p, ownerOf("c1"), want)
	healthy(t, p, ownerOf("c1"), want)
	if n := s.pod.Ping("198.19.7.1", 1); n != 1 {
		t.Error("the node's end of the wire does not answer")
	}
}

// vethOf makes a veth pair of podtap's group with two indexes.
func vethOf(t *testing.T, n *namespace, index, peerIndex int) {
	t.Helper()
	head := func(index int) *nl.IfInfomsg {
		return &nl.IfInfomsg{IfInfomsg: unix.IfInfomsg{Index: int32(index)}}
	}
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("veth"))
	peer := info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.VETH_INFO_PEER, nil)
	peer.AddChild(head(peerIndex))
	peer.AddRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated("forged1"))
	err := n.request(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, head(index),
		nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated("forged0")), nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(deviceGroup)), info)
	if err != nil {
		t.Fatal(err)
	}
}

// Indexes are for each namespace by itself, and for a pod to choose.
func TestAPairWithAnothersIndexesIsNotTheTapsInTheList(t *testing.T) {
	for _, forger := range []string{"a-forger", "z-forger"} { // before and after the tapped pod
		t.Run(forger, func(t *testing.T) {
			s := newScene(t, 1430, 1500)
			node, p := open(t, s.node, s.pod)
			_, theirs := open(t, s.node, s.node.Pod(forger, 1430))
			made := add(t, p, ownerOf("c1"), parse(t, "veth: {}"))
			device, host := s.pod.Link("mirror"), s.node.Link(made.Host.Name)
			vethOf(t, theirs.namespace, device.Attrs().Index, host.Attrs().Index)
			forged, err := theirs.findLink("forged0")
			if err == nil {
				err = theirs.setAlias(forged, device.Attrs().Alias)
			}
			if err != nil {
				t.Fatal(err)
			}
			if forged.index != device.Attrs().Index || forged.peer != host.Attrs().Index {
				t.Fatalf("the forged pair is %+v", forged)
			}
			s.pod.Ping(s.peer.IPv4, 3)
			is := only(t, node)
			if is.NetNS != s.pod.Path() || len(is.Counters) != 2 || is.Counters[0].Matched.Packets < 3 || is.Counters[1].Matched.Packets < 3 {
				t.Errorf("listed is %+v; the tap is of %s", is, s.pod.Path())
			}
		})
	}
}

// A network's plugin is killed after it has made clsact; another network's finds
// that empty, and the alias that tells whose it is.
func TestAClsactOfANetworkCutShortGoesWithTheLastTap(t *testing.T) {
	first, second := ownerOf("c1"), Owner{SourceCNI, "net2", "c1", "net1"}
	for name, c := range map[string]struct {
		cut   string
		order []Owner
	}{
		"before the queue length, first goes first":  {"keep the queue length of eth0", []Owner{first, second}},
		"before the queue length, second goes first": {"keep the queue length of eth0", []Owner{second, first}},
		"before the rules, first goes first":         {"attach the tap to eth0", []Owner{first, second}},
		"before the rules, second goes first":        {"attach the tap to eth0", []Owner{second, first}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, 1430, 1500)
			node, p := open(t, s.node, s.pod)
			if err := s.pod.Netlink.LinkSetTxQLen(s.pod.Link("eth0"), 0); err != nil {
				t.Fatal(err)
			}
			before := track(t, s.node.Space, s.pod.Space)
			dead := false
			kill := func(what string) error {
				if dead = dead || what == c.cut; dead {
					return errInjected
				}
				return nil
			}
			node.before, p.before = kill, kill // nothing is undone either
			_, err := p.Add(first, parse(t, "veth: {}"), "")
			node.before, p.before = nil, nil
			if !errors.Is(err, errInjected) || !strings.Contains(err.Error(), c.cut) {
				t.Fatalf("Add was not cut short: %v", err)
			}
			hooks, err := p.hookQdiscs()
			if err != nil || hooks[s.pod.Link("eth0").Attrs().Index] != "clsact" || !s.pod.Has("mirror") {
				t.Fatalf("the pod has the qdiscs %v (%v)", hooks, err)
			}
			want := parse(t, "{veth: {}, device: m2}")
			add(t, p, second, want)
			healthy(t, p, second, want)
			for _, o := range c.order {
				remove(t, p, o)
			}
			before.unchanged("after both Removes")
		})
	}
}
