package lab

import (
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/safchain/ethtool"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Link returns a device of the namespace.
func (s *Space) Link(name string) netlink.Link {
	s.t.Helper()
	l, err := s.Netlink.LinkByName(name)
	if err != nil {
		s.t.Fatalf("in %s: device %s: %v", s.Name, name, err)
	}
	return l
}

// Has says whether the namespace has a device.
func (s *Space) Has(name string) bool {
	_, err := s.Netlink.LinkByName(name)
	return err == nil
}

// Up sets a device up.
func (s *Space) Up(name string) {
	s.t.Helper()
	if err := s.Netlink.LinkSetUp(s.Link(name)); err != nil {
		s.t.Fatalf("in %s: set %s up: %v", s.Name, name, err)
	}
}

// Address gives a device addresses, in CIDR notation.
func (s *Space) Address(device string, addresses ...string) {
	s.t.Helper()
	for _, a := range addresses {
		ip, network, err := net.ParseCIDR(a)
		if err == nil {
			err = s.Netlink.AddrAdd(s.Link(device), &netlink.Addr{IPNet: &net.IPNet{IP: ip, Mask: network.Mask}, Flags: unix.IFA_F_NODAD})
		}
		if err != nil {
			s.t.Fatalf("in %s: give %s the address %s: %v", s.Name, device, a, err)
		}
	}
}

// Route adds a route; "" is the default one of the gateway's family.
func (s *Space) Route(to, via string) {
	s.t.Helper()
	gateway := netip.MustParseAddr(via)
	destination := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if gateway.Is6() {
		destination = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	if to != "" {
		destination = netip.MustParsePrefix(to)
	}
	r := &netlink.Route{Gw: gateway.AsSlice(), Dst: &net.IPNet{IP: destination.Addr().AsSlice(),
		Mask: net.CIDRMask(destination.Bits(), destination.Addr().BitLen())}}
	if err := s.Netlink.RouteAdd(r); err != nil {
		s.t.Fatalf("in %s: route to %s via %s: %v", s.Name, to, via, err)
	}
}

// Forward makes the namespace a router.
func (s *Space) Forward() {
	s.t.Helper()
	s.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) })
	s.Sysctl("ipv6", "all", "forwarding", "1")
}

// Bridge makes a bridge, up.
func (s *Space) Bridge(name string, mtu int) {
	s.t.Helper()
	noSnooping := false
	b := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name, MTU: mtu, TxQLen: -1}, MulticastSnooping: &noSnooping}
	if err := s.Netlink.LinkAdd(b); err != nil {
		s.t.Fatalf("in %s: make the bridge %s: %v", s.Name, name, err)
	}
	s.Up(name)
}

// Cable makes a veth pair between two namespaces, up at both ends.
func Cable(a *Space, nameA string, b *Space, nameB string, mtu int) {
	a.t.Helper()
	v := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: nameA, MTU: mtu, TxQLen: -1}, PeerName: nameB,
		PeerMTU: uint32(mtu), PeerNamespace: netlink.NsFd(b.NetNS.Fd())}
	if err := a.Netlink.LinkAdd(v); err != nil {
		a.t.Fatalf("cable %s:%s to %s:%s: %v", a.Name, nameA, b.Name, nameB, err)
	}
	a.Up(nameA)
	b.Up(nameB)
}

// Enslave makes a device a port of a bridge.
func (s *Space) Enslave(device, bridge string) {
	s.t.Helper()
	if err := s.Netlink.LinkSetMaster(s.Link(device), s.Link(bridge)); err != nil {
		s.t.Fatalf("in %s: make %s a port of %s: %v", s.Name, device, bridge, err)
	}
}

// Network is an underlay: a switch with nodes and collectors, each with an
// address of each family.
type Network struct {
	t      T
	fabric *Space
	mtu    int
	prefix string // of the names of its namespaces
	hosts  int
}

// NewNetwork makes an underlay of an MTU. The prefix keeps the names of several
// networks apart.
func NewNetwork(t T, prefix string, mtu int) *Network {
	t.Helper()
	n := &Network{t: t, fabric: NewSpace(t, prefix+"fabric"), mtu: mtu, prefix: prefix}
	n.fabric.Bridge("br0", mtu)
	return n
}

// Host is a machine on the underlay.
type Host struct {
	*Space
	number int
	mtu    int
	pods   int
	t      T
}

// IPv4 and IPv6 are the host's addresses on the underlay.
func (h *Host) IPv4() string { return fmt.Sprintf("198.18.0.%d", h.number) }
func (h *Host) IPv6() string { return fmt.Sprintf("fd00:18::%d", h.number) }

