package graph

// asLibpcap says what a node's answer is after an edge, if libpcap knows: it sees the same
// test again, another constant after an equality, and tests whose answer does not matter.
// The latter it leaves out, although a packet may be too short for them.
func (g *Graph) asLibpcap(n *node, e edge) (answer int, known bool) {
	if n.next[yes] == n.next[no] {
		return yes, true
	}
	if answer, known = n.test.known(); known && g.reduced && !n.computed {
		return answer, true
	}
	for f := e.fact(); f != nil && g.work < maxWork; f = f.before {
		g.work++
		of := f.of
		switch {
		case n.left != of.left || n.test.ask != of.test.ask || n.relation != of.relation && n.test.ask != Equal:
		case n.test.y == of.test.y:
			return f.answer, true
		case f.answer == yes && n.test.ask == Equal && n.test.y.op == constant && of.test.y.op == constant:
			return no, true
		}
	}
	return 0, false
}

// implied says what a node's answer is after an edge, if what is known there tells. A value
// that a fact is about has been computed, so the packet was long enough for it: what follows
// from facts about the same value can be left out.
func (g *Graph) implied(n *node, e edge) (answer int, known bool) {
	indifferent := n.next[yes] == n.next[no]
	if indifferent && !n.test.canFail() {
		return yes, true
	}
	if answer, known = n.test.known(); known {
		return answer, true
	}
	for f := e.fact(); f != nil && g.work < maxWork; f = f.before {
		g.work++
		if indifferent && f.of.test.x == n.test.x && (n.test.y.op == constant || n.test.y == f.of.test.y) {
			return yes, true
		}
		if answer, known = follows(n.test, f.of.test, f.answer); known {
			return answer, true
		}
	}
	return 0, false
}

// follows says what a test's answer is if another test had one.
func follows(t, other test, answer int) (int, bool) {
	if t.x != other.x {
		return 0, false
	}
	if t.ask == other.ask && t.y == other.y {
		return answer, true
	}
	if t.y.op != constant || other.y.op != constant {
		return 0, false
	}
	least, most := other.leaves(answer)
	most = min(most, t.x.most)
	k := t.y.k
	switch t.ask {
	case Equal:
		if k < least || k > most || other.ask == BitsSet && (answer == yes) == (k&other.y.k == 0) {
			return no, true
		}
	case Greater:
		if least > k {
			return yes, true
		}
		if most <= k {
			return no, true
		}
	case GreaterOrEqual:
		if least >= k {
			return yes, true
		}
		if most < k {
			return no, true
		}
	case BitsSet:
		if other.ask == BitsSet && answer == no && k&^other.y.k == 0 {
			return no, true
		}
		if other.ask == BitsSet && answer == yes && other.y.k&^k == 0 {
			return yes, true
		}
	}
	if least == most {
		if t.ask.holds(least, k) {
			return yes, true
		}
		return no, true
	}
	return 0, false
}

// leaves is the range that an answer leaves to the test's value.
func (t test) leaves(answer int) (least, most uint32) {
	const all = 1<<32 - 1
	k := t.y.k
	switch {
	case t.ask == Equal && answer == yes:
		return k, k
	case t.ask == Greater && answer == yes && k < all:
		return k + 1, all
	case t.ask == Greater && answer == no:
		return 0, k
	case t.ask == GreaterOrEqual && answer == yes:
		return k, all
	case t.ask == GreaterOrEqual && answer == no && k > 0:
		return 0, k - 1
	case t.ask == BitsSet && answer == yes:
		return 1, all
	}
	return 0, all
}
