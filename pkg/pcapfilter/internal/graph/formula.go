package graph

// Comparison is what a test asks of two values.
type Comparison uint8

// Comparisons, without sign. BitsSet asks whether the values have a bit in common.
const (
	Equal Comparison = iota
	Greater
	GreaterOrEqual
	BitsSet
)

// test asks for a comparison of x with y.
type test struct {
	ask  Comparison
	x, y *Value
}

// left identifies what libpcap's program has in its accumulator after a test: relations
// that users write subtract before they compare. What libpcap moves and leaves out depends
// on it, and with that the verdict on packets that are cut short.
type left struct {
	x, minus *Value
	written  bool // by a user, whose way to a field libpcap takes for another one
}

// Formula is a question to a packet, out of tests. It is answered from left to right,
// and no further than needed.
type Formula struct {
	kind kind
	x, y *Formula
	test test
	left left
	origin
}

// origin is how libpcap goes about a relation that a user wrote, which decides on what it
// knows of the test, and when.
type origin struct {
	relation bool // it compares with its other register
	computed bool // what it compares with comes out of arithmetic, which it does last
}

type kind uint8

const (
	isTest kind = iota
	isTrue
	isFalse
	isNot
	isAnd
	isOr
)

// True and False are the constant formulas.
var (
	True  = &Formula{kind: isTrue}
	False = &Formula{kind: isFalse}
)

// AllOf asks one after the other, and ends with the first that does not hold.
func AllOf(first *Formula, rest ...*Formula) *Formula {
	for _, next := range rest {
		first = &Formula{kind: isAnd, x: first, y: next}
	}
	return first
}

// AnyOf asks one after the other, and ends with the first that holds.
func AnyOf(first *Formula, rest ...*Formula) *Formula {
	for _, next := range rest {
		first = &Formula{kind: isOr, x: first, y: next}
	}
	return first
}

// Not is the contrary.
func Not(f *Formula) *Formula { return &Formula{kind: isNot, x: f} }

// Compare asks for a comparison of a value with another.
func (b *Builder) Compare(ask Comparison, x, y *Value) *Formula {
	t, negated := b.normalize(test{ask, x, y})
	f := &Formula{test: t, left: left{x: x}}
	if x.op == constant {
		f.left.x = t.x // the sides may have been exchanged
	}
	if negated {
		return Not(f)
	}
	return f
}

// Relation is Compare, for what a user wrote as a relation. computed says that the right
// side is more than a number.
func (b *Builder) Relation(ask Comparison, x, y *Value, computed bool) *Formula {
	l := left{x: x, written: x.canFail}
	if ask == Equal {
		l.minus = y
	}
	return &Formula{test: test{ask, x, y}, left: l, origin: origin{true, computed}}
}

// normalize puts the constant to the right, and asks for bits where it can.
func (b *Builder) normalize(t test) (_ test, negated bool) {
	if t.x.op == constant && t.y.op != constant {
		t.x, t.y = t.y, t.x
		switch t.ask {
		case Greater: // c > v is not v >= c
			t.ask, negated = GreaterOrEqual, true
		case GreaterOrEqual:
			t.ask, negated = Greater, true
		}
	}
	if t.y.op != constant {
		return t, negated
	}
	if t.ask == Equal {
		switch {
		case t.x.op == And && t.x.y.op == constant && t.y.k == 0:
			return test{BitsSet, t.x.x, t.x.y}, !negated
		case t.x.op == Sub && t.x.y.op == constant:
			return b.normalizeAgain(test{Equal, t.x.x, b.Const(t.y.k + t.x.y.k)}, negated)
		case t.x.op == Add && t.x.y.op == constant:
			return b.normalizeAgain(test{Equal, t.x.x, b.Const(t.y.k - t.x.y.k)}, negated)
		}
	}
	if t.ask == Greater || t.ask == GreaterOrEqual {
		// len + 4 > c is len > c - 4.
		if t.x.op == Add && t.x.x.op == length && t.x.y.op == constant && t.y.k >= t.x.y.k && t.x.y.k < 1<<31 {
			t.x, t.y = t.x.x, b.Const(t.y.k-t.x.y.k)
		}
	}
	return t, negated
}

func (b *Builder) normalizeAgain(t test, negated bool) (test, bool) {
	t, again := b.normalize(t)
	return t, again != negated
}

// known says whether a test has the same answer for all packets, and which.
func (t test) known() (answer int, known bool) {
	if t.x.op != constant || t.y.op != constant {
		return 0, false
	}
	if t.ask.holds(t.x.k, t.y.k) {
		return yes, true
	}
	return no, true
}

func (c Comparison) holds(x, y uint32) bool {
	switch c {
	case Equal:
		return x == y
	case Greater:
		return x > y
	case GreaterOrEqual:
		return x >= y
	default:
		return x&y != 0
	}
}

// readsNothing says whether a test reads what no packet has.
func (t test) readsNothing() bool { return t.x.op == never || t.y.op == never }
