package mirror

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// link is a network device, as far as podtap needs to know it.
type link struct {
	index    int
	name     string
	alias    string
	kind     string // veth, vxlan, …; "" for hardware
	group    uint32
	flags    uint32 // IFF_…
	mtu      int    // bytes
	queue    int    // length of the transmit queue, in packets
	ready    bool   // it is up and its carrier is noticed: operational state up
	hardware uint16 // ARPHRD_…
	address  net.HardwareAddr
	peer     int // of a veth: the index of its other end, where that is
	// peerSpace is the number that this namespace has for that of the other end;
	// -1 where there is none.
	peerSpace int
	vxlan     vxlanDetails
	xdp       uint32       // the number of its XDP program, 0 for none
	counts    deviceCounts // where they were asked for
}

// vxlanDetails are what a VXLAN device tells of itself.
type vxlanDetails struct {
	id       uint32
	port     uint16
	ttl      uint8
	external bool // it has no id of its own
}

// deviceCounts are some of a device's counters, of struct rtnl_link_stats64.
type deviceCounts struct {
	sentPackets, sentBytes, sendErrors, sendDropped, noCarrier uint64
}

func (l *link) up() bool       { return l.flags&unix.IFF_UP != 0 }
func (l *link) device() Device { return Device{Name: l.name, MAC: l.address.String(), MTU: l.mtu} }

const (
	skipStatistics = 8 // RTEXT_FILTER_SKIP_STATS of linux/rtnetlink.h
	// withStatistics is RTEXT_FILTER_BRVLAN, which asks for nothing that these
	// devices have. Without any flag the kernel ends a list at a device that is too
	// large for 8 KiB, and does not say so.
	withStatistics = 2
	operationalUp  = 6 // IF_OPER_UP of linux/if.h
)

// links lists the namespace's devices.
func (n *namespace) links() ([]*link, error) { return n.linksOf("", skipStatistics) }

// linksOf lists the devices of a kind, or of all; mask are RTEXT_FILTER_ flags.
func (n *namespace) linksOf(kind string, mask uint32) ([]*link, error) {
	data := []nl.NetlinkRequestData{nl.NewIfInfomsg(unix.AF_UNSPEC), nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(mask))}
	if kind != "" {
		info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
		info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated(kind))
		data = append(data, info)
	}
	seen := map[int]*link{}
	for range linkAttempts {
		links, err := queryOnce(n, unix.RTM_GETLINK, unix.NLM_F_DUMP, parseLink, data...)
		if err == nil {
			return links, nil
		}
		if !errors.Is(err, errDumpInterrupted) {
			return nil, fmt.Errorf("list devices: %w", err)
		}
		for _, l := range links {
			seen[l.index] = l
		}
	}
	return slices.SortedFunc(maps.Values(seen), func(a, b *link) int { return a.index - b.index }), nil
}

// linkAttempts bounds the repetitions of a list of devices during which others come
// or go, as they do all the time where a runtime starts many pods. All attempts
// together have every device that was there throughout: a kernel before 6.9 may
// pass over one in one of them. One that has gone meanwhile harms nobody.
const linkAttempts = 3

// linkByName is nil without an error where there is no such device.
func (n *namespace) linkByName(name string) (*link, error) {
	return n.oneLink(name, nl.NewIfInfomsg(unix.AF_UNSPEC), nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
}

// linkByIndex is nil without an error where there is no such device.
func (n *namespace) linkByIndex(index int) (*link, error) {
	message := nl.NewIfInfomsg(unix.AF_UNSPEC)
	message.Index = int32(index)
	return n.oneLink(fmt.Sprintf("number %d", index), message)
}

func (n *namespace) oneLink(what string, data ...nl.NetlinkRequestData) (*link, error) {
	found, err := query(n, unix.RTM_GETLINK, 0, parseLink, append(data, nl.NewRtAttr(unix.IFLA_EXT_MASK, nl.Uint32Attr(skipStatistics)))...)
	if errors.Is(err, unix.ENODEV) || err == nil && len(found) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for the device %s: %w", what, err)
	}
	return found[0], nil
}

