package pcapfilter

import "github.com/podtap/podtap/pkg/pcapfilter/internal/graph"

// quantity is what arithmetic computes, and what has to hold for that to make sense: the
// bytes of a protocol are asked of frames that have it.
type quantity struct {
	value *graph.Value
	given *graph.Formula // nil: always
}

// relation compares two numbers.
func (m *meaning) relation(e relation) *graph.Formula {
	x, y := m.arithmetic(e.x), m.arithmetic(e.y)
	_, xPlain := e.x.(constantNumber)
	_, yPlain := e.y.(constantNumber)
	_, xConst := x.value.IsConst()
	f := m.Relation(e.ask, x.value, y.value, !yPlain || xConst && !xPlain)
	if e.negated {
		f = graph.Not(f)
	}
	switch {
	case x.given != nil && y.given != nil:
		return graph.AllOf(x.given, y.given, f)
	case x.given != nil:
		return graph.AllOf(x.given, f)
	case y.given != nil:
		return graph.AllOf(y.given, f)
	}
	return f
}

// arithmetic computes. Of two operands only the left one's condition is kept, as in
// libpcap: 1 + tcp[0] looks at any packet.
func (m *meaning) arithmetic(a arithmetic) quantity {
	var chain []operation
	for {
		b, is := a.(operation)
		if !is {
			break
		}
		chain = append(chain, b)
		a = b.x
	}
	x := m.operand(a)
	for i := len(chain) - 1; i >= 0; i-- {
		op, y := chain[i].op, m.arithmetic(chain[i].y)
		k, isConst := y.value.IsConst()
		_, plain := chain[i].y.(constantNumber)
		_, leftConst := x.value.IsConst()
		switch {
		case isConst && k == 0 && (op == graph.Div || op == graph.Mod):
			m.mistake(chain[i].at, "division by zero")
		case isConst && k > 31 && (plain || !leftConst) && (op == graph.ShiftLeft || op == graph.ShiftRight):
			m.mistake(chain[i].at, "a shift is by at most 31 bits")
		}
		x.value = m.Binary(op, x.value, y.value)
	}
	return x
}

func (m *meaning) operand(a arithmetic) quantity {
	switch a := a.(type) {
	case constantNumber:
		return quantity{value: m.Const(a.value)}
	case frameLength:
		return quantity{value: m.Length()}
	case negative:
		x := m.arithmetic(a.x)
		x.value = m.Negate(x.value)
		return x
	}
	return m.access(a.(accessor))
}

// access reads bytes of a protocol. Those over IP are looked for in IPv4, but for ICMPv6,
// which is looked for directly behind the IPv6 header.
func (m *meaning) access(a accessor) quantity {
	index := m.arithmetic(a.index)
	size := int(a.size)
	also := func(f *graph.Formula) *graph.Formula {
		if index.given == nil {
			return f
		}
		return graph.AllOf(index.given, f)
	}
	switch a.protocol {
	case link:
		return quantity{m.Load(index.value, m.linkHeader(), size), index.given}
	case ip, arp, rarp, atalk, decnet, sca, lat, mopdl, moprc, ip6:
		return quantity{m.Load(index.value, m.linkPayload+m.network, size), also(m.protocol(a.protocol, a.at))}
	case sctp, tcp, udp, icmp, igmp, igrp, pim, vrrp, carp:
		at := m.Binary(graph.Add, m.headerLength(), index.value)
		return quantity{m.Load(at, m.linkPayload+m.network, size), graph.AllOf(m.carries(typeIP, a.at),
			also(graph.AllOf(m.protocol(a.protocol, a.at), m.notLaterFragment())))}
	case icmp6:
		return quantity{m.Load(index.value, m.linkPayload+m.network+40, size),
			graph.AllOf(also(m.carries(typeIP6, a.at)), m.equal(m.networkField(6, 1), protoICMP6))}
	}
	m.mistake(a.at, "the bytes of %s cannot be asked for; use those of what carries it", a.at.text)
	return quantity{}
}

// linkHeader is where the link layer's header begins: Ethernet's, or PPP's.
func (m *meaning) linkHeader() uint32 {
	if m.inPPP {
		return m.linkType
	}
	return 0
}