// Host adds a machine to the underlay, with an interface eth0.
func (n *Network) Host(name string) *Host {
	n.t.Helper()
	n.hosts++
	h := &Host{Space: NewSpace(n.t, n.prefix+name), number: n.hosts, mtu: n.mtu, t: n.t}
	port := fmt.Sprintf("port%d", n.hosts)
	Cable(n.fabric, port, h.Space, "eth0", n.mtu)
	n.fabric.Enslave(port, "br0")
	h.Address("eth0", h.IPv4()+"/24", h.IPv6()+"/64")
	h.Forward()
	return h
}

// Reach adds routes to another host's pods.
func (h *Host) Reach(other *Host) {
	h.t.Helper()
	h.Route(fmt.Sprintf("198.18.%d.0/24", 100+other.number), other.IPv4())
	h.Route(fmt.Sprintf("fd00:18:%d::/64", other.number), other.IPv6())
}

// Pod is a pod of a host, as a bridge plugin would have made it.
type Pod struct {
	*Space
	IPv4, IPv6 string
	Host       *Host
	Port       string // the host's end of its cable
}

// Pod adds a pod with an interface eth0 of an MTU on the host's bridge cni0, which
// the first pod brings.
func (h *Host) Pod(name string, mtu int) *Pod {
	h.t.Helper()
	if h.pods == 0 {
		h.Bridge("cni0", mtu)
		h.Address("cni0", fmt.Sprintf("198.18.%d.1/24", 100+h.number), fmt.Sprintf("fd00:18:%d::1/64", h.number))
	}
	h.pods++
	p := &Pod{Space: NewSpace(h.t, h.Name+"-"+name), Host: h, Port: fmt.Sprintf("pod%d", h.pods),
		IPv4: fmt.Sprintf("198.18.%d.%d", 100+h.number, 1+h.pods), IPv6: fmt.Sprintf("fd00:18:%d::%d", h.number, 1+h.pods)}
	Cable(h.Space, p.Port, p.Space, "eth0", mtu)
	h.Enslave(p.Port, "cni0")
	p.Address("eth0", p.IPv4+"/24", p.IPv6+"/64")
	p.Route("", fmt.Sprintf("198.18.%d.1", 100+h.number))
	p.Route("", fmt.Sprintf("fd00:18:%d::1", h.number))
	return p
}

// Down sets a device down.
func (s *Space) Down(name string) {
	s.t.Helper()
	if err := s.Netlink.LinkSetDown(s.Link(name)); err != nil {
		s.t.Fatalf("in %s: set %s down: %v", s.Name, name, err)
	}
}

// Delete deletes a device.
func (s *Space) Delete(name string) {
	s.t.Helper()
	if err := s.Netlink.LinkDel(s.Link(name)); err != nil {
		s.t.Fatalf("in %s: delete %s: %v", s.Name, name, err)
	}
}

// MTU sets that of a device, in bytes.
func (s *Space) MTU(name string, mtu int) {
	s.t.Helper()
	if err := s.Netlink.LinkSetMTU(s.Link(name), mtu); err != nil {
		s.t.Fatalf("in %s: set the MTU of %s: %v", s.Name, name, err)
	}
}

// ARP switches ARP on at a device.
func (s *Space) ARP(name string) {
	s.t.Helper()
	if err := s.Netlink.LinkSetARPOn(s.Link(name)); err != nil {
		s.t.Fatalf("in %s: switch ARP on at %s: %v", s.Name, name, err)
	}
}

// DeleteClsact deletes a device's clsact, with all that hangs there.
func (s *Space) DeleteClsact(name string) {
	s.t.Helper()
	q := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: s.Link(name).Attrs().Index,
		Parent: netlink.HANDLE_CLSACT, Handle: netlink.HANDLE_CLSACT & 0xffff0000}}
	if err := s.Netlink.QdiscDel(q); err != nil {
		s.t.Fatalf("in %s: delete clsact of %s: %v", s.Name, name, err)
	}
}

// VXLAN makes a VXLAN device, up and without IPv6; id 0 is external mode.
func (s *Space) VXLAN(name string, id, port int) {
	s.t.Helper()
	v := &netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: name, TxQLen: -1}, VxlanId: id, Port: port, FlowBased: id == 0}
	if err := s.Netlink.LinkAdd(v); err != nil {
		s.t.Fatalf("in %s: make the VXLAN device %s: %v", s.Name, name, err)
	}
	s.Sysctl("ipv6", name, "disable_ipv6", "1")
	s.Up(name)
}

// Offloads switches offloads of a device, by ethtool's names for them, on or off.
func (s *Space) Offloads(device string, on bool, names ...string) {
	s.t.Helper()
	s.Do(func() error {
		tool, err := ethtool.NewEthtool()
		if err != nil {
			return err
		}
		defer tool.Close()
		config := map[string]bool{}
		for _, name := range names {
			config[name] = on
		}
		return tool.Change(device, config)
	})
}
