package trim

import "github.com/cilium/ebpf/asm"

// Fields of struct xdp_md of linux/bpf.h.
const (
	xdpData    = 0
	xdpDataEnd = 4
)

const xdpPass = 2 // XDP_PASS

// Cut is the program of a tap with a Snap, for XDP in generic mode, where the kernel runs it
// before it looks at a frame in any other way. Beside packet sockets, that has it cut what
// the helper of tc's programs refuses: packets in tunnels of the pod's own, and anything
// before a checksum that is still to be filled in. It counts in a map made by Map, of which it
// takes the descriptor.
func Cut(s Spec, counts int) asm.Instructions {
	c := &code{}
	c.begin()
	c.add(
		asm.LoadMem(asm.R1, packet, xdpData, asm.Word),
		asm.LoadMem(length, packet, xdpDataEnd, asm.Word),
		asm.Sub.Reg(length, asm.R1),
		asm.JLE.Imm(length, s.cut(), "pass"),
		asm.Mov.Imm(most, s.cut()),
		asm.Sub.Reg(most, length),
	)
	c.call(asm.FnXdpAdjustTail, asm.Mov.Reg(asm.R2, most))
	c.add(asm.JNE.Imm(asm.R0, 0, "pass"), asm.Sub.Imm(length, s.cut()))
	c.count(counts, "the cut", plusOne(offCutPackets), plus(offCutBytes, length))
	c.label("pass", asm.Mov.Imm(asm.R0, xdpPass))
	c.add(asm.Return())
	return c.Instructions
}

// cut is the longest frame that is left, in bytes.
func (s Spec) cut() int32 {
	if s.Path > 0 {
		return int32(min(s.Snap, s.Path))
	}
	return int32(s.Snap)
}
