// Package graph is the middle of the filter compiler: what a filter computes from a
// packet (Value), what it asks of it (Formula), and the decision graph that both
// become, which is optimized and turned into classic BPF. It knows neither the
// language of filters nor any protocol, but for the VLAN tag that Linux carries beside
// a frame.
//
// A value that reads past the packet's end has none: classic BPF ends the program there
// and rejects the packet, whatever the formula around it says. Whatever this package
// rearranges has to keep that.
package graph

// Op is what a value is made by.
type Op uint8

// Operations on two values. All are on 32 bits without sign, and wrap around. Dividing
// by zero rejects the packet; shifting by more than 31 bits gives 0.
const (
	Add Op = iota + 1
	Sub
	Mul
	Div
	Mod
	And
	Or
	Xor
	ShiftLeft
	ShiftRight

	negate
	constant
	length     // of the packet, in bytes
	load       // of 1, 2 or 4 bytes, big-endian, at k plus x
	loadOnWire // a load of a frame with its VLAN tag, where Linux has that beside
	extension  // what Linux knows of a packet beside its bytes
	never      // a load that no packet is long enough for
)

// Value is a number that a program can compute from a packet. Equal values of one
// Builder are the same pointer.
type Value struct {
	op    Op
	k     uint32 // the constant; a load's offset; an extension's number
	size  uint8  // of a load, in bytes
	x, y  *Value // operands; x of a load is the variable part of its offset, or nil
	most  uint32 // no packet gives more
	parts        // what there is in it
	needs int    // words of memory and one, once that is known
}

// parts say what a value has in it, at any depth. A value may be used many times in another
// one: whoever looks for something in it looks here first.
type parts struct {
	canFail bool // packets may have no such value
	onWire  bool // a loadOnWire
	far     bool // a load whose offset may be more than maxOffset
}

// maxValues bounds what a builder makes.
const maxValues = 1 << 17

// maxOffset bounds what can be read: Linux takes offsets from 2^31 up as negative ones,
// which mean something else than bytes of the packet.
const maxOffset = 1<<31 - 1

type valueKey struct {
	op   Op
	k    uint32
	size uint8
	x, y *Value
}

// Builder makes values.
type Builder struct {
	values map[valueKey]*Value
}

// NewBuilder returns an empty builder.
func NewBuilder() *Builder { return &Builder{values: map[valueKey]*Value{}} }

// value returns the one value that there is of a kind.
func (b *Builder) value(v Value) *Value {
	key := valueKey{v.op, v.k, v.size, v.x, v.y}
	if known := b.values[key]; known != nil {
		return known
	}
	v.findParts()
	b.values[key] = &v
	return &v
}

func (v *Value) findParts() {
	switch v.op {
	case load, loadOnWire, never:
		v.canFail, v.onWire, v.far = true, v.op == loadOnWire, v.isFar()
	case Div, Mod:
		v.canFail = v.y.op != constant || v.y.k == 0
	}
	for _, part := range []*Value{v.x, v.y} {
		if part != nil {
			v.canFail, v.onWire, v.far = v.canFail || part.canFail, v.onWire || part.onWire, v.far || part.far
		}
	}
}

// isFar says whether a value is a load whose offset may be more than maxOffset.
func (v *Value) isFar() bool {
	return v.op == load && v.x != nil && uint64(v.x.most)+uint64(v.k) > maxOffset
}

// Const is a constant.
func (b *Builder) Const(k uint32) *Value { return b.value(Value{op: constant, k: k, most: k}) }

// Length is the packet's length in bytes.
func (b *Builder) Length() *Value { return b.value(Value{op: length, most: maxOffset}) }

// Load reads size bytes (1, 2 or 4) at an offset, to which index is added unless it is nil.
func (b *Builder) Load(index *Value, offset uint32, size int) *Value {
	for index != nil {
		switch {
		case index.op == never:
			return index
		case index.op == constant:
			offset += index.k
			index = nil
		case index.op == Add && index.y.op == constant:
			offset += index.y.k
			index = index.x
		default:
			return b.value(Value{op: load, k: offset, size: uint8(size), x: index, most: 1<<(8*size) - 1})
		}
	}
	if offset > maxOffset {
		return b.value(Value{op: never})
	}
	return b.value(Value{op: load, k: offset, size: uint8(size), most: 1<<(8*size) - 1})
}

// extension is a number that Linux has beside the packet's bytes.
func (b *Builder) extension(k, most uint32) *Value {
	return b.value(Value{op: extension, k: k, most: most})
}

// Negate is 0 - x.
func (b *Builder) Negate(x *Value) *Value {
	switch x.op {
	case never:
		return x
	case constant:
		return b.Const(-x.k)
	}
	return b.value(Value{op: negate, x: x, most: 1<<32 - 1})
}

// IsConst says whether a value is a constant, and which.
func (v *Value) IsConst() (uint32, bool) { return v.k, v.op == constant }

func (v *Value) is(k uint32) bool { return v.op == constant && v.k == k }

func (t test) canFail() bool { return t.x.canFail || t.y.canFail }

// headerLength says whether a value is 4*([k]&0xf), for which BPF has an instruction.
func (v *Value) headerLength() (k uint32, ok bool) {
	if v.op != ShiftLeft || !v.y.is(2) || v.x.op != And || !v.x.y.is(15) {
		return 0, false
	}
	l := v.x.x
	return l.k, l.op == load && l.size == 1 && l.x == nil
}

func (v *Value) isHeaderLength() bool {
	_, ok := v.headerLength()
	return ok
}
