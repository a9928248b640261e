package pcapfilter

import (
	"fmt"
	"slices"

	"github.com/podtap/podtap/pkg/pcapfilter/internal/graph"
)

// parser reads tokens. The first mistake ends it: mistake panics with an *Error, which
// parse catches.
type parser struct {
	expression string
	tokens     []token
	at         int
	nesting    int
}

// parse reads an expression, and says what it asks of a frame.
func parse(expression string) (f *graph.Formula, b *graph.Builder, err error) {
	defer func() {
		switch problem := recover().(type) {
		case nil:
		case *Error:
			f, b, err = nil, nil, problem
		default:
			panic(problem)
		}
	}()
	if len(expression) > MaxLength {
		return nil, nil, &Error{Expression: expression, Length: len(expression),
			Problem: fmt.Sprintf("the filter has %d bytes; at most %d are read", len(expression), MaxLength)}
	}
	tokens, problem := split(expression)
	if problem != nil {
		return nil, nil, problem
	}
	b = graph.NewBuilder()
	if len(tokens) == 1 {
		return graph.True, b, nil
	}
	p := &parser{expression: expression, tokens: tokens}
	tree, _ := p.parseExpression(qualifiers{kind: undefined}, false)
	if p.peek().kind != endOfText {
		p.unexpected("and, or, or the end")
	}
	m := newMeaning(expression, b)
	return m.formula(tree), b, nil
}

func (p *parser) peek() token { return p.tokens[p.at] }

// after is the token after the next one.
func (p *parser) after() token { return p.tokens[min(p.at+1, len(p.tokens)-1)] }

func (p *parser) next() token {
	t := p.peek()
	if t.kind != endOfText {
		p.at++
	}
	return t
}

func (p *parser) skip(operator string) {
	if !p.peek().is(operator) {
		p.unexpected(operator)
	}
	p.next()
}

// mistake ends the parser.
func (p *parser) mistake(at token, format string, args ...any) {
	panic(&Error{Expression: p.expression, Offset: at.offset, Length: at.length, Problem: fmt.Sprintf(format, args...)})
}

// unexpected says what should stand where the next token does.
func (p *parser) unexpected(allowed string) {
	if t := p.peek(); t.kind == endOfText {
		p.mistake(t, "the filter ends where %s should follow", allowed)
	} else {
		p.mistake(t, "this cannot stand here; %s can", allowed)
	}
}

// enter bounds recursion. Its result is to be deferred.
func (p *parser) enter() func() {
	if p.nesting++; p.nesting > maxNesting {
		p.mistake(p.peek(), "nested deeper than %d", maxNesting)
	}
	return func() { p.nesting-- }
}

// parseExpression reads terms with and and or between. The first value that comes without
// qualifiers takes those given; the last ones are returned. valuesOnly is for what stands
// in parentheses behind qualifiers.
func (p *parser) parseExpression(q qualifiers, valuesOnly bool) (expression, qualifiers) {
	defer p.enter()()
	x, q := p.parseTerm(q, valuesOnly)
	for {
		var or bool
		switch t := p.peek(); {
		case t.isWord("and") || t.is("&&"):
		case t.isWord("or") || t.is("||"):
			or = true
		default:
			return x, q
		}
		p.next()
		y, qualifiersOfY := p.parseTerm(q, valuesOnly)
		x, q = logical{or, x, y}, qualifiersOfY
	}
}

// parseTerm reads one term. The qualifiers returned are those that a value behind it would
// take over.
func (p *parser) parseTerm(q qualifiers, valuesOnly bool) (expression, qualifiers) {
	not := p.skipNots()
	var x expression
	switch {
	case valuesOnly && !p.startsValues():
		p.unexpected("a value")
	case p.startsRelation():
		x, q = p.parseRelation(), qualifiers{kind: undefined}
	case p.peek().is("("):
		x = p.parseGroup(q, valuesOnly || p.startsValue())
	case p.startsValue():
		x = p.parseValue(q)
	default:
		x, q = p.parsePrimitive()
	}
	if not {
		x = negation{x}
	}
	return x, q
}

// skipNots reads any number of not, and says whether they come to one.
func (p *parser) skipNots() (not bool) {
	for t := p.peek(); t.isWord("not") || t.is("!"); t = p.peek() {
		p.next()
		not = !not
	}
	return not
}

// startsValue says whether a value, or several in parentheses, comes next.
func (p *parser) startsValue() bool {
	i := p.at
	for p.tokens[i].is("(") {
		i++
	}
	switch p.tokens[i].kind {
	case number:
		return !p.isArithmetic(p.tokens[i+1]) && !p.isRelation(p.tokens[i+1])
	case name, ipv4, ipv6, mac:
		return true
	}
	return false
}

// startsValues is startsValue where nothing else may stand, so that not may come first.
func (p *parser) startsValues() bool {
	i := p.at
	for p.tokens[i].is("(", "!") || p.tokens[i].isWord("not") {
		i++
	}
	return slices.Contains([]tokenKind{number, name, ipv4, ipv6, mac}, p.tokens[i].kind)
}

// parseGroup reads what stands in parentheses: values that share the qualifiers in front,
// or an expression of its own.
func (p *parser) parseGroup(q qualifiers, valuesOnly bool) expression {
	open := p.peek()
	if open.match < 0 {
		p.mistake(open, "this parenthesis is never closed")
	}
	p.next()
	x, _ := p.parseExpression(q, valuesOnly)
	p.skip(")")
	return x
}

// parseValue reads a value under qualifiers, with the mask of a network.
func (p *parser) parseValue(q qualifiers) expression {
	if q.kind == undefined {
		p.mistake(p.peek(), "what is this? Write host, net, port, portrange or proto in front of it")
	}
	m := match{qualifiers: q, value: p.next()}
	switch t := p.peek(); {
	case t.is("/") && (m.value.kind == ipv4 || m.value.kind == ipv6):
		p.next()
		if m.mask = p.next(); m.mask.kind != number {
			p.mistake(m.mask, "the length of a prefix is a number")
		}
	case t.isWord("mask") && m.value.kind == ipv4:
		p.next()
		if m.mask = p.next(); m.mask.kind != ipv4 {
			p.mistake(m.mask, "a mask is written like an address: 255.255.0.0")
		}
	case t.is("/") && m.value.kind == number:
		p.mistake(m.value, "a network is written with at least one dot: 10.0/8")
	}
	return m
}
