package graph

import (
	"errors"
	"slices"
)

// ErrTooLarge is the error of a formula that makes more tests, or a program of more
// instructions, than the kernel takes.
var ErrTooLarge = errors.New("too large")

// maxNodes bounds a graph while it is worked on: with two instructions for each test,
// the kernel's 4096 are exceeded long before.
const maxNodes = 1 << 14

// node is a test with its two ways on, or an end.
type node struct {
	test test
	left left
	origin
	next [2]*node // for no and yes; nil at an end
	end  end

	visited int // in this round of order
	analysis
}

type end uint8

const (
	notEnd end = iota
	accepts
	rejects
)

const (
	no  = 0
	yes = 1
)

// Graph is a decision graph: without cycles, from one root to two ends.
type Graph struct {
	*Builder
	root           *node
	accept, reject *node
	nodes          int  // made so far
	round, visit   int  // of analysis and of order
	work           int  // of the optimizer, in steps
	reduced        bool // tests have their simplest forms
}

// Graph makes the graph of a formula.
func (b *Builder) Graph(f *Formula) (*Graph, error) {
	g := &Graph{Builder: b, accept: &node{end: accepts}, reject: &node{end: rejects}}
	g.root = g.build(f, g.accept, g.reject)
	if g.tooLarge() {
		return nil, ErrTooLarge
	}
	return g, nil
}

// tooLarge says whether more has been made than a program can come of.
func (g *Graph) tooLarge() bool { return g.nodes > maxNodes || len(g.Builder.values) > maxValues }

// build makes the nodes that lead to one of two others by a formula's answer. A chain
// of and, or the like, leans to the left: the loop walks down it.
func (g *Graph) build(f *Formula, onYes, onNo *node) *node {
	for {
		if g.tooLarge() {
			return onNo
		}
		switch f.kind {
		case isTrue:
			return onYes
		case isFalse:
			return onNo
		case isNot:
			onYes, onNo, f = onNo, onYes, f.x
		case isAnd:
			onYes, f = g.build(f.y, onYes, onNo), f.x
		case isOr:
			onNo, f = g.build(f.y, onYes, onNo), f.x
		default:
			n := g.node(f.test, f.left, onYes, onNo)
			n.origin = f.origin
			return n
		}
	}
}

func (g *Graph) node(t test, l left, onYes, onNo *node) *node {
	if t.readsNothing() {
		return g.reject
	}
	g.nodes++
	return &node{test: t, left: l, next: [2]*node{no: onNo, yes: onYes}}
}

// order lists the nodes with tests from the root down, each before those that it leads to:
// the reverse of the order in which a walk, by one answer first and then by the other,
// leaves them.
func (g *Graph) order(first, then int) []*node {
	var out []*node
	g.visit++
	var visit func(*node)
	visit = func(n *node) {
		if n.end != notEnd || n.visited == g.visit {
			return
		}
		n.visited = g.visit
		visit(n.next[first])
		visit(n.next[then])
		out = append(out, n)
	}
	visit(g.root)
	slices.Reverse(out)
	return out
}

// RejectsAll says whether an optimized graph is known to let no packet pass.
func (g *Graph) RejectsAll() bool { return g.root == g.reject }
