// Package reference runs classic BPF as libpcap's own interpreter does, and Linux. The
// compiler's tests hold its programs, and libpcap's, against each other with it; no program
// of podtap's has it.
package reference

import (
	"encoding/binary"

	"golang.org/x/net/bpf"
)

// Packet is a frame as a program gets it.
type Packet struct {
	Bytes  []byte
	Length uint32 // on the wire, in bytes
	// InLinux says that there is more to read than the bytes. If Tagged, that is the VLAN
	// tag, and its type, which are not among the bytes then.
	InLinux      bool
	Tagged       bool
	Tag, TagType uint16
}

// Outcome is what a run came to.
type Outcome struct {
	Verdict uint32
	// Hazard says that the program came to what Linux does otherwise than libpcap: an
	// offset of 2^31 or more, which Linux takes as a negative one, or a shift by more than
	// 31 bits.
	Hazard bool
	// Failed says that the program ended at what the packet has not, or at a division by zero.
	Failed bool
}

// Run runs a program.
func Run(program []bpf.RawInstruction, p Packet) (o Outcome) {
	var a, x uint32
	var memory [16]uint32
	for pc := 0; ; pc++ {
		i := &program[pc]
		operand := i.K
		if i.Op&0x08 != 0 {
			operand = x
		}
		ok := true
		switch i.Op & 0x07 {
		case 0x00: // ld
			switch i.Op & 0xe0 {
			case 0x00:
				a = i.K
			case 0x20:
				a, ok = p.load(i.K, i.Op)
			case 0x40:
				at := x + i.K
				o.Hazard = o.Hazard || at >= 1<<31
				a, ok = p.bytes(at, i.Op)
			case 0x60:
				a = memory[i.K]
			case 0x80:
				a = p.Length
			}
		case 0x01: // ldx
			switch i.Op & 0xe0 {
			case 0x00:
				x = i.K
			case 0x60:
				x = memory[i.K]
			case 0x80:
				x = p.Length
			case 0xa0:
				x, ok = p.bytes(i.K, i.Op)
				x = (x & 0xf) << 2
			}
		case 0x02: // st
			memory[i.K] = a
		case 0x03: // stx
			memory[i.K] = x
		case 0x04: // alu
			o.Hazard = o.Hazard || (i.Op&0xf0 == 0x60 || i.Op&0xf0 == 0x70) && operand > 31
			a, ok = alu(i.Op&0xf0, a, operand)
		case 0x05: // jmp
			switch i.Op & 0xf0 {
			case 0x00:
				pc += int(i.K)
				continue
			case 0x10:
				ok = a == operand
			case 0x20:
				ok = a > operand
			case 0x30:
				ok = a >= operand
			case 0x40:
				ok = a&operand != 0
			}
			if ok {
				pc += int(i.Jt)
			} else {
				pc += int(i.Jf)
			}
			continue
		case 0x06: // ret
			o.Verdict = i.K
			return o
		case 0x07: // tax, txa
			if i.Op&0xf8 == 0x80 {
				a = x
			} else {
				x = a
			}
		}
		if !ok {
			o.Failed = true
			return o
		}
	}
}

// load reads bytes, or what Linux has beside them: the numbers are those of linux/filter.h.
func (p *Packet) load(offset uint32, op uint16) (uint32, bool) {
	if p.InLinux && offset >= 0xfffff000 {
		switch offset - 0xfffff000 {
		case 44:
			return uint32(p.Tag), true
		case 48:
			if p.Tagged {
				return 1, true
			}
			return 0, true
		case 60:
			return uint32(p.TagType), true
		}
	}
	return p.bytes(offset, op)
}

// bytes reads as many bytes as an instruction's code says.
func (p *Packet) bytes(offset uint32, op uint16) (uint32, bool) {
	size := 4 >> (op & 0x18 >> 3)
	if uint64(offset)+uint64(size) > uint64(len(p.Bytes)) {
		return 0, false
	}
	switch b := p.Bytes[offset:]; size {
	case 4:
		return binary.BigEndian.Uint32(b), true
	case 2:
		return uint32(binary.BigEndian.Uint16(b)), true
	default:
		return uint32(b[0]), true
	}
}

func alu(op uint16, a, b uint32) (uint32, bool) {
	switch op {
	case 0x00:
		return a + b, true
	case 0x10:
		return a - b, true
	case 0x20:
		return a * b, true
	case 0x30:
		if b == 0 {
			return 0, false
		}
		return a / b, true
	case 0x40:
		return a | b, true
	case 0x50:
		return a & b, true
	case 0x60:
		return a << b, true
	case 0x70:
		return a >> b, true
	case 0x80:
		return -a, true
	case 0x90:
		if b == 0 {
			return 0, false
		}
		return a % b, true
	default: // 0xa0
		return a ^ b, true
	}
}