// findLink returns a device that must exist.
func (n *namespace) findLink(name string) (*link, error) {
	l, err := n.linkByName(name)
	if err == nil && l == nil {
		err = fmt.Errorf("device %s has vanished", name)
	}
	return l, err
}

// parseLink reads an RTM_NEWLINK message.
func parseLink(message []byte) (*link, bool, error) {
	if len(message) < unix.SizeofIfInfomsg {
		return nil, false, errors.New("short message")
	}
	l := &link{
		hardware: binary.NativeEndian.Uint16(message[2:]),
		index:    int(int32(binary.NativeEndian.Uint32(message[4:]))),
		flags:    binary.NativeEndian.Uint32(message[8:]),

		peerSpace: -1,
	}
	for kind, value := range attributes(message[unix.SizeofIfInfomsg:]) {
		switch kind {
		case unix.IFLA_IFNAME:
			l.name = unix.ByteSliceToString(value)
		case unix.IFLA_IFALIAS:
			l.alias = unix.ByteSliceToString(value)
		case unix.IFLA_ADDRESS:
			l.address = append(net.HardwareAddr(nil), value...)
		case unix.IFLA_GROUP:
			l.group = number(value)
		case unix.IFLA_MTU:
			l.mtu = int(number(value))
		case unix.IFLA_TXQLEN:
			l.queue = int(number(value))
		case unix.IFLA_LINK:
			l.peer = int(number(value))
		case unix.IFLA_LINK_NETNSID:
			l.peerSpace = int(int32(number(value)))
		case unix.IFLA_OPERSTATE:
			l.ready = len(value) == 1 && value[0] == operationalUp
		case unix.IFLA_LINKINFO:
			l.parseInfo(value)
		case unix.IFLA_XDP:
			for kind, value := range attributes(value) {
				if kind == xdpProgram {
					l.xdp = number(value)
				}
			}
		case unix.IFLA_STATS64:
			l.counts = parseCounts(value)
		}
	}
	return l, true, nil
}

func (l *link) parseInfo(value []byte) {
	for kind, value := range attributes(value) {
		switch kind {
		case nl.IFLA_INFO_KIND:
			l.kind = unix.ByteSliceToString(value)
		case nl.IFLA_INFO_DATA:
			if l.kind == "vxlan" { // the kind comes first
				l.vxlan = parseVXLAN(value)
			}
		}
	}
}

// parseCounts reads a struct rtnl_link_stats64.
func parseCounts(value []byte) deviceCounts {
	at := func(i int) uint64 {
		if len(value) < 8*i+8 {
			return 0
		}
		return binary.NativeEndian.Uint64(value[8*i:])
	}
	return deviceCounts{sentPackets: at(1), sentBytes: at(3), sendErrors: at(5), sendDropped: at(7), noCarrier: at(17)}
}

// number reads a 32-bit number, 0 where it is none.
func number(value []byte) uint32 {
	if len(value) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(value)
}

// setLink changes a device: the flags of which change are set become those of
// flags, and attributes are set.
func (n *namespace) setLink(what string, index int, change, flags uint32, attributes ...*nl.RtAttr) error {
	return n.change(what, func() error {
		message := nl.NewIfInfomsg(unix.AF_UNSPEC)
		message.Index, message.Change, message.Flags = int32(index), change, flags
		data := []nl.NetlinkRequestData{message}
		for _, a := range attributes {
			data = append(data, a)
		}
		return n.request(unix.RTM_SETLINK, 0, data...)
	})
}

func aliasAttribute(alias string) *nl.RtAttr {
	return nl.NewRtAttr(unix.IFLA_IFALIAS, []byte(alias))
}

// setAlias gives a device its alias. At creation the kernel ignores one.
func (n *namespace) setAlias(l *link, alias string) error {
	return n.setLink("mark the device "+l.name, l.index, 0, 0, aliasAttribute(alias))
}

// markAndSetUp gives a device its alias, and sets it up.
func (n *namespace) markAndSetUp(l *link, alias string) error {
	return n.setLink("mark the device "+l.name+" and set it up", l.index, unix.IFF_UP, unix.IFF_UP, aliasAttribute(alias))
}

func (n *namespace) setUp(l *link) error {
	return n.setLink("set "+l.name+" up", l.index, unix.IFF_UP, unix.IFF_UP)
}
