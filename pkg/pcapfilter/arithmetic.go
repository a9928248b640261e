package pcapfilter

import "github.com/podtap/podtap/pkg/pcapfilter/internal/graph"

// precedence of the operators of arithmetic. ^ and % have none in libpcap's grammar, whose
// parser then always reads on: what stands right of them is all the rest.
var precedence = map[string]struct {
	op    graph.Op
	level int
}{
	"|": {graph.Or, 1}, "&": {graph.And, 2}, "<<": {graph.ShiftLeft, 3}, ">>": {graph.ShiftRight, 3},
	"+": {graph.Add, 4}, "-": {graph.Sub, 4}, "*": {graph.Mul, 5}, "/": {graph.Div, 5},
	"^": {graph.Xor, 0}, "%": {graph.Mod, 0},
}

const (
	lowest  = 1
	highest = 6
)

func (p *parser) isArithmetic(t token) bool {
	_, is := precedence[t.text]
	return is && t.kind == operator
}

func (p *parser) isRelation(t token) bool { return t.is(">", ">=", "=", "<", "<=", "!=") }

// startsRelation says whether arithmetic comes next.
func (p *parser) startsRelation() bool {
	t, after := p.peek(), p.after()
	switch {
	case t.is("-") || t.isWord("len"):
		return true
	case t.kind == number:
		return p.isArithmetic(after) || p.isRelation(after)
	case t.kind == keyword && protocols[t.text] != noProtocol:
		return after.is("[")
	case t.is("(") && t.match > 0:
		behind := p.tokens[t.match+1]
		return p.isArithmetic(behind) || p.isRelation(behind)
	}
	return false
}

func (p *parser) parseRelation() expression {
	r := relation{x: p.parseArithmetic(lowest)}
	switch t := p.peek(); {
	case t.is(">"):
		r.ask = graph.Greater
	case t.is(">="):
		r.ask = graph.GreaterOrEqual
	case t.is("="):
		r.ask = graph.Equal
	case t.is("<"):
		r.ask, r.negated = graph.GreaterOrEqual, true
	case t.is("<="):
		r.ask, r.negated = graph.Greater, true
	case t.is("!="):
		r.ask, r.negated = graph.Equal, true
	default:
		p.unexpected("one of = != > >= < <=")
	}
	p.next()
	r.y = p.parseArithmetic(lowest)
	return r
}

// parseArithmetic reads operators that bind at least as strongly as a level.
func (p *parser) parseArithmetic(level int) arithmetic {
	defer p.enter()()
	x := p.parseOperand()
	for {
		t := p.peek()
		o, is := precedence[t.text]
		if !is || t.kind != operator || o.level != 0 && o.level < level {
			return x
		}
		p.next()
		right := o.level + 1
		if o.level == 0 {
			right = lowest
		}
		x = operation{o.op, x, p.parseArithmetic(right), t}
	}
}

func (p *parser) parseOperand() arithmetic {
	switch t := p.peek(); {
	case t.kind == number:
		return constantNumber{p.next().number}
	case t.isWord("len"):
		p.next()
		return frameLength{}
	case t.is("-"):
		p.next()
		return negative{p.parseArithmetic(highest)}
	case t.is("("):
		p.next()
		x := p.parseArithmetic(lowest)
		p.skip(")")
		return x
	case t.kind == keyword && protocols[t.text] != noProtocol && p.after().is("["):
		return p.parseAccessor()
	case t.kind == keyword && t.text == "radio":
		p.mistake(t, "radio is not supported: %s", foreignWord(t.text))
	}
	p.unexpected("a number, len or a protocol's bytes, such as tcp[13],")
	return nil
}

// parseAccessor reads `tcp[13]`, or `ip[2:2]`.
func (p *parser) parseAccessor() arithmetic {
	a := accessor{at: p.next(), size: 1}
	a.protocol = protocols[a.at.text]
	p.skip("[")
	a.index = p.parseArithmetic(lowest)
	if p.peek().is(":") {
		p.next()
		size := p.next()
		if size.kind != number || size.number != 1 && size.number != 2 && size.number != 4 {
			p.mistake(size, "the size is 1, 2 or 4 bytes")
		}
		a.size = size.number
	}
	p.skip("]")
	return a
}
