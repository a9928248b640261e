package graph

import "math/bits"

// Binary is x op y.
func (b *Builder) Binary(op Op, x, y *Value) *Value {
	if x.op == never || y.op == never {
		return b.value(Value{op: never})
	}
	if x.op == constant && y.op == constant && !(y.k == 0 && (op == Div || op == Mod)) {
		return b.Const(compute(op, x.k, y.k))
	}
	if simple := b.simplify(op, x, y); simple != nil {
		return simple
	}
	if (op == ShiftLeft || op == ShiftRight) && y.most > 31 {
		return b.wideShift(op, x, y)
	}
	if x.op == constant && commutes(op) {
		x, y = y, x
	}
	return b.value(Value{op: op, x: x, y: y, most: most(op, x, y)})
}

// simplify knows what needs no computation. An operand that does not matter is not
// read, so a packet that is too short for it passes on; libpcap does the same.
func (b *Builder) simplify(op Op, x, y *Value) *Value {
	switch op {
	case Add, Or, Xor:
		if x.is(0) {
			return y
		}
		if y.is(0) {
			return x
		}
	case Sub:
		if y.is(0) {
			return x
		}
	case ShiftLeft, ShiftRight:
		if y.is(0) || x.is(0) {
			return x
		}
	case Mul, And:
		if x.is(0) || y.is(0) {
			return b.Const(0)
		}
		if op == And && y.op == constant && y.k&(1<<bits.Len32(x.most)-1) == 1<<bits.Len32(x.most)-1 {
			return x
		}
	case Div, Mod:
		if x.is(0) {
			return x
		}
	}
	return nil
}

// wideShift is a shift by what may be more than 31 bits, which processors take modulo
// 32 while libpcap's answer is 0. The last factor is 1 up to 31, and 0 above.
func (b *Builder) wideShift(op Op, x, y *Value) *Value {
	one := b.Const(1)
	fits := b.Binary(ShiftRight, b.Binary(Sub, b.Binary(ShiftRight, y, b.Const(5)), one), b.Const(31))
	return b.Binary(Mul, b.Binary(op, x, b.Binary(And, y, b.Const(31))), fits)
}

func commutes(op Op) bool {
	switch op {
	case Add, Mul, And, Or, Xor:
		return true
	}
	return false
}

// compute is what a program would. The divisor is not 0.
func compute(op Op, x, y uint32) uint32 {
	switch op {
	case Add:
		return x + y
	case Sub:
		return x - y
	case Mul:
		return x * y
	case Div:
		return x / y
	case Mod:
		return x % y
	case And:
		return x & y
	case Or:
		return x | y
	case Xor:
		return x ^ y
	case ShiftLeft:
		return x << y
	default:
		return x >> y
	}
}

// most bounds x op y.
func most(op Op, x, y *Value) uint32 {
	const all = 1<<32 - 1
	switch {
	case op == Add && x.most <= all-y.most:
		return x.most + y.most
	case op == Mul && uint64(x.most)*uint64(y.most) <= all:
		return x.most * y.most
	case op == Div, op == ShiftRight && y.op != constant:
		return x.most
	case op == Mod && y.op == constant && y.k > 0:
		return y.k - 1
	case op == And:
		return min(x.most, y.most)
	case op == Or, op == Xor:
		return 1<<bits.Len32(x.most|y.most) - 1
	case op == ShiftLeft && y.op == constant && bits.Len32(x.most)+int(y.k) <= 32:
		return x.most << y.k
	case op == ShiftRight:
		return x.most >> y.k
	}
	return all
}
