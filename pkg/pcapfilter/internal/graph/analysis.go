package graph

// analysis is what is known of a node's place in the graph, until that changes.
type analysis struct {
	round int    // of the analysis that this is of
	level int    // the longest way to an end
	in    []edge // that lead here
	facts *fact  // what every way here has found out; nil: nothing
	above *node  // the nearest node that every way here passes
	depth int    // of above's chain
	// The nodes that come below this one in that way have the numbers from number on.
	number, below int
	free          int // the next number below
}

// edge is a node's way on by one answer.
type edge struct {
	from   *node
	answer int
}

func (e edge) to() *node { return e.from.next[e.answer] }

// fact is an answer that a packet has given on every way to a place, and those before it.
type fact struct {
	of     *node
	answer int
	before *fact
	depth  int
}

// fact is what is known on an edge.
func (e edge) fact() *fact {
	f := &fact{of: e.from, answer: e.answer, before: e.from.facts}
	if f.before != nil {
		f.depth = f.before.depth + 1
	}
	return f
}

// analyse looks at the whole graph anew, and returns the nodes by level, ends left out. In a
// level they are in libpcap's order, in which it looks for what can be moved.
func (g *Graph) analyse() (levels [][]*node) {
	order := g.order(yes, no)
	g.round++
	g.work += 8 * len(order)
	for _, end := range []*node{g.accept, g.reject} {
		end.analysis = analysis{round: g.round}
	}
	for i := len(order) - 1; i >= 0; i-- {
		n := order[i]
		n.analysis = analysis{round: g.round, level: 1 + max(n.next[no].level, n.next[yes].level)}
	}
	for _, n := range order {
		for len(levels) <= n.level {
			levels = append(levels, nil)
		}
		levels[n.level] = append(levels[n.level], n)
	}
	g.findEdges(levels)
	for _, n := range order {
		n.place()
	}
	number(order)
	return levels
}

// findEdges finds the edges that lead to each node, as the graph is now.
func (g *Graph) findEdges(levels [][]*node) {
	g.accept.in, g.reject.in = nil, nil
	for _, level := range levels {
		for _, n := range level {
			n.in = n.in[:0]
		}
	}
	for _, level := range levels {
		g.work += len(level)
		for _, n := range level {
			for _, answer := range []int{yes, no} {
				to := n.next[answer]
				to.in = append(to.in, edge{n, answer})
			}
		}
	}
}

// place finds out what all the ways to a node have in common. Those that they come from
// have been placed.
func (n *node) place() {
	for i, e := range n.in {
		f := e.fact()
		if i == 0 {
			n.facts, n.above = f, e.from
			continue
		}
		n.facts = commonFact(n.facts, f)
		n.above = commonNode(n.above, e.from)
	}
	if n.above != nil {
		n.depth = n.above.depth + 1
	}
}

func commonFact(a, b *fact) *fact {
	for a != nil && b != nil && !(a.answer == b.answer && a.of.test == b.of.test && a.before == b.before) {
		switch {
		case a.depth > b.depth:
			a = a.before
		case b.depth > a.depth:
			b = b.before
		default:
			a, b = a.before, b.before
		}
	}
	if b == nil {
		return nil
	}
	return a
}

func commonNode(a, b *node) *node {
	for a != b {
		switch {
		case a == nil || b == nil:
			return nil
		case a.depth >= b.depth:
			a = a.above
		default:
			b = b.above
		}
	}
	return a
}

// number numbers the nodes, so that those that have a node above them are in a row.
func number(order []*node) {
	for i := len(order) - 1; i >= 0; i-- {
		n := order[i]
		if n.below++; n.above != nil {
			n.above.below += n.below
		}
	}
	for _, n := range order {
		if n.above != nil {
			n.number = n.above.free
			n.above.free += n.below
		}
		n.free = n.number + 1
	}
}

// dominates says whether every way to another node passes this one.
func (n *node) dominates(other *node) bool {
	return n.number <= other.number && other.number < n.number+n.below
}
