package mirror

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// addVeth makes a veth pair, down: host in this namespace, device in the pod's.
// Both ends carry podtap's group from the start. The library's Veth cannot give
// the peer a group, hence the request by hand.
func (n *namespace) addVeth(host string, pod *namespace, device string, mtu int) error {
	return n.change("make the veth pair "+host+" and "+device, func() error {
		base := func(name string) []*nl.RtAttr {
			return []*nl.RtAttr{
				nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)),
				nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(mtu))),
				nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(deviceGroup)),
			}
		}
		info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
		info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("veth"))
		peer := info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.VETH_INFO_PEER, nil)
		nl.NewIfInfomsgChild(peer, unix.AF_UNSPEC)
		for _, a := range base(device) {
			peer.AddChild(a)
		}
		peer.AddRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(pod.space.Fd())))
		data := []nl.NetlinkRequestData{nl.NewIfInfomsg(unix.AF_UNSPEC)}
		for _, a := range base(host) {
			data = append(data, a)
		}
		_, err := n.request(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK, append(data, info)...)
		return err
	})
}

const (
	// localPort is the UDP port of podtap's VXLAN devices themselves. It is never
	// the wire's: the socket on 4789 or 8472 may be the cluster network's, in a
	// mode that shares with nobody, or that of a collector on this node.
	localPort = 14789
	// Copies leave from these source ports, by which every tap knows a copy and
	// does not copy it again. Linux takes 32768 to 60999 for its own packets by
	// default. The kernel spreads flows over them, the last one left out.
	copySourcePortLow  = 0xff00
	copySourcePortHigh = 0xffff
	// idAttempts bounds the search for a free VXLAN id on localPort.
	idAttempts = 64
)

// addVXLAN makes a VXLAN device, down, whose underlay is this namespace. The
// device appears in the namespace in. Its own id is private to the node, so that
// any number of devices can send the same VNI to the same collector.
func (n *namespace) addVXLAN(name string, in *namespace, c collector) error {
	return n.change("make the VXLAN device "+name, func() error {
		first := binary.BigEndian.Uint32([]byte("\x00" + hash(3, name, c.alias())))
		var err error
		for i := range uint32(idAttempts) {
			_, err = n.request(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK,
				nl.NewIfInfomsg(unix.AF_UNSPEC),
				nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)),
				nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(deviceGroup)),
				nl.NewRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(in.space.Fd()))),
				vxlanInfo((first+i)%(1<<24-1)+1, c))
			if !errors.Is(err, unix.EEXIST) {
				return err
			}
		}
		return fmt.Errorf("no free id on port %d after %d attempts: %w", localPort, idAttempts, err)
	})
}

// iflaVXLANLocalBypass is IFLA_VXLAN_LOCALBYPASS of linux/if_link.h, since 6.5.
const iflaVXLANLocalBypass = 31

// vxlanInfo describes a VXLAN device with a private id.
func vxlanInfo(id uint32, c collector) *nl.RtAttr {
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("vxlan"))
	data := info.AddRtAttr(nl.IFLA_INFO_DATA, nil)
	data.AddRtAttr(nl.IFLA_VXLAN_ID, nl.Uint32Attr(id))
	data.AddRtAttr(nl.IFLA_VXLAN_PORT, bigEndian(localPort))
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

// setDefaultDestination makes a VXLAN device send everything to its collector,
// with the wire's VNI and port: `bridge fdb append 00:00:00:00:00:00 dst REMOTE
// vni VNI port PORT self permanent`.
func (n *namespace) setDefaultDestination(index int, c collector) error {
	return n.change(fmt.Sprintf("point the VXLAN device at %s", c.Remote), func() error {
		_, err := n.request(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_APPEND|unix.NLM_F_ACK,
			&netlink.Ndmsg{
				Family: unix.AF_BRIDGE, Index: uint32(index),
				State: netlink.NUD_PERMANENT | netlink.NUD_NOARP, Flags: netlink.NTF_SELF,
			},
			nl.NewRtAttr(netlink.NDA_LLADDR, make([]byte, 6)),
			nl.NewRtAttr(netlink.NDA_DST, c.Remote.AsSlice()),
			nl.NewRtAttr(netlink.NDA_PORT, bigEndian(c.Port)),
			nl.NewRtAttr(netlink.NDA_VNI, nl.Uint32Attr(c.VNI)),
		)
		return err
	})
}

