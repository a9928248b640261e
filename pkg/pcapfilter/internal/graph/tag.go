package graph

// Linux keeps the outermost VLAN tag of most frames beside their bytes: it takes it out of
// a received frame before tc sees that, and puts it into a sent one after that. To a
// program the frame is then four bytes shorter, and has another type.

// Numbers of extensions: SKF_AD_OFF of linux/filter.h, and what is added to it.
const (
	extensionTag        = 44 // SKF_AD_VLAN_TAG, the tag's 16 bits
	extensionTagPresent = 48 // SKF_AD_VLAN_TAG_PRESENT
	extensionTagType    = 60 // SKF_AD_VLAN_TPID
)

// Types of a tag that Linux takes out of frames: those of 802.1Q and 802.1ad.
const (
	type8021Q  = 0x8100
	type8021AD = 0x88a8
)

// Where the tag is in a frame.
const (
	tagOffset = 12
	tagLength = 4
	tagEnd    = tagOffset + tagLength
)

// TagBeside makes an optimized graph about frames as they are on the wire into one about frames as
// Linux has them: it gives the same answers, wherever the tag is.
func (g *Graph) TagBeside() error {
	t := &tagged{Graph: g, nodes: map[*node]*node{}, values: map[*Value]*Value{}}
	beside := t.graph(g.root)
	present := g.extension(extensionTagPresent, 1)
	untagged := g.root
	g.root = g.node(test{Equal, present, g.Const(0)}, left{x: present}, untagged, beside)
	// Most of what is asked about types has only one answer for a tagged frame. What is
	// left after that may read at an offset that only the packet tells.
	g.tidy()
	for split := true; split; {
		split = false
		for _, n := range g.order(no, yes) {
			split = t.split(n) || split
		}
		if g.tooLarge() {
			return ErrTooLarge
		}
	}
	g.tidy()
	return nil
}

// tagged makes nodes and values about a frame on the wire into such about the rest of it,
// with the tag beside.
type tagged struct {
	*Graph
	nodes  map[*node]*node
	values map[*Value]*Value
}

func (t *tagged) graph(n *node) *node {
	if n.end != notEnd {
		return n
	}
	if known := t.nodes[n]; known != nil {
		return known
	}
	onYes, onNo := t.graph(n.next[yes]), t.graph(n.next[no])
	made := t.sameOf(n, t.value(n.test.x), t.value(n.test.y), onYes, onNo)
	t.nodes[n] = made
	return made
}

// sameOf is a node that compares other values in the same way.
func (t *tagged) sameOf(n *node, x, y *Value, onYes, onNo *node) *node {
	compared, negated := t.normalize(test{n.test.ask, x, y})
	if negated {
		onYes, onNo = onNo, onYes
	}
	switch answer, known := compared.known(); {
	case known && answer == yes:
		return onYes
	case known:
		return onNo
	}
	if compared.x.op == extension && compared.x.k == extensionTagType && compared.y.op == constant {
		q, ad := compared.ask.holds(type8021Q, compared.y.k), compared.ask.holds(type8021AD, compared.y.k)
		switch {
		case q && ad:
			return onYes
		case !q && !ad:
			return onNo
		}
	}
	return t.node(compared, left{x: compared.x}, onYes, onNo)
}

// value is what a value of the frame on the wire is.
func (t *tagged) value(v *Value) *Value {
	if v == nil || v.x == nil && v.op != load && v.op != length {
		return v
	}
	if known := t.values[v]; known != nil {
		return known
	}
	made := v
	switch {
	case v.op == length:
		made = t.Binary(Add, v, t.Const(tagLength))
	case v.op == load && v.x == nil:
		made = t.read(v.k, int(v.size))
	case v.op == load:
		made = t.readAt(t.value(v.x), v.k, int(v.size))
	case v.op == negate:
		made = t.Negate(t.value(v.x))
	default:
		made = t.Binary(v.op, t.value(v.x), t.value(v.y))
	}
	t.values[v] = made
	return made
}

// readAt reads at an offset that the packet tells. Where that may be in front of the tag's
// end, the reading is left to split.
func (t *tagged) readAt(index *Value, k uint32, size int) *Value {
	for index.op == Add && index.y.op == constant {
		index, k = index.x, k+index.y.k
	}
	switch {
	case index.op == constant:
		return t.read(k+index.k, size)
	case index.op == never, k >= tagEnd && uint64(index.most)+uint64(k) <= maxOffset:
		return t.Load(index, k-tagLength, size)
	}
	return t.Builder.value(Value{op: loadOnWire, k: k, size: uint8(size), x: index, most: 1<<(8*size) - 1})
}

// read reads at a constant offset of the frame on the wire.
func (t *tagged) read(k uint32, size int) *Value {
	switch {
	case k >= tagEnd:
		return t.Load(nil, k-tagLength, size)
	case k+uint32(size) <= tagOffset:
		return t.Load(nil, k, size)
	case size == 2 && k == tagOffset:
		return t.extension(extensionTagType, type8021AD)
	case size == 2 && k == tagOffset+2:
		return t.extension(extensionTag, 1<<16-1)
	case size == 1:
		// The first or the second byte of one of the two.
		return t.Binary(And, t.Binary(ShiftRight, t.read(k&^1, 2), t.Const(8*(1-k&1))), t.Const(0xff))
	}
	half := size / 2
	return t.Binary(Or, t.Binary(ShiftLeft, t.read(k, half), t.Const(uint32(8*half))), t.read(k+uint32(half), half))
}

// split replaces a node that reads where the tag may be by one for each place.
func (t *tagged) split(n *node) bool {
	v := firstOnWire(n.test.x)
	if v == nil {
		v = firstOnWire(n.test.y)
	}
	if v == nil || t.tooLarge() {
		return false
	}
	size := int(v.size)
	at := t.Binary(Add, v.x, t.Const(v.k))
	with := func(made *Value) *node {
		values := map[*Value]*Value{v: made}
		return t.sameOf(n, t.replace(n.test.x, values), t.replace(n.test.y, values), n.next[yes], n.next[no])
	}
	rest := with(t.Load(v.x, v.k, size))
	for k := uint32(tagOffset + 1 - size); k < tagEnd; k++ {
		rest = t.node(test{Equal, at, t.Const(k)}, left{x: at}, with(t.read(k, size)), rest)
	}
	behind := with(t.Load(v.x, v.k-tagLength, size))
	n.test, n.left = test{GreaterOrEqual, at, t.Const(tagEnd)}, left{x: at}
	n.next = [2]*node{yes: behind, no: rest}
	return true
}

// firstOnWire finds a reading that does not depend on another one.
func firstOnWire(v *Value) *Value {
	for v != nil && v.onWire {
		switch {
		case v.x != nil && v.x.onWire:
			v = v.x
		case v.y != nil && v.y.onWire:
			v = v.y
		default:
			return v
		}
	}
	return nil
}

// replace replaces values that read on the wire in a value.
func (t *tagged) replace(v *Value, values map[*Value]*Value) *Value {
	switch {
	case v == nil || !v.onWire || t.tooLarge():
		return v
	case values[v] != nil:
		return values[v]
	}
	made := v
	switch {
	case v.op == load:
		made = t.Load(t.replace(v.x, values), v.k, int(v.size))
	case v.op == loadOnWire:
		made = t.readAt(t.replace(v.x, values), v.k, int(v.size))
	case v.op == negate:
		made = t.Negate(t.replace(v.x, values))
	default:
		made = t.Binary(v.op, t.replace(v.x, values), t.replace(v.y, values))
	}
	values[v] = made
	return made
}
