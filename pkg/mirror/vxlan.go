package mirror

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/pkg/tap"
)

const (
	// firstLocalPort and lastLocalPort are the UDP ports of podtap's VXLAN devices
	// themselves; one is used that nobody else on the node has. It is never the
	// wire's: the socket on 4789 or 8472 may be the cluster network's, in a mode
	// that shares with nobody, or that of a collector on this node.
	firstLocalPort = 14789
	lastLocalPort  = 14796
	// Copies leave from these source ports, by which every tap knows a copy and
	// does not copy it again. Linux takes 32768 to 60999 for its own packets by
	// default. The kernel spreads flows over them, the last one left out.
	copySourcePortLow  = 0xff00
	copySourcePortHigh = 0xffff
	// idAttempts bounds the search for a free VXLAN id on a local port.
	idAttempts = 64
)

// makeVXLAN makes a VXLAN device that sends to a collector, silent, sealed and
// up. Its underlay is this namespace; the device appears in the namespace in.
func (n *namespace) makeVXLAN(e end, in *namespace, c collector) (*link, error) {
	for port := uint16(firstLocalPort); ; port++ {
		l, err := n.tryVXLAN(e, in, c, port)
		if err == nil {
			return l, nil
		}
		if l != nil {
			err = errors.Join(err, in.deleteLink(l.index, e.name))
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			return nil, err
		}
		if port == lastLocalPort {
			return nil, fmt.Errorf("other programs of the node hold the UDP ports %d to %d, and one must be free: %w", firstLocalPort, lastLocalPort, err)
		}
	}
}

// tryVXLAN makes the device on one local port. Where it fails, it returns the
// device, if it is there.
func (n *namespace) tryVXLAN(e end, in *namespace, c collector, port uint16) (*link, error) {
	if err := n.addVXLAN(e, in, c, port); err != nil {
		return nil, err
	}
	l, err := in.findLink(e.name)
	if err != nil {
		return nil, err
	}
	if err := in.silence(l, quietMTU); err != nil {
		return l, err
	}
	if err := in.addDestination(l.index, c); err != nil {
		return l, err
	}
	return l, in.setUp(l)
}

// addVXLAN makes the bare device. Its own id is private to the node, so that any
// number of devices can send the same VNI to the same collector; it is chosen at
// random, so that nobody can foresee it or use up those that others will need.
func (n *namespace) addVXLAN(e end, in *namespace, c collector, port uint16) error {
	return n.change("make the VXLAN device "+e.name, func() error {
		message := nl.NewIfInfomsg(unix.AF_UNSPEC)
		message.Flags, message.Change = unix.IFF_NOARP, unix.IFF_NOARP
		data := []nl.NetlinkRequestData{message,
			nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(e.name)),
			nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(deviceGroup)),
			nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(quietMTU)),
			nl.NewRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(in.space.Fd())))}
		if e.mac != nil {
			data = append(data, nl.NewRtAttr(unix.IFLA_ADDRESS, e.mac))
		}
		var err error
		for range idAttempts {
			err = n.request(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL,
				append(data[:len(data):len(data)], vxlanInfo(rand.Uint32N(tap.MaxVNI)+1, port, c))...)
			if !errors.Is(err, unix.EEXIST) {
				return err
			}
			// The name, or the id.
			if l, find := in.linkByName(e.name); find != nil || l != nil {
				return errors.Join(err, find)
			}
		}
		return fmt.Errorf("no free id on port %d after %d attempts: %w", port, idAttempts, err)
	})
}

// iflaVXLANLocalBypass is IFLA_VXLAN_LOCALBYPASS of linux/if_link.h, since 6.5.
const iflaVXLANLocalBypass = 31

// vxlanInfo describes a VXLAN device with a private id.
func vxlanInfo(id uint32, port uint16, c collector) *nl.RtAttr {
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("vxlan"))
	data := info.AddRtAttr(nl.IFLA_INFO_DATA, nil)
	data.AddRtAttr(nl.IFLA_VXLAN_ID, nl.Uint32Attr(id))
	data.AddRtAttr(nl.IFLA_VXLAN_PORT, bigEndian(port))
	data.AddRtAttr(nl.IFLA_VXLAN_PORT_RANGE, append(bigEndian(copySourcePortLow), bigEndian(copySourcePortHigh)...))
	data.AddRtAttr(nl.IFLA_VXLAN_TTL, []byte{c.TTL})
	data.AddRtAttr(nl.IFLA_VXLAN_LEARNING, []byte{0})
	// To an address of the node itself the kernel would hand a frame over to the
	// VXLAN device of that port and id, and drop it where there is none, but for
	// this; older kernels ignore it.
	data.AddRtAttr(iflaVXLANLocalBypass, []byte{0})
	// No remote here: the default entry that the kernel would make of it has the
	// device's own id and port. The unspecified local address only tells the
	// family; which one is used, the route says.
	if c.Remote.Is4() {
		data.AddRtAttr(nl.IFLA_VXLAN_LOCAL, make([]byte, 4))
	} else {
		data.AddRtAttr(nl.IFLA_VXLAN_LOCAL6, make([]byte, 16))
	}
	return info
}

