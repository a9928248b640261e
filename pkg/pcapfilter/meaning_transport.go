package pcapfilter

import "github.com/podtap/podtap/pkg/pcapfilter/internal/graph"

const maxPort = 1<<16 - 1

// ports asks for a port, or a range of them, of TCP, UDP and SCTP over IPv6 and IPv4.
func (m *meaning) ports(e match) *graph.Formula {
	var transports []uint32
	switch e.protocol {
	case noProtocol:
		transports = []uint32{protoSCTP, protoTCP, protoUDP}
	case tcp, udp, sctp:
		transports = []uint32{ipProtocols[e.protocol].number}
	default:
		m.mistake(e.at, "ports go with tcp, udp and sctp only")
	}
	r := m.portRange(e)
	if e.protocol == noProtocol && r.transport != 0 {
		transports = []uint32{r.transport}
	}
	over6 := m.overTransports(transports, func(transport uint32) *graph.Formula {
		return graph.AllOf(m.equal(m.networkField(6, 1), transport), m.portsAt(e, r, m.overIPv6))
	})
	over4 := m.overTransports(transports, func(transport uint32) *graph.Formula {
		return graph.AllOf(graph.AllOf(m.equal(m.networkField(9, 1), transport), m.notLaterFragment()), m.portsAt(e, r, m.overIPv4))
	})
	return graph.AnyOf(graph.AllOf(m.carries(typeIP6, e.value), over6), graph.AllOf(m.carries(typeIP, e.value), over4))
}

// overTransports asks for one transport, or for SCTP first and then TCP and UDP.
func (m *meaning) overTransports(transports []uint32, ask func(uint32) *graph.Formula) *graph.Formula {
	if len(transports) == 1 {
		return ask(transports[0])
	}
	return graph.AnyOf(ask(transports[0]), graph.AnyOf(ask(transports[1]), ask(transports[2])))
}

// notLaterFragment asks whether an IPv4 packet has its transport's header.
func (m *meaning) notLaterFragment() *graph.Formula {
	return graph.Not(m.Compare(graph.BitsSet, m.networkField(6, 2), m.Const(0x1fff)))
}

func (m *meaning) portsAt(e match, r ports, field func(offset uint32, size int) *graph.Value) *graph.Formula {
	return m.either(e.direction, func(destination bool) *graph.Formula {
		v := field(0, 2)
		if destination {
			v = field(2, 2)
		}
		if e.kind == port {
			return m.equal(v, r.first)
		}
		return graph.AllOf(m.Compare(graph.GreaterOrEqual, v, m.Const(r.first)),
			graph.Not(m.Compare(graph.Greater, v, m.Const(r.last))))
	})
}

// ports is a range of ports, and the transport if it is one only.
type ports struct{ first, last, transport uint32 }

// portRange reads the value of port and portrange.
func (m *meaning) portRange(e match) ports {
	switch e.value.kind {
	case number:
		if e.value.number > maxPort {
			m.mistake(e.value, "the largest port is %d", maxPort)
		}
		return ports{first: e.value.number, last: e.value.number}
	case name:
	default:
		m.mistake(e.value, "a port is a number or a service's name, not an address")
	}
	r, problem := parsePorts(e.value.text, e.kind == portRange)
	if problem != "" {
		m.mistake(e.value, "%s", problem)
	}
	if e.protocol != noProtocol && r.transport != 0 && r.transport != ipProtocols[e.protocol].number {
		m.mistake(e.value, "this service does not use %s", e.at.text)
	}
	if r.first > r.last {
		r.first, r.last = r.last, r.first
	}
	return r
}
