package mirror

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/pkg/tap"
)

// overhead is what VXLAN adds to a packet, in bytes: the inner Ethernet header
// (14), VXLAN (8), UDP (8), and the outer IP header (20 or 40).
func overhead(v *tap.VXLAN) int {
	if v.Remote.Is4() {
		return 50
	}
	return 70
}

// checkPath looks at the path to the collector: whether it leads to one host, and
// whether it takes the pod's packets with VXLAN's overhead.
func (b *builder) checkPath() error {
	v := b.tap.VXLAN
	need := b.tapped.mtu + overhead(v)
	path, err := b.node.pathMTU(v)
	switch {
	case errors.Is(err, ErrForbidden):
		return err
	case err != nil && v.Oversize == tap.Refuse:
		return fmt.Errorf("vxlan.oversize: refuse cannot be kept: the path to %s has no known MTU: %w: %w", v.Remote, ErrMTU, err)
	case err != nil:
		b.made.Warnings = append(b.made.Warnings, fmt.Sprintf("the node has no route to the collector %s now: %v", v.Remote, err))
	case need > path && v.Oversize == tap.Refuse:
		return fmt.Errorf("vxlan.oversize: a copy %w: %s has MTU %d, which with %d bytes of VXLAN is %d, and the path to %s takes %d; "+
			"lower the pod's MTU, raise the underlay's, or use placement node with oversize fit",
			ErrMTU, b.tap.Interface, b.tapped.mtu, overhead(v), need, v.Remote, path)
	}
	b.path = path
	if !fits(v) {
		b.warnOfOversize(nil)
	}
	return nil
}

// warnOfOversize warns of copies that do not fit the path, and that nothing makes fit: for a
// reason, if the tap would have had them so.
func (b *builder) warnOfOversize(reason error) {
	v := b.tap.VXLAN
	oversized := b.path > 0 && b.tapped.mtu+overhead(v) > b.path
	what := fmt.Sprintf("copies of packets above %d bytes", b.path-overhead(v))
	switch {
	case oversized && v.Remote.Is6():
		b.warn(reason, "%s will be lost: over IPv6 the kernel does not fragment VXLAN, and the path to %s takes %d", what, v.Remote, b.path)
	case oversized && reason != nil:
		b.warn(reason, "%s go in IP fragments", what)
	case reason != nil:
		b.warn(reason, "copies will not be made to fit, should the path to %s become narrower", v.Remote)
	}
}

func (b *builder) warn(reason error, format string, args ...any) {
	warning := fmt.Sprintf(format, args...)
	if reason != nil {
		warning += ": " + reason.Error()
	}
	b.made.Warnings = append(b.made.Warnings, warning)
}

// pathMTU is the most that one packet to the collector may have, in bytes. It
// wraps ErrForbidden for an address that the node's routes know for many hosts'.
func (n *Node) pathMTU(v *tap.VXLAN) (int, error) {
	to, err := n.routeTo(v.Remote)
	if err != nil {
		return 0, err
	}
	switch to.kind {
	case unix.RTN_BROADCAST, unix.RTN_MULTICAST, unix.RTN_ANYCAST:
		return 0, fmt.Errorf("vxlan.remote: %s is %w: on this node's networks it is a broadcast, multicast or anycast address, "+
			"and copies would reach others than a collector; use the collector's own address", v.Remote, ErrForbidden)
	}
	l, err := n.linkByIndex(to.device)
	if err != nil {
		return 0, err
	}
	if l == nil {
		return 0, errors.New("the route's device has vanished")
	}
	if to.mtu > 0 {
		return min(l.mtu, to.mtu), nil
	}
	return l.mtu, nil
}

// route is the one that the kernel would use to an address.
type route struct {
	kind   uint8 // RTN_…
	device int   // index
	mtu    int   // bytes, 0 where the route has none of its own
	told   bool  // somebody has told of it, and it is forgotten some time
}

func (n *namespace) routeTo(address netip.Addr) (route, error) {
	family := uint8(unix.AF_INET)
	if address.Is6() {
		family = unix.AF_INET6
	}
	ask := func(flags uint32) (route, error) {
		message := &nl.RtMsg{RtMsg: unix.RtMsg{Family: family, Dst_len: uint8(address.BitLen()), Flags: flags}}
		found, err := query(n, unix.RTM_GETROUTE, 0, parseRoute, message, nl.NewRtAttr(unix.RTA_DST, address.AsSlice()))
		if err == nil && len(found) == 0 {
			err = errors.New("no route")
		}
		if err != nil {
			return route{}, err
		}
		return found[0], nil
	}
	r, err := ask(0)
	// What somebody has told of an IPv4 path need not be true: the kernel believes ICMP errors
	// about packets that it does not remember. It makes fragments of what exceeds it, and
	// nothing is lost. Over IPv6 it does not, and below 1280 bytes it believes nobody.
	if err == nil && r.told && address.Is4() {
		return ask(fibMatch)
	}
	return r, err
}

// fibMatch is RTM_F_FIB_MATCH of linux/rtnetlink.h, since 4.13: the route as it was set up.
const fibMatch = 0x2000

// parseRoute reads an RTM_NEWROUTE message.
func parseRoute(message []byte) (r route, ok bool, err error) {
	if len(message) < unix.SizeofRtMsg {
		return r, false, errors.New("short message")
	}
	r.kind = message[7]
	for kind, value := range attributes(message[unix.SizeofRtMsg:]) {
		switch kind {
		case unix.RTA_CACHEINFO: // struct rta_cacheinfo; the third number is when it expires
			r.told = len(value) >= 12 && number(value[8:]) != 0
		case unix.RTA_MULTIPATH: // of several ways the first; struct rtnexthop has its device second
			if r.device == 0 && len(value) >= 8 {
				r.device = int(number(value[4:]))
			}
		case unix.RTA_OIF:
			r.device = int(number(value))
		case unix.RTA_METRICS:
			for metric, value := range attributes(value) {
				if metric == unix.RTAX_MTU {
					r.mtu = int(number(value))
				}
			}
		}
	}
	return r, true, nil
}
