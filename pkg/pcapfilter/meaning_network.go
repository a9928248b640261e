package pcapfilter

import (
	"net/netip"

	"github.com/podtap/podtap/pkg/pcapfilter/internal/graph"
)

// host4 asks for an IPv4 address, or network, or a DECnet address.
func (m *meaning) host4(e match) *graph.Formula {
	if e.protocol == decnet && e.mask.kind == endOfText {
		return m.decnetHost(e)
	}
	address, mask := m.address4(e)
	in := func(protocol, source, destination uint32) *graph.Formula {
		return m.either(e.direction, func(toDestination bool) *graph.Formula {
			at := source
			if toDestination {
				at = destination
			}
			return graph.AllOf(m.carries(protocol, e.value), m.masked(m.networkField(at, 4), mask, address))
		})
	}
	switch e.protocol {
	case noProtocol:
		f := in(typeIP, 12, 16)
		if m.labels > 0 {
			return f
		}
		return graph.AnyOf(f, in(typeARP, 14, 24), in(typeRARP, 14, 24))
	case ip:
		return in(typeIP, 12, 16)
	case arp:
		return in(typeARP, 14, 24)
	case rarp:
		return in(typeRARP, 14, 24)
	case ip6:
		m.mistake(e.value, "this is an IPv4 address, and ip6 has no such")
	case link:
		m.mistake(e.value, "an address of ether has six bytes: aa:bb:cc:dd:ee:ff")
	}
	m.mistake(e.value, "addresses go with ip, arp, rarp and ip6; write %s and host", e.at.text)
	return nil
}

// address4 is the value's address and mask.
func (m *meaning) address4(e match) (address, mask uint32) {
	const all = 1<<32 - 1
	if e.value.kind == number {
		address, mask = e.value.number, all
		for e.kind == network && address != 0 && address < 1<<24 {
			address, mask = address<<8, mask<<8
		}
		return address, mask
	}
	address, bits, ok := parseIPv4(e.value.text)
	if !ok {
		m.mistake(e.value, "not an IPv4 address: each number is decimal and at most 255")
	}
	mask = all << (32 - bits)
	switch e.mask.kind {
	case number:
		if e.mask.number > 32 {
			m.mistake(e.mask, "the length of an IPv4 prefix is at most 32")
		}
		mask = uint32(uint64(all) << (32 - e.mask.number))
	case ipv4:
		if mask, _, ok = parseIPv4(e.mask.text); !ok {
			m.mistake(e.mask, "not a mask: each number is decimal and at most 255")
		}
	}
	if address&^mask != 0 {
		m.mistake(e.value, "the address has bits outside of the mask; this network begins at %s", netip.AddrFrom4(
			[4]byte{byte(address & mask >> 24), byte(address & mask >> 16), byte(address & mask >> 8), byte(address & mask)}))
	}
	return address, mask
}

// host6 asks for an IPv6 address or network.
func (m *meaning) host6(e match) *graph.Formula {
	if e.protocol != noProtocol && e.protocol != ip6 {
		m.mistake(e.value, "this is an IPv6 address, and %s has no such", e.at.text)
	}
	address, _ := netip.ParseAddr(e.value.text) // the token is one
	prefix := netip.PrefixFrom(address, 128)
	if e.mask.kind != endOfText {
		if e.mask.number > 128 {
			m.mistake(e.mask, "the length of an IPv6 prefix is at most 128")
		}
		prefix = netip.PrefixFrom(address, int(e.mask.number))
		if prefix.Masked().Addr().As16() != address.As16() {
			m.mistake(e.value, "the address has bits outside of the prefix; this network begins at %s", prefix.Masked().Addr())
		}
	}
	return m.either(e.direction, func(destination bool) *graph.Formula {
		at := uint32(8)
		if destination {
			at = 24
		}
		parts := []*graph.Formula{m.carries(typeIP6, e.value)}
		bytes := address.As16()
		for i := range uint32(4) {
			bits := min(32, max(0, prefix.Bits()-32*int(i)))
			word := uint32(bytes[4*i])<<24 | uint32(bytes[4*i+1])<<16 | uint32(bytes[4*i+2])<<8 | uint32(bytes[4*i+3])
			parts = append(parts, m.masked(m.networkField(at+4*i, 4), uint32(uint64(1<<32-1)<<(32-bits)), word))
		}
		return graph.AllOf(parts[0], parts[1:]...)
	})
}

// decnetHost asks for an address of DECnet, area.node, in long and short headers, each
// with a byte of padding or without (Digital's routing specification, phase IV).
func (m *meaning) decnetHost(e match) *graph.Formula {
	address := e.value.number
	if e.value.kind == ipv4 {
		area, node, ok := decnetAddress(e.value.text)
		if !ok {
			m.mistake(e.value, "an address of DECnet is AREA.NODE")
		}
		address = area<<10&0xfc00 | node&0x3ff
	}
	swapped := address&0xff<<8 | address>>8&0xff
	return m.either(e.direction, func(destination bool) *graph.Formula {
		short, long := uint32(3), uint32(15)
		if destination {
			short, long = 1, 7
		}
		padded := func(flags, at uint32) *graph.Formula {
			return graph.AllOf(m.masked(m.networkField(2, 2), 0xff07, 0x8100|flags), m.equal(m.networkField(2+1+at, 2), swapped))
		}
		plain := func(flags, at uint32) *graph.Formula {
			return graph.AllOf(m.masked(m.networkField(2, 1), 0x7, flags), m.equal(m.networkField(2+at, 2), swapped))
		}
		longs := graph.AnyOf(plain(0x06, long), padded(0x06, long))
		return graph.AllOf(m.carries(typeDECnet, e.value),
			graph.AnyOf(plain(0x02, short), graph.AnyOf(padded(0x02, short), longs)))
	})
}

