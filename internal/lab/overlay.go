package lab

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Overlay is how a cluster network carries packets between its nodes: VXLAN devices
// that learn nothing, because each is told where the others are.
type Overlay struct {
	Device string
	ID     int // 0: external mode, where each route says VNI and node
	Port   int
}

// externalVNI is the VNI of an overlay in external mode.
const externalVNI = 7

// overhead is what VXLAN over IPv4 takes of an overlay's MTU, in bytes.
const overhead = 50

// Join makes an overlay of hosts, over IPv4: routes to each other's pods lead into
// the device, as flannel, Calico and Cilium have them.
func (o Overlay) Join(hosts ...*Host) {
	for _, h := range hosts {
		h.VXLAN(o.Device, o.ID, o.Port)
		h.MTU(o.Device, h.mtu-overhead)
		h.Sysctl("ipv6", o.Device, "disable_ipv6", "0")
		h.Address(o.Device, fmt.Sprintf("198.18.%d.0/32", 100+h.number))
	}
	for _, h := range hosts {
		for _, other := range hosts {
			if other != h {
				o.reach(h, other)
			}
		}
	}
}

// reach tells a host of another one's device and pods.
func (o Overlay) reach(h, other *Host) {
	h.t.Helper()
	index, mac := h.Link(o.Device).Attrs().Index, other.Link(o.Device).Attrs().HardwareAddr
	do := func(what string, err error) {
		h.t.Helper()
		if err != nil {
			h.t.Fatalf("in %s: overlay %s to %s: %s: %v", h.Name, o.Device, other.Name, what, err)
		}
	}
	if o.ID != 0 {
		do("forwarding entry", h.Netlink.NeighSet(&netlink.Neigh{LinkIndex: index, Family: unix.AF_BRIDGE, State: netlink.NUD_PERMANENT,
			Flags: netlink.NTF_SELF, HardwareAddr: mac, IP: net.ParseIP(other.IPv4())}))
	}
	for via, pods := range map[string]string{
		fmt.Sprintf("198.18.%d.0", 100+other.number): fmt.Sprintf("198.18.%d.0/24", 100+other.number),
		fmt.Sprintf("fd00:18:%d::ff", other.number):  fmt.Sprintf("fd00:18:%d::/64", other.number),
	} {
		do("neighbour "+via, h.Netlink.NeighSet(&netlink.Neigh{LinkIndex: index, State: netlink.NUD_PERMANENT, HardwareAddr: mac, IP: net.ParseIP(via)}))
		_, network, err := net.ParseCIDR(pods)
		do("route to "+pods, err)
		r := &netlink.Route{LinkIndex: index, Dst: network, Gw: net.ParseIP(via), Flags: int(netlink.FLAG_ONLINK)}
		if o.ID == 0 {
			r.Encap = tunnel{vni: externalVNI, to: netip.MustParseAddr(other.IPv4())}
		}
		do("route to "+pods, h.Netlink.RouteAdd(r))
	}
}

// tunnel is the word of a route for a device in external mode: ip route … encap ip
// id VNI dst ADDRESS.
type tunnel struct {
	vni uint64
	to  netip.Addr
}

// LWTUNNEL_ENCAP_IP and its attributes, of linux/lwtunnel.h.
const (
	encapIP   = 2
	encapID   = 1
	encapDest = 2
)

func (e tunnel) Type() int           { return encapIP }
func (e tunnel) Decode([]byte) error { return nil }
func (e tunnel) String() string      { return fmt.Sprintf("id %d dst %s", e.vni, e.to) }
func (e tunnel) Equal(other netlink.Encap) bool {
	return other == netlink.Encap(e)
}

func (e tunnel) Encode() ([]byte, error) {
	id := nl.NewRtAttr(encapID, binary.BigEndian.AppendUint64(nil, e.vni))
	return append(id.Serialize(), nl.NewRtAttr(encapDest, e.to.AsSlice()).Serialize()...), nil
}

// RoutedPod adds a pod as Calico makes it: no bridge, addresses without neighbours,
// and a gateway that is nobody's, for which the host's end of the cable answers.
func (h *Host) RoutedPod(name string, mtu int) *Pod {
	h.t.Helper()
	const gateway4, gateway6 = "169.254.1.1", "fe80::1"
	if h.pods == 0 {
		// A proxy answers for what it has a route to, on another device.
		h.Route("", "198.18.0.254")
	}
	h.pods++
	p := &Pod{Space: NewSpace(h.t, h.Name+"-"+name), Host: h, Port: fmt.Sprintf("cali%d", h.pods),
		IPv4: fmt.Sprintf("198.18.%d.%d", 100+h.number, 1+h.pods), IPv6: fmt.Sprintf("fd00:18:%d::%d", h.number, 1+h.pods)}
	Cable(h.Space, p.Port, p.Space, "eth0", mtu)
	h.Sysctl("ipv4", p.Port, "proxy_arp", "1")
	h.Do(func() error { // else the answer comes up to 0.8 s later
		return os.WriteFile("/proc/sys/net/ipv4/neigh/"+p.Port+"/proxy_delay", []byte("0"), 0)
	})
	h.Address(p.Port, gateway6+"/64")
	p.Address("eth0", p.IPv4+"/32", p.IPv6+"/128")
	at, inPod := h.Link(p.Port).Attrs().Index, p.Link("eth0").Attrs().Index
	route := func(s *Space, r *netlink.Route) {
		h.t.Helper()
		if err := s.Netlink.RouteAdd(r); err != nil {
			h.t.Fatalf("in %s: route %s: %v", s.Name, r, err)
		}
	}
	route(h.Space, &netlink.Route{LinkIndex: at, Dst: netlink.NewIPNet(net.ParseIP(p.IPv4)), Scope: netlink.SCOPE_LINK})
	route(h.Space, &netlink.Route{LinkIndex: at, Dst: netlink.NewIPNet(net.ParseIP(p.IPv6))})
	route(p.Space, &netlink.Route{LinkIndex: inPod, Dst: netlink.NewIPNet(net.ParseIP(gateway4)), Scope: netlink.SCOPE_LINK})
	route(p.Space, &netlink.Route{LinkIndex: inPod, Dst: &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}, Gw: net.ParseIP(gateway4)})
	route(p.Space, &netlink.Route{LinkIndex: inPod, Dst: &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}, Gw: net.ParseIP(gateway6)})
	return p
}
