package mirror

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// buildWire makes a plain interface between pod and node.
func (b *builder) buildWire() error {
	w := b.tap.Wire
	mtu := w.MTU
	if mtu == 0 {
		mtu = b.tapped.mtu
	}
	device, host, err := b.makeVeth(mtu, mtu, false)
	if err != nil {
		return err
	}
	for _, e := range []struct {
		n *namespace
		l *link
	}{{b.node.namespace, host}, {b.pod.namespace, device}} {
		e.l.address = wireAddress(e.l.address[0], b.mark.Owner, b.tap.Device)
		err := e.n.setLink("mark the device "+e.l.name, e.l.index, 0, 0, aliasAttribute(b.mark.alias()), nl.NewRtAttr(unix.IFLA_ADDRESS, e.l.address))
		if err != nil {
			return err
		}
	}
	*b.made.Host, b.made.Device = host.device(), device.device()
	if err := errors.Join(b.node.openEnd(host, w.HostAddresses), b.pod.openEnd(device, w.Addresses)); err != nil {
		return err
	}
	// Only when both ends are up can each hear of the other's addresses.
	if err := errors.Join(b.node.awaitCarrier(host), b.pod.awaitCarrier(device)); err != nil {
		return err
	}
	return errors.Join(b.node.address(host, w.HostAddresses), b.pod.address(device, w.Addresses))
}

// openEnd readies one end of a wire for its addresses, and sets it up. Nothing
// that the other end advertises adds routes.
func (n *namespace) openEnd(l *link, addresses []netip.Prefix) error {
	settings := []sysctl{{"ipv6", "accept_ra", "0"}}
	for _, p := range addresses {
		if p.Addr().Is6() {
			settings = append(settings, sysctl{"ipv6", "disable_ipv6", "0"}, sysctl{"ipv6", "ndisc_notify", "1"})
		} else {
			settings = append(settings, sysctl{"ipv4", "arp_notify", "1"})
		}
	}
	if err := n.setSysctls(l.name, settings...); err != nil {
		return err
	}
	return n.setUp(l)
}

const (
	// carrierTimeout bounds the wait until a wire's end can send.
	carrierTimeout = 2 * time.Second
	carrierRetry   = 2 * time.Millisecond
)

// awaitCarrier waits until one end of a wire can send. The end that was set up
// first drops what it is to send until the kernel's link watch has noticed that
// the other is up too: when somebody looks at the device (since 6.8), or soon.
func (n *namespace) awaitCarrier(l *link) error {
	for deadline := time.Now().Add(carrierTimeout); ; time.Sleep(carrierRetry) {
		now, err := n.findLink(l.name)
		if err != nil || now.ready || time.Now().After(deadline) {
			return err
		}
	}
}

// address gives one end of a wire its addresses, and with them the connected
// routes, and announces them: the kernel sends a neighbour advertisement for an
// address that it takes into use, where ndisc_notify says so, and gratuitous ARP
// for all that an interface has when its hardware address is set, were it to the
// same one, where arp_notify does. A socket of our own for these packets would
// cost 20 ms, to close it.
func (n *namespace) address(l *link, addresses []netip.Prefix) error {
	if len(addresses) == 0 {
		return nil
	}
	for _, p := range addresses {
		if err := n.addAddress(l, p); err != nil {
			return err
		}
	}
	return n.setLink("announce the addresses of "+l.name, l.index, 0, 0, nl.NewRtAttr(unix.IFLA_ADDRESS, l.address))
}

func (n *namespace) addAddress(l *link, p netip.Prefix) error {
	return n.change(fmt.Sprintf("give %s the address %s", l.name, p), func() error {
		message := nl.NewIfAddrmsg(unix.AF_INET)
		message.Index, message.Prefixlen = uint32(l.index), uint8(p.Bits())
		data := []nl.NetlinkRequestData{message, nl.NewRtAttr(unix.IFA_LOCAL, p.Addr().AsSlice()), nl.NewRtAttr(unix.IFA_ADDRESS, p.Addr().AsSlice())}
		switch {
		case p.Addr().Is6():
			message.Family = unix.AF_INET6
			// There is nobody else on the wire, and the pod's first process must
			// not have to wait for duplicate address detection.
			data = append(data, nl.NewRtAttr(unix.IFA_FLAGS, nl.Uint32Attr(unix.IFA_F_NODAD)))
		case p.Bits() < 31:
			data = append(data, nl.NewRtAttr(unix.IFA_BROADCAST, broadcast(p)))
		}
		return n.request(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, data...)
	})
}

// broadcast is the last address of an IPv4 network.
func broadcast(p netip.Prefix) []byte {
	b := p.Addr().As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])|^uint32(0)>>p.Bits())
	return b[:]
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
	routes, err := n.routes()
	if err != nil {
		return fmt.Errorf("list the routes of %s: %w", who, err)
	}
	for _, route := range routes {
		for _, p := range addresses {
			if route.Overlaps(p) {
				return fmt.Errorf("%s: %s is %w: %s has a route to %s already, and the wire would take its traffic; choose another network",
					field, p, ErrConflict, who, route)
			}
		}
	}
	return nil
}

// checkWire checks the addresses of one end of a wire.
func (n *namespace) checkWire(l *link, want []netip.Prefix) ([]string, error) {
	list, err := n.prefixes(l.index)
	if err != nil {
		return nil, fmt.Errorf("list the addresses of %s: %w", l.name, err)
	}
	var problems []string
	for _, p := range want {
		if !slices.Contains(list, p) {
			problems = append(problems, fmt.Sprintf("the device %s lacks the address %s", l.name, p))
		}
	}
	return problems, nil
}