// Numbers of protocols over IP (IANA's register).
const (
	protoICMP     = 1
	protoIGMP     = 2
	protoTCP      = 6
	protoIGRP     = 9
	protoUDP      = 17
	protoFragment = 44
	protoESP      = 50
	protoAH       = 51
	protoICMP6    = 58
	protoPIM      = 103
	protoVRRP     = 112
	protoSCTP     = 132
)

// overIP asks for a protocol over IPv4, IPv6 or both, the latter also in a fragment.
func (m *meaning) overIP(version protocol, number uint32, at token) *graph.Formula {
	over4 := func() *graph.Formula {
		return graph.AllOf(m.carries(typeIP, at), m.equal(m.networkField(9, 1), number))
	}
	over6 := func() *graph.Formula {
		fragment := graph.AllOf(m.equal(m.networkField(6, 1), protoFragment), m.equal(m.networkField(40, 1), number))
		return graph.AllOf(m.carries(typeIP6, at), graph.AnyOf(m.equal(m.networkField(6, 1), number), fragment))
	}
	switch version {
	case ip:
		return over4()
	case ip6:
		return over6()
	}
	return graph.AnyOf(over4(), over6())
}

// protocol asks for a protocol by its name.
func (m *meaning) protocol(p protocol, at token) *graph.Formula {
	if t, ok := linkProtocols[p]; ok {
		return m.carries(t, at)
	}
	if t, ok := ipProtocols[p]; ok {
		return m.overIP(t.version, t.number, at)
	}
	if t, ok := isoProtocols[p]; ok {
		return m.overISO(t, at)
	}
	if types, ok := isisTypes[p]; ok {
		// In libpcap's order, which decides on frames that are cut short.
		f := m.isisType(types[0], at)
		for i, t := range types[1:] {
			if i == 0 {
				f = graph.AnyOf(f, m.isisType(t, at))
			} else {
				f = graph.AnyOf(m.isisType(t, at), f)
			}
		}
		return f
	}
	m.mistake(at, "%s alone asks nothing; write ether host, ether proto or ether[…]", at.text)
	return nil
}

var linkProtocols = map[protocol]uint32{ip: typeIP, arp: typeARP, rarp: typeRARP, atalk: typeATalk, aarp: typeAARP,
	decnet: typeDECnet, sca: typeSCA, lat: typeLAT, mopdl: typeMOPDL, moprc: typeMOPRC, ip6: typeIP6, iso: sapISO,
	stp: sapSTP, ipx: sapIPX, netbeui: sapNetBEUI}

var ipProtocols = map[protocol]struct {
	version protocol
	number  uint32
}{sctp: {noProtocol, protoSCTP}, tcp: {noProtocol, protoTCP}, udp: {noProtocol, protoUDP}, icmp: {ip, protoICMP},
	igmp: {ip, protoIGMP}, igrp: {ip, protoIGRP}, pim: {noProtocol, protoPIM}, vrrp: {ip, protoVRRP},
	carp: {ip, protoVRRP}, icmp6: {ip6, protoICMP6}, ah: {noProtocol, protoAH}, esp: {noProtocol, protoESP}}

// isoProtocols are network layer protocol identifiers (ISO/IEC TR 9577).
var isoProtocols = map[protocol]uint32{clnp: 0x81, esis: 0x82, isis: 0x83}

// isisTypes are the types of IS-IS's packets (ISO/IEC 10589).
var isisTypes = map[protocol][]uint32{isisL1: {15, 17, 18, 24, 26}, isisL2: {16, 17, 20, 25, 27}, isisIIH: {15, 16, 17},
	isisLSP: {18, 20}, isisSNP: {24, 25, 26, 27}, isisCSNP: {24, 25}, isisPSNP: {26, 27}}

func (m *meaning) overISO(number uint32, at token) *graph.Formula {
	return graph.AllOf(m.carries(sapISO, at), m.equal(m.linkPayloadField(m.overLLC, 1), number))
}

func (m *meaning) isisType(number uint32, at token) *graph.Formula {
	return graph.AllOf(m.overISO(isoProtocols[isis], at), m.equal(m.linkPayloadField(m.overLLC+4, 1), number))
}

// protocolNumber asks for a protocol by its number, or by a name of the registers.
func (m *meaning) protocolNumber(e match) *graph.Formula {
	number := e.value.number
	switch e.value.kind {
	case name:
		number = m.protocolName(e)
	case ipv4, ipv6, mac:
		m.mistake(e.value, "a protocol is a number or a name, not an address")
	}
	switch e.protocol {
	case noProtocol, ip, ip6:
		return m.overIP(e.protocol, number, e.value)
	case link:
		return m.carries(number, e.value)
	case iso:
		return m.overISO(number, e.value)
	case isis:
		return m.isisType(number, e.value)
	}
	m.mistake(e.value, "proto goes with ether, ip, ip6, iso and isis only; %s carries no numbered protocol", e.at.text)
	return nil
}
