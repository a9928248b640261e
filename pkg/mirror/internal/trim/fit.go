package trim

import (
	"fmt"

	"github.com/cilium/ebpf/asm"
)

// Fields of struct __sk_buff of linux/bpf.h, by their offsets.
const (
	skbLength     = 0
	skbProtocol   = 16
	skbTagPresent = 20 // an 802.1Q tag beside the frame's bytes
	skbGSOSize    = 176
)

// Offsets in frames, of headers that begin there, and in those headers.
const (
	offNetwork = 14 // without a tag, which the kernel has beside
	ipv4Length = 2
	ipv4Frag   = 6
	ipv4Proto  = 9
	ipv4Sum    = 10
	ipv4Source = 12 // and the destination behind it
	ipv6Length = 4
	ipv6Next   = 6
	ipv6Source = 8
	lenIPv6    = 40
	tcpSeq     = 4
	tcpFlags   = 12 // with the header's length
	tcpSum     = 16
	lenTCP     = 20 // without options
	maxTCP     = 60
	protoTCP   = 6
)

// Flags of TCP.
const (
	tcpFIN, tcpSYN, tcpRST, tcpPSH, tcpURG, tcpCWR = 0x01, 0x02, 0x04, 0x08, 0x20, 0x80
)

// Where things are on the stack, below its top.
const (
	atNetwork = -40  // the first 40 bytes of the network header
	atTCP     = -104 // the TCP header, with room for 64 bytes
	atSum     = -112 // the checksum of the tail
	atSwapped = -120 // the same, as it stands at an odd place
	atTCPAt   = -128 // the TCP header's offset in the frame
	atKey     = -136
	atValue   = -144
)

// atTail is where the second half's bytes are, at the stack's end: the verifier copies all of a
// stack again and again.
func (s Spec) atTail() int16 { return atValue - int16(s.split()) }

const (
	actNext = -1 // TC_ACT_UNSPEC, on to the next rule
	actShot = 2  // TC_ACT_SHOT
)

// Fit is the program of a tap with a Path and no Snap, for tc's ingress hook in direct-action
// mode. It counts in a map made by Map, of which it takes the descriptor.
func Fit(s Spec, counts int) asm.Instructions {
	c := &code{}
	c.begin()
	c.add(
		asm.LoadMem(length, packet, skbLength, asm.Word),
		// VXLAN puts a tag back into the bytes.
		asm.Mov.Imm(most, int32(s.Path)),
		asm.LoadMem(asm.R1, packet, skbTagPresent, asm.Word), // 0 or 1
		asm.Mul.Imm(asm.R1, lenTag),
		asm.Sub.Reg(most, asm.R1),
		asm.LoadMem(asm.R1, packet, skbGSOSize, asm.Word),
		asm.JEq.Imm(asm.R1, 0, "single"),
	)
	c.readHeaders()
	c.add(asm.LoadMem(asm.R1, packet, skbGSOSize, asm.Word), asm.JNE.Imm(asm.R1, 0, "fit"))
	c.split(s, counts)
	c.fit(s, counts)
	c.label("single", asm.JLE.Reg(length, most, "next"))
	c.add(asm.Ja.Label("read headers"))
	c.cut(counts)
	c.label("next", asm.Mov.Imm(asm.R0, actNext))
	c.add(asm.Return())
	return c.Instructions
}

// cut cuts what is longer than it may be. What the kernel does not let be cut goes on whole: a
// packet in a tunnel of the pod's own whose inner checksum is still to be filled in.
func (c *code) cut(counts int) {
	c.label("cut", asm.JLE.Reg(length, most, "next"))
	c.call(asm.FnSkbChangeTail, asm.Mov.Reg(asm.R2, most), asm.Mov.Imm(asm.R3, 0))
	c.add(asm.JNE.Imm(asm.R0, 0, "next"), asm.Sub.Reg(length, most))
	c.count(counts, "the cut", plusOne(offCutPackets), plus(offCutBytes, length))
}

// readHeaders leaves the length of the headers up to TCP's in header, 0 for what is not
// plain TCP; then the network header and TCP's 20 bytes are on the stack.
func (c *code) readHeaders() {
	c.label("read headers", asm.Mov.Imm(header, 0))
	c.call(asm.FnSkbLoadBytes, append(onStack(asm.R3, atNetwork), asm.Mov.Imm(asm.R2, offNetwork), asm.Mov.Imm(asm.R4, lenIPv6))...)
	c.add(
		asm.JNE.Imm(asm.R0, 0, "headers read"),
		asm.LoadMem(asm.R1, packet, skbProtocol, asm.Word),
		asm.JEq.Imm(asm.R1, networkOrder(0x86dd), "IPv6"),
		asm.JNE.Imm(asm.R1, networkOrder(0x0800), "headers read"),
		// The verifier goes this way first; what it takes for any length it takes for IPv6's.
		asm.LoadMem(asm.R1, asm.R10, atNetwork+ipv4Proto, asm.Byte),
		asm.JNE.Imm(asm.R1, protoTCP, "headers read"),
		asm.LoadMem(asm.R2, asm.R10, atNetwork, asm.Byte),
		asm.And.Imm(asm.R2, 0x0f),
		asm.LSh.Imm(asm.R2, 2),
		asm.Add.Imm(asm.R2, offNetwork),
		asm.Ja.Label("TCP"),
		asm.LoadMem(asm.R1, asm.R10, atNetwork+ipv6Next, asm.Byte).WithSymbol("IPv6"),
		asm.JNE.Imm(asm.R1, protoTCP, "headers read"),
		asm.Mov.Imm(asm.R2, offNetwork+lenIPv6),
		asm.StoreMem(asm.R10, atTCPAt, asm.R2, asm.DWord).WithSymbol("TCP"),
	)
	c.call(asm.FnSkbLoadBytes, append(onStack(asm.R3, atTCP), asm.Mov.Imm(asm.R4, lenTCP))...)
	c.add(
		asm.JNE.Imm(asm.R0, 0, "headers read"),
		asm.LoadMem(header, asm.R10, atTCP+tcpFlags, asm.Byte),
		asm.RSh.Imm(header, 4),
		asm.LSh.Imm(header, 2),
		asm.LoadMem(asm.R1, asm.R10, atTCPAt, asm.DWord),
		asm.Add.Reg(header, asm.R1),
	)
	c.label("headers read", asm.Mov.Imm(asm.R0, 0))
}

