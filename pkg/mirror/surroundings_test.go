package mirror

import (
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/ndp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/internal/lab"
)

// Somebody switches IPv6 on for all devices later, as some network plugins do: a
// tap's devices get no address, and so have nothing to tell the neighbours.
func TestIPv6ForAllDevicesLaterGivesATapNoAddress(t *testing.T) {
	s := newScene(t, 1450, 1500)
	_, p := open(t, s.node, s.pod)
	for i, v := range variants {
		want := s.want(t, v.text, "direction: both")
		want.Device = []string{"a", "b", "c", "d", "e"}[i]
		add(t, p, ownerOf("c1"), want)
	}
	for _, at := range []*lab.Space{s.pod.Space, s.node.Space} {
		for _, value := range []string{"1", "0"} {
			at.Sysctl("ipv6", "all", "disable_ipv6", value)
		}
		lab.Settle(t, at)
		links, err := at.Netlink.LinkList()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range links {
			if l.Attrs().Group != deviceGroup {
				continue
			}
			if list, err := at.Netlink.AddrList(l, netlink.FAMILY_ALL); err != nil || len(list) != 0 {
				t.Errorf("%s in %s has %v (%v)", l.Attrs().Name, at.Name, list, err)
			}
		}
	}
}

// withWire gives the scene's pod a wire, whose node's end is wire0.
func (s *scene) withWire(t *testing.T) {
	t.Helper()
	_, p := open(t, s.node, s.pod)
	want := parse(t, "{%s}", wireText)
	want.Wire.HostInterface = "wire0"
	add(t, p, ownerOf("c1"), want)
}

// Where duplicate address detection is on, as everywhere but in the lab, the
// addresses can be used at once all the same.
func TestAWiresAddressesAreNeverTentative(t *testing.T) {
	s := newScene(t, 1450, 1500)
	for _, at := range []*lab.Space{s.pod.Space, s.node.Space} {
		at.Sysctl("ipv6", "default", "accept_dad", "1")
		at.Sysctl("ipv6", "all", "accept_dad", "1")
	}
	s.withWire(t)
	for device, at := range map[string]*lab.Space{"mirror": s.pod.Space, "wire0": s.node.Space} {
		list, err := at.Netlink.AddrList(at.Link(device), netlink.FAMILY_V6)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range list {
			if !a.IP.IsLinkLocalUnicast() && a.Flags&unix.IFA_F_TENTATIVE != 0 {
				t.Errorf("%s of %s is tentative", a.IPNet, device)
			}
		}
	}
}

func TestAWireHasItsIPv6AddressesWhereIPv6IsOffByDefault(t *testing.T) {
	s := newScene(t, 1450, 1500)
	for _, at := range []*lab.Space{s.pod.Space, s.node.Space} {
		at.Sysctl("ipv6", "default", "disable_ipv6", "1")
	}
	s.withWire(t)
	if n := s.pod.Ping("fd00:19::1", 1); n != 1 {
		t.Error("the node's end does not answer the pod")
	}
}

// Whoever is behind one end of a wire advertises himself as the other's router.
func TestARouterAdvertisementOnAWireAddsNothing(t *testing.T) {
	s := newScene(t, 1450, 1500)
	s.withWire(t)
	lab.Settle(t, s.pod.Space, s.node.Space)
	before := track(t, s.pod.Space)
	heard := s.pod.Capture("mirror")
	// A host believes only what comes from a link-local address.
	err := s.node.Netlink.AddrAdd(s.node.Link("wire0"), &netlink.Addr{IPNet: netlink.NewIPNet(net.ParseIP("fe80::66")), Flags: unix.IFA_F_NODAD})
	if err != nil {
		t.Fatal(err)
	}
	s.node.Do(func() error {
		l := s.node.Link("wire0").Attrs()
		conn, _, err := ndp.Listen(&net.Interface{Index: l.Index, HardwareAddr: l.HardwareAddr, Name: strconv.Itoa(l.Index)}, ndp.Addr("fe80::66"))
		if err != nil {
			return err
		}
		defer conn.Close()
		return conn.WriteTo(&ndp.RouterAdvertisement{CurrentHopLimit: 64, RouterLifetime: time.Hour, Options: []ndp.Option{
			&ndp.PrefixInformation{PrefixLength: 64, OnLink: true, AutonomousAddressConfiguration: true,
				ValidLifetime: time.Hour, PreferredLifetime: time.Hour, Prefix: netip.MustParseAddr("fd00:66::")},
		}}, nil, netip.IPv6LinkLocalAllNodes())
	})
	if len(heard.Settle(1)) == 0 {
		t.Fatal("the pod has heard no advertisement")
	}
	before.unchanged("after a router advertisement")
}

