package mirror

import (
	"errors"
	"fmt"

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