const (
	// unknownHeaders is more than the headers take of a super-packet that is not plain TCP,
	// such as TCP in a tunnel, in bytes.
	unknownHeaders = 200
	// leastSegment is the shortest payload that super-packets are segmented to, in bytes.
	leastSegment = 8
	// roomStep is how much room one call may make, in bytes: below the kernel's 4095.
	roomStep  = 4080
	roomSteps = 16 // at most
	roomAtMAC = 1  // BPF_ADJ_ROOM_MAC
	fixedGSO  = 1  // BPF_F_ADJ_ROOM_FIXED_GSO
)

// fit makes the segments of a TCP super-packet smaller, and leaves its bytes alone. To make
// room behind the Ethernet header takes as much from the size of the segments; to take it
// away again with the flag for that gives nothing back.
func (c *code) fit(s Spec, counts int) {
	c.label("fit", asm.JNE.Imm(header, 0, "headers known"))
	c.add(asm.Mov.Imm(header, unknownHeaders))
	c.label("headers known", asm.LoadMem(asm.R2, packet, skbGSOSize, asm.Word))
	c.add(
		asm.Mov.Reg(asm.R3, asm.R2),
		asm.Add.Reg(asm.R3, header),
		asm.Sub.Reg(asm.R3, most), // by how much a segment is too long
		asm.JSLE.Imm(asm.R3, 0, "next"),
		asm.Mov.Reg(asm.R4, most),
		asm.Sub.Reg(asm.R4, header), // the payload that a segment is to have
		asm.JSLT.Imm(asm.R4, leastSegment, "cut"),
		asm.Mov.Reg(asm.R5, length),
		asm.Sub.Reg(asm.R5, header),
		asm.JSLE.Imm(asm.R5, 0, "cut"),
		// Segments then, rounded up, less those now.
		asm.Mov.Reg(asm.R0, asm.R5),
		asm.Add.Reg(asm.R0, asm.R4),
		asm.Sub.Imm(asm.R0, 1),
		asm.Div.Reg(asm.R0, asm.R4),
		asm.Add.Reg(asm.R5, asm.R2),
		asm.Sub.Imm(asm.R5, 1),
		asm.Div.Reg(asm.R5, asm.R2),
		asm.Sub.Reg(asm.R0, asm.R5),
		asm.StoreMem(asm.R10, atValue, asm.R0, asm.DWord),
		asm.Mov.Reg(header, asm.R3),
	)
	// A segment is too long by no more than that.
	steps := min(1+max(s.Longest-s.Path+unknownHeaders, 0)/roomStep, roomSteps)
	for i := range steps {
		whole := fmt.Sprint("room ", i)
		c.add(asm.Mov.Reg(asm.R2, header), asm.JLE.Imm(asm.R2, roomStep, whole), asm.Mov.Imm(asm.R2, roomStep))
		c.label(whole, asm.StoreMem(asm.R10, atSum, asm.R2, asm.DWord))
		c.call(asm.FnSkbAdjustRoom, asm.Mov.Imm(asm.R3, roomAtMAC), asm.Mov.Imm(asm.R4, 0))
		c.add(asm.JNE.Imm(asm.R0, 0, "cut"))
		c.call(asm.FnSkbAdjustRoom, asm.LoadMem(asm.R3, asm.R10, atSum, asm.DWord), asm.Mov.Imm(asm.R2, 0), asm.Sub.Reg(asm.R2, asm.R3),
			asm.Mov.Imm(asm.R3, roomAtMAC), asm.Mov.Imm(asm.R4, fixedGSO))
		c.add(
			asm.JNE.Imm(asm.R0, 0, "lost"),
			asm.LoadMem(asm.R2, asm.R10, atSum, asm.DWord),
			asm.Sub.Reg(header, asm.R2),
			asm.JEq.Imm(header, 0, "is fit"),
		)
	}
	c.add(asm.Ja.Label("cut"))
	c.label("is fit", asm.LoadMem(length, asm.R10, atValue, asm.DWord))
	c.count(counts, "the segments", plus(offSegments, length))
	c.add(asm.Ja.Label("next"))
	c.label("lost", asm.Mov.Imm(asm.R0, 0))
	c.count(counts, "the loss", plusOne(offLost))
	c.add(asm.Mov.Imm(asm.R0, actShot), asm.Return())
}
