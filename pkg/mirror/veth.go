package mirror

import (
	"net"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// end is what one end of a new veth pair is to be.
type end struct {
	name string
	mac  net.HardwareAddr
	mtu  int // bytes
}

// addVeth makes a veth pair, down: host in this namespace, device in the pod's.
// Both ends carry podtap's group and their pod's address from the start, so that
// a pair whose making was cut short is known for what it is. Silent ones do not
// speak ARP, and have one queue in place of the many of a large machine. The
// library's Veth cannot give the peer a group, hence the request by hand.
func (n *namespace) addVeth(host, device end, pod *namespace, silent bool) error {
	return n.change("make the veth pair "+host.name+" and "+device.name, func() error {
		flags := unix.IfInfomsg{Family: unix.AF_UNSPEC}
		if silent {
			flags.Flags, flags.Change = unix.IFF_NOARP, unix.IFF_NOARP
		}
		attributes := func(e end) []*nl.RtAttr {
			list := []*nl.RtAttr{
				nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(e.name)),
				nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(uint32(e.mtu))),
				nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(deviceGroup)),
				nl.NewRtAttr(unix.IFLA_ADDRESS, e.mac),
			}
			if silent {
				list = append(list, nl.NewRtAttr(unix.IFLA_NUM_TX_QUEUES, nl.Uint32Attr(1)), nl.NewRtAttr(unix.IFLA_NUM_RX_QUEUES, nl.Uint32Attr(1)))
			}
			return list
		}
		info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
		info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("veth"))
		peer := info.AddRtAttr(nl.IFLA_INFO_DATA, nil).AddRtAttr(nl.VETH_INFO_PEER, nil)
		peer.AddChild(&nl.IfInfomsg{IfInfomsg: flags})
		for _, a := range attributes(device) {
			peer.AddChild(a)
		}
		peer.AddRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(pod.space.Fd())))
		data := []nl.NetlinkRequestData{&nl.IfInfomsg{IfInfomsg: flags}}
		for _, a := range attributes(host) {
			data = append(data, a)
		}
		return n.request(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, append(data, info)...)
	})
}
