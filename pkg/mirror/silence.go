package mirror

import (
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	// mirrorMTU is the MTU of the node's end of a mirror's veth, in bytes: the most
	// that one can have. A veth drops what exceeds the MTU of its other end, as it
	// would after somebody raised the pod's.
	mirrorMTU = 65535
	// quietMTU is that of all other devices that only carry copies. What mirred
	// hands to a device may exceed its MTU; and to one with less than IPv6's minimum
	// of 1280 bytes the kernel gives no IPv6 at all. Its sysctl does the same, but
	// to write that one can take very long on a busy node: the kernel does not
	// wait in line for the lock that it needs, but tries again and again.
	quietMTU = 1279
)

// silence readies a device that only carries copies, before it is up, so that it
// never sends anything by itself, and is deaf: nothing that arrives on it reaches
// the stack behind it. It was made without ARP and, but for the node's end of a
// veth, without IPv6; where somebody has changed that, it is put right.
func (n *namespace) silence(l *link, mtu int) error {
	if mtu >= ipv6MTU {
		err := n.setSysctls(l.name,
			sysctl{"ipv6", "disable_ipv6", "1"},
			// Should somebody enable IPv6 on all devices later: no link-local address.
			sysctl{"ipv6", "addr_gen_mode", "1"})
		if err != nil {
			return err
		}
	}
	if l.flags&unix.IFF_NOARP == 0 || l.mtu != mtu {
		err := n.setLink("silence "+l.name, l.index, unix.IFF_NOARP, unix.IFF_NOARP, nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(mtu))))
		if err != nil {
			return err
		}
	}
	return n.seal(l.index, l.name)
}

// ipv6MTU is the least that IPv6 works with, in bytes (RFC 8200, section 5).
const ipv6MTU = 1280
