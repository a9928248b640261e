package pcapfilter

import (
	"strings"

	"github.com/podtap/podtap/pkg/pcapfilter/internal/graph"
)

// Ethernet types (IEEE's register).
const (
	typeIP     = 0x0800
	typeARP    = 0x0806
	typeDECnet = 0x6003
	typeMOPDL  = 0x6001
	typeMOPRC  = 0x6002
	typeLAT    = 0x6004
	typeSCA    = 0x6007
	typeRARP   = 0x8035
	typeATalk  = 0x809b
	typeAARP   = 0x80f3
	type8021Q  = 0x8100
	typeIPX    = 0x8137
	typeIP6    = 0x86dd
	typeMPLS   = 0x8847
	typePPPoED = 0x8863
	typePPPoES = 0x8864
	type8021AD = 0x88a8
	typeLoop   = 0x9000
	typeQinQ   = 0x9100

	// maxLength is the largest length of an 802.3 frame; what is above it is a type.
	maxLength = 1500
)

// Service access points of 802.2.
const (
	sapIP      = 0x06
	sapSTP     = 0x42
	sapSNAP    = 0xaa
	sapIPX     = 0xe0
	sapNetBEUI = 0xf0
	sapISO     = 0xfe
)

// carries asks whether a frame carries a protocol: an Ethernet type, or up to maxLength a
// service access point of 802.2. at is where the expression asks for it.
func (m *meaning) carries(protocol uint32, at token) *graph.Formula {
	switch {
	case m.labels > 0:
		return m.carriesOverMPLS(protocol, at)
	case m.inPPP:
		return m.equal(m.linkTypeField(2), pppProtocol(protocol))
	}
	byType := m.equal(m.linkTypeField(2), protocol)
	switch protocol {
	case sapISO, sapIP, sapNetBEUI:
		return graph.AllOf(m.is8023(), m.equal(m.linkPayloadField(0, 2), protocol<<8|protocol))
	case sapIPX: // as a type, in 802.2, in 802.3 without 802.2, or in SNAP
		in8022 := graph.AnyOf(m.equal(m.linkPayloadField(0, 1), sapIPX), m.equal(m.linkPayloadField(0, 2), 0xffff))
		return graph.AnyOf(m.equal(m.linkTypeField(2), typeIPX),
			graph.AllOf(m.is8023(), graph.AnyOf(m.snap(0, typeIPX), in8022)))
	case typeATalk: // as a type, or in Apple's SNAP
		return graph.AnyOf(byType, graph.AllOf(m.is8023(), m.snap(0x080007, typeATalk)))
	case typeAARP:
		return graph.AnyOf(byType, graph.AllOf(m.is8023(), m.snap(0, typeAARP)))
	}
	if protocol <= maxLength {
		return graph.AllOf(m.is8023(), m.equal(m.Load(nil, m.linkType+2, 1), protocol))
	}
	return byType
}

// is8023 asks whether a frame has a length in place of a type.
func (m *meaning) is8023() *graph.Formula {
	return graph.Not(m.Compare(graph.Greater, m.linkTypeField(2), m.Const(maxLength)))
}

// snap asks for an 802.2 header with SNAP.
func (m *meaning) snap(organization, protocol uint32) *graph.Formula {
	return graph.AllOf(m.equal(m.linkPayloadField(4, 4), organization<<16|protocol),
		m.equal(m.linkPayloadField(0, 4), sapSNAP<<24|sapSNAP<<16|0x03<<8|organization>>16))
}

// carriesOverMPLS looks for the bottom of the stack, and then at the version: labels say
// nothing of what they are on.
func (m *meaning) carriesOverMPLS(protocol uint32, at token) *graph.Formula {
	version := uint32(0x40)
	switch protocol {
	case typeIP:
	case typeIP6:
		version = 0x60
	default:
		m.mistake(at, "only IPv4 and IPv6 can be told behind MPLS labels")
	}
	bottom := m.Load(nil, m.linkPayload+m.network-2, 1)
	return graph.AllOf(m.masked(bottom, 0x01, 0x01), m.masked(m.networkField(0, 1), 0xf0, version))
}

// pppProtocol is PPP's number for what Ethernet or 802.2 has another one (IANA's register).
func pppProtocol(protocol uint32) uint32 {
	switch protocol {
	case typeIP:
		return 0x0021
	case sapISO:
		return 0x0023
	case 0x0600: // Xerox NS
		return 0x0025
	case typeDECnet:
		return 0x0027
	case typeATalk:
		return 0x0029
	case sapIPX:
		return 0x002b
	case sapSTP:
		return 0x0031
	case typeIP6:
		return 0x0057
	}
	return protocol
}

// needEthernet refuses what PPP has not.
func (m *meaning) needEthernet(at token, what string) {
	if m.inPPP {
		m.mistake(at, "%s cannot be asked for behind pppoes", what)
	}
}

// etherHost asks for an Ethernet address.
func (m *meaning) etherHost(e match) *graph.Formula {
	if e.protocol != link || e.kind != unqualified && e.kind != host {
		m.mistake(e.value, "an Ethernet address goes with ether host only")
	}
	m.needEthernet(e.value, "an Ethernet address")
	return m.etherAddress(parseMAC(e.value.text), e.direction)
}

