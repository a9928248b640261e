package pcapfilter

import (
	"fmt"
	"strings"

	"golang.org/x/net/bpf"
)

// Decimal writes a program as `tcpdump -ddd` does: the number of instructions, and each
// on a line, with its code, the jumps if true and if false, and its operand.
func Decimal(program []bpf.RawInstruction) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d\n", len(program))
	for _, i := range program {
		fmt.Fprintf(&b, "%d %d %d %d\n", i.Op, i.Jt, i.Jf, i.K)
	}
	return b.String()
}

// Readable writes a program as `tcpdump -d` does: each instruction with its number, and
// jumps with the numbers of those that they lead to.
func Readable(program []bpf.RawInstruction) string {
	var b strings.Builder
	for n, raw := range program {
		var i bpf.Instruction = raw
		if raw.Op&0xe7 != 0x20 || raw.Op == 0x20 || raw.K < 1<<31 {
			i = raw.Disassemble()
		}
		operation, operand := readable(i)
		line := fmt.Sprintf("(%03d) %-8s %s", n, operation, operand)
		switch raw.Op & 0xf7 { // without the bit for "with X"
		case 0x05: // ja
			line = fmt.Sprintf("(%03d) %-8s %d", n, "ja", n+1+int(raw.K))
		case 0x15, 0x25, 0x35, 0x45:
			line = fmt.Sprintf("(%03d) %-8s %-16s jt %d\tjf %d", n, operation, operand, n+1+int(raw.Jt), n+1+int(raw.Jf))
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return b.String()
}

// readable is an instruction but for its jumps.
func readable(i bpf.Instruction) (operation, operand string) {
	registers := map[bpf.Register]string{bpf.RegA: "", bpf.RegX: "x"}
	sizes := map[int]string{1: "b", 2: "h", 4: ""}
	switch i := i.(type) {
	case bpf.LoadConstant:
		return "ld" + registers[i.Dst], fmt.Sprintf("#%#x", i.Val)
	case bpf.LoadScratch:
		return "ld" + registers[i.Dst], fmt.Sprintf("M[%d]", i.N)
	case bpf.LoadAbsolute:
		return "ld" + sizes[i.Size], fmt.Sprintf("[%d]", int32(i.Off))
	case bpf.LoadIndirect:
		return "ld" + sizes[i.Size], fmt.Sprintf("[x + %d]", int32(i.Off))
	case bpf.LoadMemShift:
		return "ldxb", fmt.Sprintf("4*([%d]&0xf)", int32(i.Off))
	case bpf.LoadExtension:
		return "ld", extensionName(i.Num)
	case bpf.RawInstruction: // an offset that means neither a byte nor what we know beside
		if i.Op&0xe7 == 0x20 {
			return "ld" + map[uint16]string{0x00: "", 0x08: "h", 0x10: "b"}[i.Op&0x18], fmt.Sprintf("[%d]", int32(i.K))
		}
	case bpf.StoreScratch:
		return "st" + registers[i.Src], fmt.Sprintf("M[%d]", i.N)
	case bpf.ALUOpConstant:
		if i.Op == bpf.ALUOpAnd || i.Op == bpf.ALUOpOr || i.Op == bpf.ALUOpXor {
			return aluName(i.Op), fmt.Sprintf("#%#x", i.Val)
		}
		return aluName(i.Op), fmt.Sprintf("#%d", int32(i.Val))
	case bpf.ALUOpX:
		return aluName(i.Op), "x"
	case bpf.NegateA:
		return "neg", ""
	case bpf.JumpIf:
		return jumpName(i.Cond), fmt.Sprintf("#%#x", i.Val)
	case bpf.JumpIfX:
		return jumpName(i.Cond), "x"
	case bpf.RetA:
		return "ret", ""
	case bpf.RetConstant:
		return "ret", fmt.Sprintf("#%d", i.Val)
	case bpf.TAX:
		return "tax", ""
	case bpf.TXA:
		return "txa", ""
	}
	return fmt.Sprint(i), ""
}

func aluName(op bpf.ALUOp) string {
	return map[bpf.ALUOp]string{bpf.ALUOpAdd: "add", bpf.ALUOpSub: "sub", bpf.ALUOpMul: "mul", bpf.ALUOpDiv: "div", bpf.ALUOpMod: "mod",
		bpf.ALUOpAnd: "and", bpf.ALUOpOr: "or", bpf.ALUOpXor: "xor", bpf.ALUOpShiftLeft: "lsh", bpf.ALUOpShiftRight: "rsh"}[op]
}

// jumpName is that of a comparison. The package of the instructions turns those that jump
// on false only into their contraries, which tcpdump does not.
func jumpName(cond bpf.JumpTest) string {
	switch cond {
	case bpf.JumpEqual, bpf.JumpNotEqual:
		return "jeq"
	case bpf.JumpGreaterThan, bpf.JumpLessOrEqual:
		return "jgt"
	case bpf.JumpGreaterOrEqual, bpf.JumpLessThan:
		return "jge"
	}
	return "jset"
}

// extensionName is that of what Linux knows of a packet beside its bytes.
func extensionName(n bpf.Extension) string {
	switch n {
	case bpf.ExtLen:
		return "#pktlen"
	case bpf.ExtVLANTag:
		return "[vlan_tci]"
	case bpf.ExtVLANTagPresent:
		return "[vlanp]"
	case bpf.ExtVLANProto:
		return "[vlan_tpid]"
	}
	return fmt.Sprintf("[%d]", int32(n)-0x1000)
}
