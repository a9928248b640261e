package graph

import (
	"math/rand/v2"
	"testing"

	"golang.org/x/net/bpf"

	"github.com/podtap/podtap/pkg/pcapfilter/internal/reference"
)

// maker makes formulas out of bytes, which a fuzzer changes.
type maker struct {
	*Builder
	bytes []byte
}

func (m *maker) next(below int) int {
	if len(m.bytes) == 0 {
		return 0
	}
	b := m.bytes[0]
	m.bytes = m.bytes[1:]
	return int(b) % below
}

func (m *maker) formula(depth int) *Formula {
	switch kind := m.next(8); {
	case depth > 0 && kind < 2:
		return AllOf(m.formula(depth-1), m.formula(depth-1), m.formula(depth-1))
	case depth > 0 && kind < 4:
		return AnyOf(m.formula(depth-1), m.formula(depth-1), m.formula(depth-1))
	case depth > 0 && kind < 5:
		return Not(m.formula(depth - 1))
	case kind == 5 && m.next(4) == 0:
		return True
	}
	ask, x, y := Comparison(m.next(4)), m.value(2), m.value(1)
	if ask == BitsSet || m.next(2) == 0 {
		return m.Compare(ask, x, y)
	}
	return m.Relation(ask, x, y, m.next(2) == 0)
}

func (m *maker) value(depth int) *Value {
	switch kind := m.next(8); {
	case kind < 2:
		return m.Const([]uint32{0, 1, 4, 6, 0x0f, 0x800, 1500, 0x8100, 0x88a8, 0x45, 0xffff, 0xffffffff, 0x80000000, 31, 32}[m.next(15)])
	case kind == 2:
		return m.Length()
	case depth > 0 && kind < 5:
		return m.Binary(Op(1+m.next(10)), m.value(depth-1), m.value(depth-1))
	case depth > 0 && kind == 5:
		return m.Load(m.value(depth-1), uint32(m.next(20)), 1<<m.next(3))
	case depth > 0 && kind == 6 && m.next(3) == 0:
		return m.Negate(m.value(depth - 1))
	}
	return m.Load(nil, uint32(m.next(24)), 1<<m.next(3))
}

// answer is a formula's answer to a packet, worked out from the formula itself: whole is
// false where the packet has not all that the formula asks for on the way.
func answer(f *Formula, p reference.Packet) (holds, whole bool) {
	switch f.kind {
	case isTrue, isFalse:
		return f.kind == isTrue, true
	case isNot:
		holds, whole = answer(f.x, p)
		return !holds, whole
	case isAnd, isOr:
		if holds, whole = answer(f.x, p); !whole || holds == (f.kind == isOr) {
			return holds, whole
		}
		return answer(f.y, p)
	}
	x, okX := valueOf(f.test.x, p)
	y, okY := valueOf(f.test.y, p)
	return f.test.ask.holds(x, y), okX && okY
}

func valueOf(v *Value, p reference.Packet) (uint32, bool) {
	switch v.op {
	case constant:
		return v.k, true
	case length:
		return p.Length, true
	case never:
		return 0, false
	case load:
		at, ok := v.k, true
		if v.x != nil {
			var x uint32
			x, ok = valueOf(v.x, p)
			at += x
		}
		n := uint32(0)
		for i := range uint32(v.size) {
			if uint64(at)+uint64(i) >= uint64(len(p.Bytes)) {
				return 0, false
			}
			n = n<<8 | uint32(p.Bytes[at+i])
		}
		return n, ok
	case negate:
		x, ok := valueOf(v.x, p)
		return -x, ok
	}
	x, okX := valueOf(v.x, p)
	y, okY := valueOf(v.y, p)
	if y == 0 && (v.op == Div || v.op == Mod) {
		return 0, false
	}
	return compute(v.op, x, y), okX && okY
}

func FuzzGraph(f *testing.F) {
	r := rand.New(rand.NewPCG(1, 1))
	for range 200 {
		b := make([]byte, 60+r.IntN(400))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		f.Add(b, b[:40])
	}
	f.Fuzz(func(t *testing.T, shape, packet []byte) {
		file, asked := assemble(t, shape, false)
		kernel, _ := assemble(t, shape, true)
		if file == nil || kernel == nil {
			return
		}
		for _, frame := range frames(packet) {
			p := reference.Packet{Bytes: frame, Length: uint32(len(frame))}
			o := reference.Run(file, p)
			if want, whole := answer(asked, p); whole && (o.Verdict != 0) != want || o.Hazard {
				t.Errorf("the program for files says %+v to %x, want %t", o, frame, want)
			}
			p.InLinux = true
			if k := reference.Run(kernel, p); k.Verdict != o.Verdict || k.Hazard {
				t.Errorf("the program for Linux says %+v to %x, want %d", k, frame, o.Verdict)
			}
			if len(frame) < 18 || string(frame[12:14]) != "\x81\x00" {
				continue
			}
			p = reference.Packet{Bytes: append(append([]byte(nil), frame[:12]...), frame[16:]...), Length: p.Length - 4,
				InLinux: true, Tagged: true, TagType: 0x8100, Tag: uint16(frame[14])<<8 | uint16(frame[15])}
			if k := reference.Run(kernel, p); k.Verdict != o.Verdict || k.Hazard {
				t.Errorf("the program for Linux says %+v to %x with its tag beside, want %d", k, frame, o.Verdict)
			}
		}
	})
}

// frames are a packet as it is, long, and with a tag.
func frames(packet []byte) [][]byte {
	long := append(append([]byte(nil), packet...), make([]byte, 100)...)
	tagged := append([]byte(nil), long...)
	copy(tagged[12:], "\x81\x00")
	return [][]byte{packet, long, tagged}
}

// assemble makes a formula and its program; nil where that would be too large.
func assemble(t *testing.T, shape []byte, tagBeside bool) ([]bpf.RawInstruction, *Formula) {
	m := &maker{NewBuilder(), shape}
	formula := m.formula(4)
	g, err := m.Graph(formula)
	if err != nil {
		t.Fatal(err)
	}
	g.Optimize()
	if tagBeside {
		if err := g.TagBeside(); err != nil {
			return nil, nil
		}
	}
	code, err := g.Assemble(1)
	if err != nil {
		return nil, nil
	}
	program, err := bpf.Assemble(code)
	if err != nil {
		t.Fatal(err)
	}
	return program, formula
}