func (m *meaning) etherAddress(a [6]byte, d direction) *graph.Formula {
	return m.either(d, func(destination bool) *graph.Formula {
		at := uint32(6)
		if destination {
			at = 0
		}
		low := uint32(a[2])<<24 | uint32(a[3])<<16 | uint32(a[4])<<8 | uint32(a[5])
		return graph.AllOf(m.equal(m.Load(nil, at+2, 4), low), m.equal(m.Load(nil, at, 2), uint32(a[0])<<8|uint32(a[1])))
	})
}

// cast is broadcast or multicast.
func (m *meaning) cast(e castTerm) *graph.Formula {
	switch {
	case e.protocol == noProtocol || e.protocol == link:
		m.needEthernet(e.at, e.at.text)
		if e.multicast {
			return m.Compare(graph.BitsSet, m.Load(nil, 0, 1), m.Const(1))
		}
		return m.etherAddress([6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, destination)
	case e.protocol == ip && e.multicast:
		return graph.AllOf(m.carries(typeIP, e.at), m.Compare(graph.GreaterOrEqual, m.networkField(16, 1), m.Const(224)))
	case e.protocol == ip6 && e.multicast:
		return graph.AllOf(m.carries(typeIP6, e.at), m.equal(m.networkField(24, 1), 255))
	case e.protocol == ip:
		m.mistake(e.at, "ip broadcast needs the network's mask, which a filter does not know; write dst host and the broadcast address")
	}
	m.mistake(e.at, "%s goes with ether, ip and ip6 only", e.at.text)
	return nil
}

// encapsulation asks for a tag, a label or a session, and looks into it from there on.
func (m *meaning) encapsulation(e encapsulation) *graph.Formula {
	limit := func(most uint32) {
		if e.number != nil && e.number.number > most {
			m.mistake(*e.number, "the largest number of %s is %d", e.at.text, most)
		}
	}
	switch e.at.text {
	case "vlan":
		limit(1<<12 - 1)
		m.needEthernet(e.at, "vlan")
		if m.labels > 0 {
			m.mistake(e.at, "vlan cannot be asked for behind mpls")
		}
		f := graph.AnyOf(m.carries(type8021Q, e.at), m.carries(type8021AD, e.at), m.carries(typeQinQ, e.at))
		if e.number != nil {
			f = graph.AllOf(f, m.masked(m.networkField(0, 2), 0xfff, e.number.number))
		}
		m.linkType += 4
		m.linkPayload += 4
		return f
	case "mpls":
		limit(1<<20 - 1)
		return m.mpls(e)
	case "pppoed":
		return m.carries(typePPPoED, e.at)
	}
	limit(1<<16 - 1)
	f := m.carries(typePPPoES, e.at)
	if e.number != nil {
		f = graph.AllOf(f, m.masked(m.networkField(0, 4), 0xffff, e.number.number))
	}
	const pppoeHeader = 6
	m.linkType = m.linkPayload + m.network + pppoeHeader
	m.headers = headers{inPPP: true, linkType: m.linkType, linkPayload: m.linkType + 2, labels: m.labels}
	return f
}

func (m *meaning) mpls(e encapsulation) *graph.Formula {
	var f *graph.Formula
	switch {
	case m.labels > 0: // the label before is not the last one
		f = m.masked(m.Load(nil, m.linkPayload+m.network-2, 1), 0x01, 0)
	case m.inPPP:
		f = m.equal(m.linkTypeField(2), 0x0281)
	default:
		f = m.carries(typeMPLS, e.at)
	}
	if e.number != nil {
		f = graph.AllOf(f, m.masked(m.networkField(0, 4), 0xfffff000, e.number.number<<12))
	}
	m.network += 4
	m.overLLC += 4
	m.labels++
	return f
}

// Control bytes of 802.2: of supervisory and of unnumbered frames, without what varies.
var llcKinds = map[string]struct{ mask, value uint32 }{
	"s": {0x03, 0x01}, "u": {0x03, 0x03},
	"rr": {0x0f, 0x01}, "rnr": {0x0f, 0x05}, "rej": {0x0f, 0x09},
	"ui": {0xef, 0x03}, "ua": {0xef, 0x63}, "disc": {0xef, 0x43}, "dm": {0xef, 0x0f},
	"sabme": {0xef, 0x6f}, "test": {0xef, 0xe3}, "xid": {0xef, 0xaf}, "frmr": {0xef, 0x87},
}

func (m *meaning) llc(e llcTerm) *graph.Formula {
	m.needEthernet(e.at, "llc")
	f := graph.AllOf(m.is8023(), graph.Not(m.equal(m.linkPayloadField(0, 2), 0xffff)))
	if e.kind == nil {
		return f
	}
	control := m.linkPayloadField(2, 1)
	kind := strings.ToLower(e.kind.text)
	if kind == "i" {
		return graph.AllOf(f, graph.Not(m.Compare(graph.BitsSet, control, m.Const(0x01))))
	}
	k, known := llcKinds[kind]
	if !known {
		m.mistake(*e.kind, "not a kind of 802.2 frame: those are i, s, u, rr, rnr, rej, ui, ua, disc, dm, sabme, test, xid and frmr")
	}
	return graph.AllOf(f, m.masked(control, k.mask, k.value))
}
