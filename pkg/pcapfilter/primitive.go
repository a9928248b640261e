package pcapfilter

// parsePrimitive reads a term that begins with a word of the language.
func (p *parser) parsePrimitive() (expression, qualifiers) {
	none := qualifiers{kind: undefined}
	t := p.peek()
	if why := foreignWord(t.text); t.kind == keyword && why != "" {
		p.mistake(t, "%s is not supported: %s", t.text, why)
	}
	switch {
	case t.isWord("less", "greater"):
		p.next()
		if p.peek().kind != number {
			p.unexpected("a number of bytes")
		}
		return lengthTerm{t.text == "less", p.next()}, none
	case t.isWord("vlan", "mpls", "pppoes", "pppoed"):
		p.next()
		e := encapsulation{at: t}
		if t.text != "pppoed" && p.startsNumber() {
			n := p.parseNumber()
			e.number = &n
		}
		return e, none
	case t.isWord("llc"):
		p.next()
		if k := p.peek(); k.kind == name || k.isWord("rnr") {
			p.next()
			return llcTerm{t, &k}, none
		}
		return llcTerm{at: t}, none
	}
	return p.parseQualified()
}

// startsNumber says whether a number, or one in parentheses, comes next.
func (p *parser) startsNumber() bool {
	i := p.at
	for p.tokens[i].is("(") {
		i++
	}
	return p.tokens[i].kind == number
}

func (p *parser) parseNumber() token {
	depth := 0
	for ; p.peek().is("("); depth++ {
		p.next()
	}
	n := p.next()
	for ; depth > 0; depth-- {
		p.skip(")")
	}
	return n
}

// parseQualified reads a protocol, or qualifiers and a value.
func (p *parser) parseQualified() (expression, qualifiers) {
	first := p.peek()
	q := qualifiers{at: first}
	if first.kind == keyword && protocols[first.text] != noProtocol {
		q.protocol = protocols[p.next().text]
	}
	if t := p.peek(); t.isWord("broadcast", "multicast") {
		p.next()
		return castTerm{q.protocol, t.text == "multicast", t}, qualifiers{kind: undefined}
	}
	directed := p.parseDirection(&q)
	kinded := p.parseKind(&q, directed)
	if !directed && !kinded {
		if q.protocol == noProtocol {
			p.unexpected("a protocol, host, net, port, vlan or another word of the language")
		}
		return protocolTerm{q.protocol, first}, qualifiers{kind: undefined}
	}
	if t := p.peek(); t.kind == keyword && protocols[t.text] != noProtocol && q.kind == protocolNumber {
		p.mistake(t, "%s is a word of the language; write \\%s for the protocol's name", t.text, t.text)
	}
	not := p.skipNots()
	var x expression
	switch {
	case p.peek().is("(") && p.startsValues():
		x = p.parseGroup(q, true)
	case p.startsValues():
		x = p.parseValue(q)
	default:
		p.unexpected("a value")
	}
	if not {
		x = negation{x}
	}
	return x, q
}

// parseDirection reads src, dst, and both with or or and between.
func (p *parser) parseDirection(q *qualifiers) bool {
	t := p.peek()
	if !t.isWord("src", "dst") {
		return false
	}
	p.next()
	q.direction = destination
	if t.text == "src" {
		q.direction = source
	}
	both := p.peek()
	and, or := both.isWord("and") || both.is("&&"), both.isWord("or") || both.is("||")
	if other := p.after(); (and || or) && other.isWord("src", "dst") && other.text != t.text {
		p.next()
		p.next()
		q.direction = sourceAndDestination
		if or {
			q.direction = anyDirection
		}
	}
	return true
}

// parseKind reads what kind of value follows.
func (p *parser) parseKind(q *qualifiers, directed bool) bool {
	t := p.peek()
	switch {
	case t.isWord("host"):
		q.kind = host
	case t.isWord("net"):
		q.kind = network
	case t.isWord("port"):
		q.kind = port
	case t.isWord("portrange"):
		q.kind = portRange
	case t.isWord("proto"):
		if directed {
			p.mistake(t, "src and dst do not go with proto")
		}
		q.kind = protocolNumber
	case t.isWord("protochain", "gateway"):
		p.mistake(t, "%s is not supported: %s", t.text, foreignWord(t.text))
	default:
		return false
	}
	p.next()
	return true
}
