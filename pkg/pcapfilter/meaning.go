package pcapfilter

import (
	"fmt"

	"github.com/podtap/podtap/pkg/pcapfilter/internal/graph"
)

// meaning turns a parsed expression into what it asks of a frame. It goes through the
// expression from left to right, for vlan, mpls and pppoes change where everything
// behind them looks. A mistake panics with an *Error, as the parser's do.
type meaning struct {
	expression string
	*graph.Builder
	headers
}

// headers say where in a frame the headers are that an expression asks about, in bytes.
type headers struct {
	inPPP       bool   // behind pppoes, where a frame has PPP's header
	linkType    uint32 // Ethernet's or PPP's type
	linkPayload uint32 // what the link layer carries
	network     uint32 // from linkPayload on: labels of MPLS are between
	labels      int    // of MPLS
	overLLC     uint32 // as network, for what comes in 802.2 without SNAP
}

// Offsets in an Ethernet frame.
const (
	ethernetType    = 12
	ethernetPayload = 14
	llcLength       = 3 // of the 802.2 header with an unnumbered frame's control byte
)

func newMeaning(expression string, b *graph.Builder) *meaning {
	return &meaning{expression, b, headers{linkType: ethernetType, linkPayload: ethernetPayload, overLLC: llcLength}}
}

func (m *meaning) mistake(at token, format string, args ...any) {
	panic(&Error{Expression: m.expression, Offset: at.offset, Length: at.length, Problem: fmt.Sprintf(format, args...)})
}

// formula is what an expression asks. A chain of and, or the like, leans to the left.
func (m *meaning) formula(e expression) *graph.Formula {
	var chain []logical
	for {
		l, is := e.(logical)
		if !is {
			break
		}
		chain = append(chain, l)
		e = l.x
	}
	f := m.term(e)
	for i := len(chain) - 1; i >= 0; i-- {
		if y := m.formula(chain[i].y); chain[i].or {
			f = graph.AnyOf(f, y)
		} else {
			f = graph.AllOf(f, y)
		}
	}
	return f
}

func (m *meaning) term(e expression) *graph.Formula {
	switch e := e.(type) {
	case negation:
		return graph.Not(m.formula(e.x))
	case match:
		return m.match(e)
	case protocolTerm:
		return m.protocol(e.protocol, e.at)
	case castTerm:
		return m.cast(e)
	case lengthTerm:
		bytes := m.Const(e.bytes.number)
		if e.less {
			return graph.Not(m.Compare(graph.Greater, m.Length(), bytes))
		}
		return m.Compare(graph.GreaterOrEqual, m.Length(), bytes)
	case encapsulation:
		return m.encapsulation(e)
	case llcTerm:
		return m.llc(e)
	case relation:
		return m.relation(e)
	}
	panic(fmt.Sprintf("%T is no term", e))
}

// match is a value under its qualifiers.
func (m *meaning) match(e match) *graph.Formula {
	one := e.value.kind == ipv6 && e.mask.number == 128
	if e.mask.kind != endOfText && e.kind != network && !(one && (e.kind == host || e.kind == unqualified)) {
		m.mistake(e.mask, "only a net has a mask; write net in front of the address")
	}
	switch e.kind {
	case port, portRange:
		return m.ports(e)
	case protocolNumber:
		return m.protocolNumber(e)
	}
	switch e.value.kind {
	case mac:
		return m.etherHost(e)
	case ipv6:
		return m.host6(e)
	case name:
		m.mistake(e.value, "names are not looked up; write the address")
	}
	return m.host4(e)
}

// Fields of the frame.

func (m *meaning) linkTypeField(size int) *graph.Value { return m.Load(nil, m.linkType, size) }

// linkPayloadField is at an offset of what the link layer carries.
func (m *meaning) linkPayloadField(offset uint32, size int) *graph.Value {
	return m.Load(nil, m.linkPayload+offset, size)
}

// networkField is at an offset of the network layer's header.
func (m *meaning) networkField(offset uint32, size int) *graph.Value {
	return m.Load(nil, m.linkPayload+m.network+offset, size)
}

// overIPv4 is at an offset behind the IPv4 header, whose length is in its first byte.
func (m *meaning) overIPv4(offset uint32, size int) *graph.Value {
	return m.Load(m.headerLength(), m.linkPayload+m.network+offset, size)
}

func (m *meaning) headerLength() *graph.Value {
	words := m.Binary(graph.And, m.networkField(0, 1), m.Const(0xf))
	return m.Binary(graph.ShiftLeft, words, m.Const(2))
}

// overIPv6 is at an offset behind an IPv6 header, and no extension headers.
func (m *meaning) overIPv6(offset uint32, size int) *graph.Value {
	return m.networkField(40+offset, size)
}

func (m *meaning) equal(v *graph.Value, k uint32) *graph.Formula {
	return m.Compare(graph.Equal, v, m.Const(k))
}

// masked compares some bits.
func (m *meaning) masked(v *graph.Value, mask, k uint32) *graph.Formula {
	return m.equal(m.Binary(graph.And, v, m.Const(mask)), k)
}

// either is a question to source, destination or both.
func (m *meaning) either(d direction, ask func(destination bool) *graph.Formula) *graph.Formula {
	switch d {
	case source:
		return ask(false)
	case destination:
		return ask(true)
	case sourceAndDestination:
		return graph.AllOf(ask(false), ask(true))
	default:
		return graph.AnyOf(ask(false), ask(true))
	}
}