func bigEndian(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }

// addDestination makes a VXLAN device send everything to a collector, with the
// wire's VNI and port: `bridge fdb append 00:00:00:00:00:00 dst REMOTE vni VNI
// port PORT self permanent`.
func (n *namespace) addDestination(index int, c collector) error {
	return n.change(fmt.Sprintf("point the VXLAN device at %s", c.Remote), func() error {
		return n.destination(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_APPEND, index, c)
	})
}

// setDestination makes a collector a VXLAN device's only default destination.
func (n *namespace) setDestination(index int, c collector) error {
	now, err := n.destinations(index)
	if err != nil {
		return err
	}
	c.TTL = 0
	for _, d := range now {
		if d == c {
			continue
		}
		err := n.change(fmt.Sprintf("point the VXLAN device away from %s", d.Remote), func() error {
			return ignoreGone(n.destination(unix.RTM_DELNEIGH, 0, index, d))
		})
		if err != nil {
			return err
		}
	}
	if slices.Contains(now, c) {
		return nil
	}
	return n.addDestination(index, c)
}

// destination adds or deletes a default destination. The kernel leaves out of a
// dump the port and the id that are the device's own, and expects the same here.
func (n *namespace) destination(kind, flags, index int, c collector) error {
	data := []nl.NetlinkRequestData{
		&netlink.Ndmsg{
			Family: unix.AF_BRIDGE, Index: uint32(index),
			State: netlink.NUD_PERMANENT | netlink.NUD_NOARP, Flags: netlink.NTF_SELF,
		},
		nl.NewRtAttr(netlink.NDA_LLADDR, make([]byte, 6)),
		nl.NewRtAttr(netlink.NDA_DST, c.Remote.AsSlice()),
	}
	if c.Port != 0 {
		data = append(data, nl.NewRtAttr(netlink.NDA_PORT, bigEndian(c.Port)))
	}
	if c.VNI != 0 {
		data = append(data, nl.NewRtAttr(netlink.NDA_VNI, nl.Uint32Attr(c.VNI)))
	}
	return n.request(kind, flags, data...)
}

// destinations are the default destinations of a VXLAN device, by the collector
// that each is; a sound device has exactly one. Their TTL is the device's.
func (n *namespace) destinations(index int) ([]collector, error) {
	list, err := query(n, unix.RTM_GETNEIGH, unix.NLM_F_DUMP, func(m []byte) (collector, bool, error) {
		if len(m) < unix.SizeofNdMsg || int(binary.NativeEndian.Uint32(m[4:])) != index {
			return collector{}, false, nil
		}
		c, isDefault := parseDestination(m[unix.SizeofNdMsg:])
		return c, isDefault, nil
	}, &netlink.Ndmsg{Family: unix.AF_BRIDGE, Index: uint32(index)})
	if err != nil {
		return nil, fmt.Errorf("list the VXLAN device's destinations: %w", err)
	}
	return list, nil
}

// parseDestination reads an entry of a VXLAN device's forwarding table, and says
// whether it is for every address, not for one.
func parseDestination(b []byte) (c collector, isDefault bool) {
	for kind, value := range attributes(b) {
		switch kind {
		case netlink.NDA_LLADDR:
			isDefault = string(value) == "\x00\x00\x00\x00\x00\x00"
		case netlink.NDA_DST:
			if address, ok := netip.AddrFromSlice(value); ok {
				c.Remote = address.Unmap()
			}
		case netlink.NDA_PORT:
			if len(value) == 2 {
				c.Port = binary.BigEndian.Uint16(value)
			}
		case netlink.NDA_VNI:
			if len(value) == 4 {
				c.VNI = binary.NativeEndian.Uint32(value)
			}
		}
	}
	return c, isDefault
}

// parseVXLAN reads IFLA_INFO_DATA of a VXLAN device.
func parseVXLAN(b []byte) (d vxlanDetails) {
	for kind, value := range attributes(b) {
		switch {
		case kind == nl.IFLA_VXLAN_ID:
			d.id = number(value)
		case kind == nl.IFLA_VXLAN_PORT && len(value) == 2:
			d.port = binary.BigEndian.Uint16(value)
		case kind == nl.IFLA_VXLAN_TTL && len(value) == 1:
			d.ttl = value[0]
		case kind == nl.IFLA_VXLAN_FLOWBASED && len(value) == 1:
			d.external = value[0] != 0
		}
	}
	return d
}
