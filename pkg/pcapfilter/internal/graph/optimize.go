package graph

import "slices"

// maxWork bounds the work of the optimizer, in steps. A graph that comes to it is right all
// the same, only larger than need be.
const maxWork = 1 << 26

// Optimize makes the graph smaller. It does what the BPF+ paper calls predicate
// assertion propagation (Begel, McCanne, Graham: BPF+, SIGCOMM 1999), first as libpcap does
// and in its order: which tests that does without, and which ones it brings forward,
// decides on packets that are cut short. Then it leaves out what else is known, as far as
// that makes no difference.
func (g *Graph) Optimize() {
	g.rounds(g.asLibpcap, true)
	g.skipToEnd()
	for _, n := range g.order(no, yes) {
		t, negated := g.normalize(n.test)
		if n.test = t; negated {
			n.next[yes], n.next[no] = n.next[no], n.next[yes]
		}
	}
	g.tidy()
}

// tidy leaves out what makes no difference to any packet.
func (g *Graph) tidy() {
	g.rounds(g.implied, false)
	g.merge()
	g.skipRoot()
}

// rounds goes over the graph until nothing changes any more.
func (g *Graph) rounds(known func(*node, edge) (int, bool), move bool) {
	for changed := true; changed && g.work < maxWork; {
		changed = false
		levels := g.analyse()
		for _, level := range levels {
			for _, n := range level {
				changed = shorten(edge{n, yes}, known) || changed
				changed = shorten(edge{n, no}, known) || changed
			}
		}
		if move {
			changed = g.pullUpAll(levels) || changed
			changed = g.reduceAll() || changed
		}
	}
}

// shorten lets an edge skip nodes whose answer is known on it, or does not matter.
func shorten(e edge, known func(*node, edge) (int, bool)) (changed bool) {
	for to := e.to(); to.end == notEnd; to = e.to() {
		answer, is := known(to, e)
		if !is {
			break
		}
		e.from.next[e.answer] = to.next[answer]
		changed = true
	}
	return changed
}

func (g *Graph) pullUpAll(levels [][]*node) (changed bool) {
	g.findEdges(levels)
	for _, level := range levels {
		for _, n := range level {
			for _, along := range []int{no, yes} {
				changed = g.work < maxWork && g.pullUp(n, along) || changed
			}
		}
	}
	return changed
}

// reduceAll has relations compare with their constants directly, as libpcap does at the end
// of a round.
func (g *Graph) reduceAll() (changed bool) {
	for _, n := range g.order(no, yes) {
		if n.computed {
			continue
		}
		simple := left{x: n.test.x, written: n.left.written}
		if n.left != simple {
			n.left, changed = simple, true
		}
		n.relation = n.relation && n.test.y.op != constant
	}
	changed = changed || !g.reduced
	g.reduced = true
	return changed
}

// skipToEnd leaves an end only, where no answer matters. libpcap does so even if a packet
// is too short for the tests.
func (g *Graph) skipToEnd() {
	n := g.root
	for n.end == notEnd {
		answer, known := n.test.known()
		if !known && n.next[yes] != n.next[no] {
			return
		}
		n = n.next[answer]
	}
	g.root = n
}

// skipRoot takes the root away while its answer does not matter, nor whether the packet is
// long enough to give one.
func (g *Graph) skipRoot() {
	for g.root.end == notEnd {
		answer, known := g.root.test.known()
		if !known && (g.root.next[yes] != g.root.next[no] || g.root.test.canFail()) {
			return
		}
		g.root = g.root.next[answer]
	}
}

// pullUp looks at a chain of nodes, each the last one's way on by one answer, while all
// have one and the same way on by the other: an or along no, an and along yes. Where
// all ways to the chain come from tests of one value, and the chain tests others first
// and then that one again, that test is pulled up: the value needs no second loading.
func (g *Graph) pullUp(first *node, along int) bool {
	if len(first.in) == 0 {
		return false
	}
	value := first.in[0].from.left
	for _, e := range first.in {
		if e.from.left != value {
			return false
		}
	}
	inChain := func(e edge) bool {
		g.work++
		n := e.to()
		return n.end == notEnd && n.next[1-along] == first.next[1-along] && first.dominates(n)
	}
	at := first.in[0] // the way to the first that tests something else
	for ; ; at = (edge{at.to(), along}) {
		n := at.to()
		if !inChain(at) || n != first && len(n.in) > 1 {
			return false
		}
		if n.left != value {
			break
		}
	}
	for last := (edge{at.to(), along}); inChain(last) && len(last.to().in) == 1; last = (edge{last.to(), along}) {
		if n := last.to(); n.left == value {
			if n.test.y.op != constant && n.test.y != value.minus {
				return false // what it compares with has not been computed yet, and may fail
			}
			move(first, at, last, along)
			return true
		}
	}
	return false
}

// move takes the node that an edge leads to out of its chain, and puts it before the one
// that another edge leads to.
func move(first *node, at, last edge, along int) {
	pulled, before := last.to(), at.to()
	ways := []edge{at}
	if before == first {
		ways = slices.Clone(first.in)
	}
	last.lead(pulled.next[along])
	edge{pulled, along}.lead(before)
	for _, e := range ways {
		e.lead(pulled)
	}
}

// lead has an edge lead to another node.
func (e edge) lead(to *node) {
	if old := e.to(); old.end == notEnd {
		old.in = slices.DeleteFunc(old.in, func(other edge) bool { return other == e })
	}
	if e.from.next[e.answer] = to; to.end == notEnd {
		to.in = append(to.in, e)
	}
}

// merge makes nodes that ask the same and lead to the same into one.
func (g *Graph) merge() {
	type key struct {
		test    test
		yes, no *node
	}
	same := map[key]*node{}
	order := g.order(no, yes)
	become := map[*node]*node{}
	target := func(n *node) *node {
		if other := become[n]; other != nil {
			return other
		}
		return n
	}
	for i := len(order) - 1; i >= 0; i-- {
		n := order[i]
		n.next[yes], n.next[no] = target(n.next[yes]), target(n.next[no])
		k := key{n.test, n.next[yes], n.next[no]}
		if other := same[k]; other != nil {
			become[n] = other
			continue
		}
		same[k] = n
	}
	g.root = target(g.root)
}