// destinations are the default destinations of a VXLAN device, by the collector
// that each is; a sound device has exactly one. Their TTL is the device's.
func (n *namespace) destinations(index int) ([]collector, error) {
	messages, err := retryDump(func() ([][]byte, error) {
		return n.request(unix.RTM_GETNEIGH, unix.NLM_F_DUMP,
			&netlink.Ndmsg{Family: unix.AF_BRIDGE, Index: uint32(index)})
	})
	if err != nil {
		return nil, fmt.Errorf("list the VXLAN device's destinations: %w", err)
	}
	var out []collector
	for _, m := range messages {
		if len(m) < unix.SizeofNdMsg || int(binary.NativeEndian.Uint32(m[4:])) != index {
			continue
		}
		attributes, err := nl.ParseRouteAttr(m[unix.SizeofNdMsg:])
		if err != nil {
			return nil, fmt.Errorf("list the VXLAN device's destinations: %w", err)
		}
		c, isDefault := parseDestination(attributes)
		if isDefault {
			out = append(out, c)
		}
	}
	return out, nil
}

func (n *namespace) deleteLink(index int, name string) error {
	return n.change("delete the device "+name, func() error {
		err := n.handle.LinkDel(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: index}})
		if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENOENT) {
			return nil // it went with its peer, or with its namespace
		}
		return err
	})
}

// setAlias gives a device its alias. At creation the kernel ignores one.
func (n *namespace) setAlias(l netlink.Link, alias string) error {
	return n.change("mark the device "+l.Attrs().Name, func() error { return n.handle.LinkSetAlias(l, alias) })
}

// silence readies a device that only carries copies, before it is up: no ARP, no
// IPv6, no addresses of its own, so that it never sends anything by itself, and
// deaf, so that nothing that arrives on it reaches the stack behind it.
func (n *namespace) silence(l netlink.Link) error {
	name := l.Attrs().Name
	err := n.setSysctls(name,
		sysctl{"ipv6", "disable_ipv6", "1"},
		// Should somebody enable IPv6 on all devices later: no link-local address.
		sysctl{"ipv6", "addr_gen_mode", "1"})
	if err != nil {
		return err
	}
	err = n.change("switch off ARP on "+name, func() error { return n.handle.LinkSetARPOff(l) })
	if err != nil {
		return err
	}
	return n.seal(l.Attrs().Index, name)
}

func (n *namespace) setUp(l netlink.Link) error {
	return n.change("set "+l.Attrs().Name+" up", func() error { return n.handle.LinkSetUp(l) })
}

func deviceOf(l netlink.Link) Device {
	a := l.Attrs()
	return Device{Name: a.Name, MAC: a.HardwareAddr.String(), MTU: a.MTU}
}

// findLink returns a device that must exist, with its index and its address.
func (n *namespace) findLink(name string) (netlink.Link, error) {
	l, err := n.linkByName(name)
	if err == nil && l == nil {
		err = fmt.Errorf("device %s has vanished", name)
	}
	return l, err
}

// parseDestination reads an entry of a VXLAN device's forwarding table, and says
// whether it is for every address, not for one.
func parseDestination(attributes []syscall.NetlinkRouteAttr) (c collector, isDefault bool) {
	for _, a := range attributes {
		switch a.Attr.Type {
		case netlink.NDA_LLADDR:
			isDefault = string(a.Value) == "\x00\x00\x00\x00\x00\x00"
		case netlink.NDA_DST:
			if address, ok := netip.AddrFromSlice(a.Value); ok {
				c.Remote = address.Unmap()
			}
		case netlink.NDA_PORT:
			if len(a.Value) == 2 {
				c.Port = binary.BigEndian.Uint16(a.Value)
			}
		case netlink.NDA_VNI:
			if len(a.Value) == 4 {
				c.VNI = binary.NativeEndian.Uint32(a.Value)
			}
		}
	}
	return c, isDefault
}
