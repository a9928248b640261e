package trim

import (
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

const (
	pseudoHeader = 0x10 // BPF_F_PSEUDO_HDR
	recompute    = 1    // BPF_F_RECOMPUTE_CSUM
)

// split makes two packets of a TCP packet that is too long and no super-packet, as the
// sender would have, had its path been narrower: the kernel segments none but super-packets.
// The first goes to the relay from here; the second, which has the last few bytes, goes on.
// Its bytes are copied to where the first one's began, so that the TCP header stays where the
// kernel knows the checksum's place. Of a packet whose checksum is still to be filled in the
// kernel's helpers change only what that begins with.
func (c *code) split(s Spec, counts int) {
	c.add(asm.JEq.Imm(header, 0, "cut"), asm.JLE.Reg(header, most, "long enough"), asm.Ja.Label("cut"))
	c.label("long enough", asm.Mov.Reg(asm.R1, length))
	c.add(
		asm.Sub.Imm(asm.R1, s.split()),
		asm.JGT.Reg(asm.R1, most, "cut"),
		asm.Sub.Reg(asm.R1, header),
		asm.JSLT.Imm(asm.R1, s.split(), "cut"),
		// A connection's beginning and end, and urgent data, are more than bytes.
		asm.LoadMem(asm.R1, asm.R10, atTCP+tcpFlags+1, asm.Byte),
		asm.And.Imm(asm.R1, tcpSYN|tcpRST|tcpURG),
		asm.JNE.Imm(asm.R1, 0, "cut"),
		asm.LoadMem(asm.R1, packet, skbProtocol, asm.Word),
		asm.JEq.Imm(asm.R1, networkOrder(0x86dd), "is IPv6"),
		// No fragment, and nothing behind what IP counts.
		asm.LoadMem(asm.R1, asm.R10, atNetwork+ipv4Frag, asm.Half),
		asm.And.Imm(asm.R1, networkOrder(0x3fff)),
		asm.JNE.Imm(asm.R1, 0, "cut"),
		asm.LoadMem(asm.R1, asm.R10, atNetwork+ipv4Length, asm.Half),
		asm.HostTo(asm.BE, asm.R1, asm.Half),
		asm.Add.Imm(asm.R1, offNetwork),
		asm.Ja.Label("length known"),
		asm.LoadMem(asm.R1, asm.R10, atNetwork+ipv6Length, asm.Half).WithSymbol("is IPv6"),
		asm.HostTo(asm.BE, asm.R1, asm.Half),
		asm.Add.Imm(asm.R1, offNetwork+lenIPv6),
		asm.JNE.Reg(asm.R1, length, "cut").WithSymbol("length known"),
	)
	c.keepTail(s)
	c.keepHeader()
	c.firstHalf(s, counts)
	c.secondHalf(s)
	c.count(counts, "the half", plusOne(offSegments))
	c.add(asm.Ja.Label("next"))
}

// keepTail copies the last bytes to the stack, with their checksum.
func (c *code) keepTail(s Spec) {
	c.call(asm.FnSkbLoadBytes, append(onStack(asm.R3, s.atTail()), asm.Mov.Reg(asm.R2, length), asm.Sub.Imm(asm.R2, s.split()),
		asm.Mov.Imm(asm.R4, s.split()))...)
	c.add(asm.JNE.Imm(asm.R0, 0, "cut"))
	c.add(asm.Mov.Imm(asm.R1, 0), asm.Mov.Imm(asm.R2, 0))
	c.add(onStack(asm.R3, s.atTail())...)
	c.add(asm.Mov.Imm(asm.R4, s.split()), asm.Mov.Imm(asm.R5, 0), asm.FnCsumDiff.Call())
	for range 2 { // 32 bits to 16
		c.add(
			asm.Mov.Reg(asm.R1, asm.R0),
			asm.LSh.Imm(asm.R1, 32), asm.RSh.Imm(asm.R1, 48),
			asm.And.Imm(asm.R0, 0xffff),
			asm.Add.Reg(asm.R0, asm.R1),
		)
	}
	c.add(
		asm.StoreMem(asm.R10, atSum, asm.R0, asm.DWord),
		// At an odd place in the packet its bytes count in each other's stead.
		asm.Mov.Reg(asm.R1, length),
		asm.Sub.Reg(asm.R1, header),
		asm.And.Imm(asm.R1, 1), // the tail is even
		asm.JEq.Imm(asm.R1, 0, "even"),
		asm.Mov.Reg(asm.R1, asm.R0),
		asm.LSh.Imm(asm.R0, 8), asm.RSh.Imm(asm.R1, 8),
		asm.Or.Reg(asm.R0, asm.R1), asm.And.Imm(asm.R0, 0xffff),
		asm.StoreMem(asm.R10, atSwapped, asm.R0, asm.DWord).WithSymbol("even"),
	)
}

// keepHeader copies the whole TCP header to the stack, with zeros behind it.
func (c *code) keepHeader() {
	c.add(asm.Mov.Imm(asm.R1, 0))
	for at := int16(atTCP); at < atTCP+64; at += 8 {
		c.add(asm.StoreMem(asm.R10, at, asm.R1, asm.DWord))
	}
	c.call(asm.FnSkbLoadBytes, append(onStack(asm.R3, atTCP), asm.LoadMem(asm.R2, asm.R10, atTCPAt, asm.DWord),
		asm.Mov.Reg(asm.R4, header), asm.Sub.Reg(asm.R4, asm.R2),
		asm.JLT.Imm(asm.R4, lenTCP, "cut"), asm.JGT.Imm(asm.R4, maxTCP, "cut"))...)
	c.add(asm.JNE.Imm(asm.R0, 0, "cut"))
	// From here on the limit is not needed any more.
	c.add(asm.LoadMem(most, asm.R10, atTCPAt, asm.DWord))
}

// store writes the bytes of a size that R3 points to, at an offset that R2 has.
func (c *code) store(size int32, what ...asm.Instruction) {
	c.call(asm.FnSkbStoreBytes, append(what, asm.Mov.Imm(asm.R4, size), asm.Mov.Imm(asm.R5, recompute))...)
}

// putHalf writes the 16 bits of the value on the stack, at an offset in the TCP header.
func (c *code) putHalf(offset int32) {
	c.store(2, append(onStack(asm.R3, atValue), asm.Mov.Reg(asm.R2, most), asm.Add.Imm(asm.R2, offset))...)
}

// sumTCP tells the TCP checksum that R3 has become R4.
func (c *code) sumTCP(flags int32, values ...asm.Instruction) {
	c.call(asm.FnL4CsumReplace, append(values, asm.Mov.Reg(asm.R2, most), asm.Add.Imm(asm.R2, tcpSum), asm.Mov.Imm(asm.R5, flags))...)
}

// bigEndian makes a register a 16-bit number in the network's order.
func bigEndian(r asm.Register) asm.Instruction { return asm.HostTo(asm.BE, r, asm.Half) }

// lengths writes IP's length and tells the checksums: the frame had the bytes that was
// leaves in a register, and now has those of is.
func (c *code) lengths(half string, was, is func(asm.Register) []asm.Instruction) {
	ip := func(headers, lengthAt int32) {
		c.add(is(asm.R1)...)
		c.add(asm.Sub.Imm(asm.R1, headers), bigEndian(asm.R1), asm.StoreMem(asm.R10, atValue, asm.R1, asm.Half))
		c.store(2, append(onStack(asm.R3, atValue), asm.Mov.Imm(asm.R2, offNetwork+lengthAt))...)
	}
	c.add(asm.LoadMem(asm.R1, packet, skbProtocol, asm.Word), asm.JEq.Imm(asm.R1, networkOrder(0x86dd), half+" IPv6"))
	ip(offNetwork, ipv4Length)
	from, to := was(asm.R3), is(asm.R4)
	sum := append(append(from, asm.Sub.Imm(asm.R3, offNetwork), bigEndian(asm.R3)), append(to, asm.Sub.Imm(asm.R4, offNetwork), bigEndian(asm.R4))...)
	c.call(asm.FnL3CsumReplace, append(sum, asm.Mov.Imm(asm.R2, offNetwork+ipv4Sum), asm.Mov.Imm(asm.R5, 2))...)
	c.add(asm.Ja.Label(half + " TCP"))
	c.label(half+" IPv6", asm.Mov.Imm(asm.R0, 0))
	ip(offNetwork+lenIPv6, ipv6Length)
	c.label(half+" TCP", asm.Mov.Imm(asm.R0, 0))
	tcp := append(append(was(asm.R3), asm.Sub.Reg(asm.R3, most), bigEndian(asm.R3)), append(is(asm.R4), asm.Sub.Reg(asm.R4, most), bigEndian(asm.R4))...)
	c.sumTCP(pseudoHeader|2, tcp...)
}

// flags writes TCP's flags less some, which had been less others, into the packet and tells
// the checksum.
func (c *code) flags(less, had int32) {
	without := func(r asm.Register, flags int32) []asm.Instruction {
		return []asm.Instruction{asm.LoadMem(r, asm.R10, atTCP+tcpFlags, asm.Half), asm.And.Imm(r, 0xffff&^networkOrder(uint16(flags)))}
	}
	c.add(without(asm.R1, less)...)
	c.add(asm.StoreMem(asm.R10, atValue, asm.R1, asm.Half))
	c.putHalf(tcpFlags)
	c.sumTCP(2, append(without(asm.R3, had), without(asm.R4, less)...)...)
}

// firstHalf makes the packet the first half, and sends it. Where the relay is down or gone, the
// second half meets the same, and the redirect counts the packet; where there is no memory, this
// half may be lost alone.
func (c *code) firstHalf(s Spec, counts int) {
	whole := func(r asm.Register) []asm.Instruction { return []asm.Instruction{asm.Mov.Reg(r, length)} }
	first := func(r asm.Register) []asm.Instruction {
		return []asm.Instruction{asm.Mov.Reg(r, length), asm.Sub.Imm(r, s.split())}
	}
	c.call(asm.FnSkbChangeTail, append(first(asm.R2), asm.Mov.Imm(asm.R3, 0))...)
	c.add(asm.JNE.Imm(asm.R0, 0, "next"))
	c.lengths("first", whole, first)
	c.flags(tcpFIN|tcpPSH, 0)
	c.sumTCP(0, asm.Mov.Imm(asm.R3, 0), asm.LoadMem(asm.R4, asm.R10, atSwapped, asm.DWord), asm.Xor.Imm(asm.R4, 0xffff))
	c.call(asm.FnCloneRedirect, asm.Mov.Imm(asm.R2, int32(s.Relay)), asm.Mov.Imm(asm.R3, 0))
	c.add(asm.JNE.Imm(asm.R0, -int32(unix.ENOMEM), "half sent"))
	c.count(counts, "the lost half", plusOne(offLost))
	c.label("half sent", asm.Mov.Imm(asm.R0, 0))
}

// secondHalf makes the packet, which still is the first half, the second.
func (c *code) secondHalf(s Spec) {
	first := func(r asm.Register) []asm.Instruction {
		return []asm.Instruction{asm.Mov.Reg(r, length), asm.Sub.Imm(r, s.split())}
	}
	second := func(r asm.Register) []asm.Instruction {
		return []asm.Instruction{asm.Mov.Reg(r, header), asm.Add.Imm(r, s.split())}
	}
	c.call(asm.FnSkbChangeTail, append(second(asm.R2), asm.Mov.Imm(asm.R3, 0))...)
	c.add(asm.JNE.Imm(asm.R0, 0, "lost"))
	c.store(s.split(), append(onStack(asm.R3, s.atTail()), asm.Mov.Reg(asm.R2, header))...)
	c.add(asm.JNE.Imm(asm.R0, 0, "lost"))
	// The sequence number goes on behind the first half.
	c.add(
		asm.LoadMem(asm.R1, asm.R10, atTCP+tcpSeq, asm.Word),
		asm.HostTo(asm.BE, asm.R1, asm.Word),
		asm.Add.Reg(asm.R1, length),
		asm.Sub.Imm(asm.R1, s.split()),
		asm.Sub.Reg(asm.R1, header),
		asm.HostTo(asm.BE, asm.R1, asm.Word),
		asm.StoreMem(asm.R10, atTCP+tcpSeq, asm.R1, asm.Word),
	)
	c.store(4, append(onStack(asm.R3, atTCP+tcpSeq), asm.Mov.Reg(asm.R2, most), asm.Add.Imm(asm.R2, tcpSeq))...)
	c.lengths("second", first, second)
	c.flags(tcpCWR, tcpFIN|tcpPSH)
	c.sumAnew(s)
}

// sumAnew gives the second half its checksum, if the packet came with one that was filled
// in: the sum of the pseudo header, of TCP's header and of the tail.
func (c *code) sumAnew(s Spec) {
	c.add(
		asm.LoadMem(asm.R1, asm.R10, atTCP+tcpFlags, asm.Half),
		asm.And.Imm(asm.R1, 0xffff&^networkOrder(tcpCWR)),
		asm.StoreMem(asm.R10, atTCP+tcpFlags, asm.R1, asm.Half),
		asm.StoreImm(asm.R10, atTCP+tcpSum, 0, asm.Half),
		// The tail, the protocol and the length.
		asm.LoadMem(asm.R5, asm.R10, atSum, asm.DWord),
		asm.Add.Imm(asm.R5, networkOrder(protoTCP)),
		asm.Mov.Reg(asm.R1, header),
		asm.Add.Imm(asm.R1, s.split()),
		asm.Sub.Reg(asm.R1, most),
		bigEndian(asm.R1),
		asm.Add.Reg(asm.R5, asm.R1),
		asm.Mov.Imm(asm.R1, 0), asm.Mov.Imm(asm.R2, 0),
	)
	c.add(onStack(asm.R3, atTCP)...)
	c.add(asm.Mov.Imm(asm.R4, maxTCP), asm.FnCsumDiff.Call(), asm.Mov.Reg(asm.R5, asm.R0))
	c.add(asm.Mov.Imm(asm.R1, 0), asm.Mov.Imm(asm.R2, 0))
	c.add(onStack(asm.R3, atNetwork)...)
	c.add(
		asm.LoadMem(asm.R0, packet, skbProtocol, asm.Word),
		asm.JEq.Imm(asm.R0, networkOrder(0x86dd), "addresses of IPv6"),
		asm.Add.Imm(asm.R3, ipv4Source), asm.Mov.Imm(asm.R4, 8),
		asm.FnCsumDiff.Call(),
		asm.Ja.Label("summed"),
		asm.Add.Imm(asm.R3, ipv6Source).WithSymbol("addresses of IPv6"), asm.Mov.Imm(asm.R4, 32),
		asm.FnCsumDiff.Call(),
		// To what the field is to be comes what it is, so that it becomes that.
		asm.StoreMem(asm.R10, atSwapped, asm.R0, asm.DWord).WithSymbol("summed"),
	)
	c.call(asm.FnSkbLoadBytes, append(onStack(asm.R3, atValue), asm.Mov.Reg(asm.R2, most), asm.Add.Imm(asm.R2, tcpSum), asm.Mov.Imm(asm.R4, 2))...)
	c.add(asm.JNE.Imm(asm.R0, 0, "lost"))
	c.sumTCP(0, asm.Mov.Imm(asm.R3, 0),
		asm.LoadMem(asm.R4, asm.R10, atSwapped, asm.DWord), // 32 bits, of a one's complement sum
		asm.Mov.Reg(asm.R1, asm.R4), asm.And.Imm(asm.R1, 0xffff), asm.RSh.Imm(asm.R4, 16), asm.Add.Reg(asm.R4, asm.R1),
		asm.LoadMem(asm.R1, asm.R10, atValue, asm.Half), asm.Add.Reg(asm.R4, asm.R1), asm.Mov.Reg(asm.R1, packet))
}
