package trim

import "github.com/cilium/ebpf/asm"

// Fields of struct xdp_md of linux/bpf.h.
const (
	xdpData    = 0
	xdpDataEnd = 4
)

const xdpPass = 2 // XDP_PASS

// Veth is the program of a tap whose copies come out of a device on the node, for XDP in
// generic mode, where the kernel runs it before it hands a frame to packet sockets. It cuts
// only. It counts in a map made by Map, of which it takes the descriptor.
func Veth(s Spec, counts int) asm.Instructions {
	c := &code{}
	c.add(
		asm.Mov.Reg(packet, asm.R1),
		asm.LoadMem(asm.R1, packet, xdpData, asm.Word),
		asm.LoadMem(length, packet, xdpDataEnd, asm.Word),
		asm.Sub.Reg(length, asm.R1),
		asm.JLE.Imm(length, int32(s.limit()), "pass"),
		asm.Mov.Imm(most, int32(s.limit())),
		asm.Sub.Reg(most, length),
	)
	c.call(asm.FnXdpAdjustTail, asm.Mov.Reg(asm.R2, most))
	c.add(asm.JNE.Imm(asm.R0, 0, "pass"), asm.Sub.Imm(length, int32(s.limit())))
	c.count(counts, atKey, "the cut", plusOne(offCutPackets), plus(offCutBytes, length))
	c.label("pass", asm.Mov.Imm(asm.R0, xdpPass))
	c.add(asm.Return())
	return c.Instructions
}