// An address on loopback, and a route of a policy of somebody's, are in other
// tables than the main one.
func TestAWireRespectsEveryRoutingTable(t *testing.T) {
	for name, occupy := range map[string]func(at *lab.Space, device string) error{
		"an address on lo": func(at *lab.Space, _ string) error { at.Address("lo", "198.19.0.77/32"); return nil },
		"table 100": func(at *lab.Space, device string) error {
			_, network, err := net.ParseCIDR("198.19.0.64/26")
			return errors.Join(err, at.Netlink.RouteAdd(&netlink.Route{Table: 100, Dst: network, LinkIndex: at.Link(device).Attrs().Index}))
		},
	} {
		for who, text := range map[string]string{"pod": `{wire: {addresses: [198.19.0.2/24]}}`, "node": `{wire: {hostAddresses: [198.19.0.1/24]}}`} {
			t.Run(name+" of the "+who, func(t *testing.T) {
				s := newScene(t, 1450, 1500)
				_, p := open(t, s.node, s.pod)
				at := map[string]*lab.Space{"pod": s.pod.Space, "node": s.node.Space}[who]
				if err := occupy(at, "eth0"); err != nil {
					t.Fatal(err)
				}
				_, err := p.Add(ownerOf("c1"), parse(t, "%s", text), "")
				if !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), "the "+who+" has a route to 198.19.0.") {
					t.Errorf("Add says %v", err)
				}
			})
		}
	}
}

func TestRefuseTakesThePathToTheByte(t *testing.T) {
	s := newScene(t, 1450, 1500)
	_, p := open(t, s.node, s.pod)
	_, far, err := net.ParseCIDR("203.0.113.0/24")
	if err != nil {
		t.Fatal(err)
	}
	route := &netlink.Route{Dst: far, Gw: net.ParseIP(s.collector.IPv4()), MTU: 1400}
	if err := s.node.Netlink.RouteAdd(route); err != nil {
		t.Fatal(err)
	}
	for remote, most := range map[string]int{s.collector.IPv4(): 1450, s.collector.IPv6(): 1430, "203.0.113.9": 1350} {
		for _, more := range []int{0, 1} {
			s.pod.MTU("eth0", most+more)
			_, err := p.Add(ownerOf("c1"), parse(t, "{vxlan: {vni: 1, remote: %q, oversize: refuse}}", remote), "")
			if more == 0 && err != nil || more == 1 && !errors.Is(err, ErrMTU) {
				t.Errorf("%s with a pod's MTU of %d: %v", remote, most+more, err)
			}
			remove(t, p, ownerOf("c1"))
		}
	}
}

func TestACollectorWithoutARouteIsWarnedOf(t *testing.T) {
	s := newScene(t, 1450, 1500)
	_, p := open(t, s.node, s.pod)
	made := add(t, p, ownerOf("c1"), parse(t, "{vxlan: {vni: 1, remote: 203.0.113.9}}"))
	if len(made.Warnings) != 1 || !strings.Contains(made.Warnings[0], "no route to the collector 203.0.113.9") {
		t.Errorf("warnings: %q", made.Warnings)
	}
}
