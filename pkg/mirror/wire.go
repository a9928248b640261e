package mirror

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/j-keck/arping"
	"github.com/mdlayher/ndp"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// buildWire makes a plain interface between pod and node.
func (b *builder) buildWire() error {
	w := b.tap.Wire
	mtu := w.MTU
	if mtu == 0 {
		mtu = b.tapped.Attrs().MTU
	}
	device, host, err := b.makeVeth(mtu, false)
	if err != nil {
		return err
	}
	if err := b.markBoth(device, host); err != nil {
		return err
	}
	if err := b.pod.address(device, w.Addresses); err != nil {
		return err
	}
	if err := b.node.address(host, w.HostAddresses); err != nil {
		return err
	}
	if err := errors.Join(b.node.setUp(host), b.pod.setUp(device)); err != nil {
		return err
	}
	return errors.Join(b.pod.announce(device, w.Addresses), b.node.announce(host, w.HostAddresses))
}

// address gives one end of a wire its addresses, and with them the connected
// routes. Nothing that the other end advertises adds any other.
func (n *namespace) address(l netlink.Link, addresses []netip.Prefix) error {
	name := l.Attrs().Name
	settings := []sysctl{{"ipv6", "accept_ra", "0"}}
	if slices.ContainsFunc(addresses, func(p netip.Prefix) bool { return p.Addr().Is6() }) {
		settings = append(settings, sysctl{"ipv6", "disable_ipv6", "0"})
	}
	if err := n.setSysctls(name, settings...); err != nil {
		return err
	}
	for _, p := range addresses {
		err := n.change(fmt.Sprintf("give %s the address %s", name, p), func() error {
			a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
			if p.Addr().Is6() {
				// There is nobody else on the wire, and the pod's first process
				// must not have to wait for duplicate address detection.
				a.Flags = unix.IFA_F_NODAD
			}
			return n.handle.AddrAdd(l, a)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

const (
	// announceTimeout bounds the wait until a wire's end can send over IPv6. The
	// kernel gives it its multicast route some time after both ends are up, when
	// its link watch has noticed.
	announceTimeout = 2 * time.Second
	announceRetry   = 5 * time.Millisecond
)

// announce tells the neighbours of a wire's end who has its addresses: with
// gratuitous ARP and unsolicited neighbour advertisements, sent when both ends
// are up. The sysctls arp_notify and ndisc_notify send when one end comes up,
// which is before the other can hear it.
func (n *namespace) announce(l netlink.Link, addresses []netip.Prefix) error {
	if len(addresses) == 0 {
		return nil
	}
	return n.change("announce the addresses of "+l.Attrs().Name, func() error {
		return n.space.Do(func(ns.NetNS) error {
			at, err := net.InterfaceByName(l.Attrs().Name)
			if err != nil {
				return err
			}
			for _, p := range addresses {
				if p.Addr().Is4() {
					err = arping.GratuitousArpOverIface(p.Addr().AsSlice(), *at)
				} else {
					err = advertise(at, p.Addr())
				}
				if err != nil {
					return fmt.Errorf("%s: %w", p.Addr(), err)
				}
			}
			return nil
		})
	})
}

// advertise sends an unsolicited neighbour advertisement to all nodes (RFC 4861,
// section 7.2.6).
func advertise(at *net.Interface, address netip.Addr) error {
	// Go remembers which name has which index, across namespaces; as a number
	// the zone cannot be mistaken.
	numbered := *at
	numbered.Name = strconv.Itoa(at.Index)
	conn, _, err := ndp.Listen(&numbered, ndp.Addr(address.String()))
	if err != nil {
		return err
	}
	defer conn.Close()
	deadline := time.Now().Add(announceTimeout)
	if err := conn.SetWriteDeadline(deadline); err != nil {
		return err
	}
	for {
		err := conn.WriteTo(&ndp.NeighborAdvertisement{
			Override:      true,
			TargetAddress: address,
			Options:       []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: at.HardwareAddr}},
		}, nil, netip.IPv6LinkLocalAllNodes())
		if !errors.Is(err, unix.ENETUNREACH) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(announceRetry)
	}
}

// checkRoutes makes sure that a wire's connected routes take no traffic from
// routes that pod or node have already.
func (b *builder) checkRoutes() error {
	w := b.tap.Wire
	return errors.Join(
		b.pod.overlaps("wire.addresses", "the pod", w.Addresses),
		b.node.overlaps("wire.hostAddresses", "the node", w.HostAddresses))
}

// overlaps reports prefixes that overlap a route other than a default route, in
// whatever table: addresses of its own, on loopback say, are in the local one.
func (n *namespace) overlaps(field, who string, addresses []netip.Prefix) error {
	if len(addresses) == 0 {
		return nil
	}
	routes, err := retryDump(func() ([]netlink.Route, error) {
		return n.handle.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return fmt.Errorf("list the routes of %s: %w", who, err)
	}
	for _, r := range routes {
		if r.Dst == nil {
			continue
		}
		ip, _ := netip.AddrFromSlice(r.Dst.IP)
		bits, _ := r.Dst.Mask.Size()
		route := netip.PrefixFrom(ip.Unmap(), bits)
		for _, p := range addresses {
			if bits > 0 && route.Overlaps(p) {
				return fmt.Errorf("%s: %s is %w: %s has a route to %s already, and the wire would take its traffic; choose another network",
					field, p, ErrConflict, who, route)
			}
		}
	}
	return nil
}

// checkWire checks the addresses of one end of a wire.
func (n *namespace) checkWire(l netlink.Link, want []netip.Prefix) ([]string, error) {
	list, err := retryDump(func() ([]netlink.Addr, error) { return n.handle.AddrList(l, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list the addresses of %s: %w", l.Attrs().Name, err)
	}
	var problems []string
	for _, p := range want {
		if !slices.ContainsFunc(list, func(a netlink.Addr) bool { return a.IPNet.String() == p.String() }) {
			problems = append(problems, fmt.Sprintf("the device %s lacks the address %s", l.Attrs().Name, p))
		}
	}
	return problems, nil
}
