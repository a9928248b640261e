package graph

import (
	"errors"

	"golang.org/x/net/bpf"
)

// ErrTooDeep is the error of a value that takes more than BPF's 16 words of memory.
var ErrTooDeep = errors.New("too many intermediate results")

const memory = 16 // words of scratch memory (BPF_MEMWORDS)

// registers are what A and X hold; nil is unknown.
type registers struct{ a, x *Value }

// assembler writes code, block by block.
type assembler struct {
	blocks []block
	after  map[*node]registers // the blocks that are done

	code []bpf.Instruction // of the block at work
	size int               // of all code
	registers
	inUse int // words of memory
	err   error
}

func (a *assembler) add(i bpf.Instruction) {
	a.code = append(a.code, i)
	a.size++
}

func (a *assembler) endBlock(n *node) {
	a.blocks = append(a.blocks, block{a.code, n})
	a.code = nil
}

// block writes a node: its values into A and, if that is no constant, X; and the jump.
func (a *assembler) block(n *node) {
	for i, e := range n.in {
		before := a.after[e.from]
		if i == 0 {
			a.registers = before
		}
		if a.a != before.a {
			a.a = nil
		}
		if a.x != before.x {
			a.x = nil
		}
	}
	if len(n.in) == 0 {
		a.registers = registers{}
	}
	if n.test.y.op == constant {
		a.toA(n.test.x)
	} else {
		a.both(n.test.x, n.test.y)
	}
	a.after[n] = a.registers
	a.endBlock(n)
}

// toA computes a value into A.
func (a *assembler) toA(v *Value) {
	if a.a == v || a.err != nil {
		return
	}
	if a.size > maxNodes {
		a.err = ErrTooLarge
		return
	}
	switch {
	case a.x == v:
		a.add(bpf.TXA{})
	case v.op == constant:
		a.add(bpf.LoadConstant{Dst: bpf.RegA, Val: v.k})
	case v.op == length:
		a.add(bpf.LoadExtension{Num: bpf.ExtLen})
	case v.op == extension:
		a.add(bpf.LoadExtension{Num: bpf.Extension(v.k)})
	case v.op == load && v.x == nil:
		a.add(bpf.LoadAbsolute{Off: v.k, Size: int(v.size)})
	case v.op == load:
		a.toX(v.x)
		a.add(bpf.LoadIndirect{Off: v.k, Size: int(v.size)})
	case v.op == negate:
		a.toA(v.x)
		a.add(bpf.NegateA{})
	case v.y.op == constant:
		a.toA(v.x)
		a.add(bpf.ALUOpConstant{Op: aluOp(v.op), Val: v.y.k})
	default:
		x, y := v.x, v.y
		if commutes(v.op) && !y.isHeaderLength() && (x.isHeaderLength() || clobbersX(x, y) && !clobbersX(y, x)) {
			x, y = y, x
		}
		a.both(x, y)
		a.add(bpf.ALUOpX{Op: aluOp(v.op)})
	}
	a.a = v
}

// toX computes a value into X, and may use A for that.
func (a *assembler) toX(v *Value) {
	if a.x == v {
		return
	}
	k, isHeader := v.headerLength()
	switch {
	case isHeader:
		a.add(bpf.LoadMemShift{Off: k})
	case v.op == constant:
		a.add(bpf.LoadConstant{Dst: bpf.RegX, Val: v.k})
	default:
		a.toA(v)
		a.add(bpf.TAX{})
	}
	a.x = v
}

// both computes one value into A and another into X.
func (a *assembler) both(x, y *Value) {
	switch {
	case y.isHeaderLength(): // which BPF loads into X without A
		a.toA(x)
		a.toX(y)
	case !clobbersX(x, y):
		a.toX(y)
		a.toA(x)
	case y.depth() >= x.depth():
		a.toA(y)
		word := a.store()
		a.toA(x)
		a.add(bpf.LoadScratch{Dst: bpf.RegX, N: word})
		a.free()
		a.x = y
	default:
		a.toA(x)
		word := a.store()
		a.toX(y)
		a.add(bpf.LoadScratch{Dst: bpf.RegA, N: word})
		a.free()
		a.a = x
	}
}

func (a *assembler) store() int {
	if a.inUse == memory {
		a.err = ErrTooDeep
		return 0
	}
	a.add(bpf.StoreScratch{Src: bpf.RegA, N: a.inUse})
	a.inUse++
	return a.inUse - 1
}

func (a *assembler) free() {
	if a.inUse > 0 {
		a.inUse--
	}
}

// clobbersX says whether computing a value into A changes X, if X holds another.
func clobbersX(v, held *Value) bool {
	switch {
	case v.x == nil:
		return false
	case v.op == load:
		return v.x != held
	case v.y != nil && v.y.op != constant && v.y != held:
		return true
	}
	return clobbersX(v.x, held)
}

// depth is how many words of memory a value needs (Ershov's number).
func (v *Value) depth() int {
	if v.needs > 0 {
		return v.needs - 1
	}
	d := 0
	if v.x != nil {
		d = v.x.depth()
	}
	if v.y != nil && v.y.op != constant {
		y := v.y.depth()
		if d == y {
			d++
		}
		d = max(d, y)
	}
	v.needs = d + 1
	return d
}

func aluOp(op Op) bpf.ALUOp {
	return [...]bpf.ALUOp{Add: bpf.ALUOpAdd, Sub: bpf.ALUOpSub, Mul: bpf.ALUOpMul, Div: bpf.ALUOpDiv, Mod: bpf.ALUOpMod,
		And: bpf.ALUOpAnd, Or: bpf.ALUOpOr, Xor: bpf.ALUOpXor, ShiftLeft: bpf.ALUOpShiftLeft, ShiftRight: bpf.ALUOpShiftRight}[op]
}
