// Package trim writes the eBPF programs that make copies shorter on the node's end of a
// tap, where each packet comes out of the tap's veth: Cut for XDP, ahead of everything else,
// packet sockets of whoever listens there included, and Fit for tc's ingress hook, ahead of
// the redirect to a relay. The package is pure: it writes programs and reads back what they
// were made for; pkg/mirror loads and attaches them.
package trim

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// Spec says how copies are trimmed. The zero value leaves them whole.
type Spec struct {
	// Snap is the longest frame that is kept, in bytes from the Ethernet header on; 0 keeps
	// all. What is longer is cut.
	Snap int
	// Path is the longest frame that the path to the collector takes, in bytes, an 802.1Q
	// tag included; 0 where copies may be longer than that. Without Snap, TCP that exceeds
	// it is segmented smaller, and everything else is cut.
	Path int
	// Longest is what the pod's own frames have at most, in bytes. Of a TCP packet up to that
	// length which exceeds Path and is no super-packet two are made; see split. It is 0 with
	// Snap.
	Longest int
	// Relay is the index of the device that first halves are sent to; 0 with Snap.
	Relay int
}

const (
	// minSplit is more than the 70 bytes that VXLAN adds.
	minSplit = 72
	// lenTag is the length of an 802.1Q tag, which the kernel has beside a frame.
	lenTag = 4
	// maxSplit is what fits into the 512 bytes of an eBPF program's stack, beside the headers.
	maxSplit = 368
)

// split is how many bytes the second half takes of a TCP packet that is split, a multiple of
// 4. What exceeds Path by more is cut.
func (s Spec) split() int32 {
	over := (s.Longest + lenTag - s.Path + 3) &^ 3
	return int32(min(max(over, minSplit), maxSplit))
}

// Trims says whether there is anything to do.
func (s Spec) Trims() bool { return s.Snap > 0 || s.Path > 0 }

// Cuts says whether frames are cut, by Cut; else TCP is segmented, by Fit.
func (s Spec) Cuts() bool { return s.Snap > 0 }

// Fits says whether TCP is segmented, not cut.
func (s Spec) Fits() bool { return s.Path > 0 && s.Snap == 0 }

const nameFormat = "podtap/1 path=%d longest=%d relay=%d"

// Name is the name of the tc rule that has a program of Fit's, by which ParseName knows what it
// is for.
func (s Spec) Name() string { return fmt.Sprintf(nameFormat, s.Path, s.Longest, s.Relay) }

// ParseName reads a name; ok is false for what is not of podtap's.
func ParseName(name string) (s Spec, ok bool) {
	_, err := fmt.Sscanf(name, nameFormat, &s.Path, &s.Longest, &s.Relay)
	return s, err == nil && s.Name() == name
}

const shortNameFormat = "podtap%04x%04x"

// ShortName is the name of an XDP program, which has room for 15 bytes: Snap and Path.
func (s Spec) ShortName() string { return fmt.Sprintf(shortNameFormat, s.Snap, s.Path) }

// ParseShortName reads the name of an XDP program; ok is false for what is not of podtap's.
func ParseShortName(name string) (s Spec, ok bool) {
	if _, err := fmt.Sscanf(name, "podtap%4x%4x", &s.Snap, &s.Path); err != nil {
		return s, false
	}
	return s, s.Cuts() && s.ShortName() == name
}

// Counts are what a program has counted.
type Counts struct {
	CutPackets uint64 // that were cut
	CutBytes   uint64 // that were cut off from those
	Segments   uint64 // more than there were packets
	Lost       uint64 // packets, for want of memory
}

// Map describes the map that programs count in, for each CPU by itself.
func Map() *ebpf.MapSpec {
	return &ebpf.MapSpec{Name: "podtap_trim", Type: ebpf.PerCPUArray, KeySize: 4,
		ValueSize: uint32(unsafe.Sizeof(Counts{})), MaxEntries: 1}
}

// Offsets in Counts.
const (
	offCutPackets = 8 * iota
	offCutBytes
	offSegments
	offLost
)

// code is a program under construction.
type code struct{ asm.Instructions }

func (c *code) add(i ...asm.Instruction) { c.Instructions = append(c.Instructions, i...) }

// label gives the next instruction, which is to follow, a name for jumps.
func (c *code) label(name string, i asm.Instruction) { c.add(i.WithSymbol(name)) }

// call calls a helper with the packet in R1; args set its other arguments.
func (c *code) call(helper asm.BuiltinFunc, args ...asm.Instruction) {
	c.add(asm.Mov.Reg(asm.R1, packet))
	c.add(args...)
	c.add(helper.Call())
}

// onStack makes a register point below the top of the stack.
func onStack(r asm.Register, offset int16) []asm.Instruction {
	return []asm.Instruction{asm.Mov.Reg(r, asm.R10), asm.Add.Imm(r, int32(offset))}
}

// Registers that helpers leave alone.
const (
	packet = asm.R6
	length = asm.R7 // of the frame
	most   = asm.R8 // bytes that the frame may have
	header = asm.R9 // bytes of its headers, up to TCP's
)

// begin keeps the packet, and the key of the counts, which is 0.
func (c *code) begin() {
	c.add(asm.Mov.Reg(packet, asm.R1), asm.StoreImm(asm.R10, atKey, 0, asm.Word))
}

// count adds to counts; it uses R0 to R5.
func (c *code) count(counts int, what string, add ...func(value asm.Register) asm.Instructions) {
	done := "counted " + what
	c.add(onStack(asm.R2, atKey)...)
	c.add(asm.LoadMapPtr(asm.R1, counts), asm.FnMapLookupElem.Call(), asm.JEq.Imm(asm.R0, 0, done))
	for _, a := range add {
		c.add(a(asm.R0)...)
	}
	c.label(done, asm.Mov.Imm(asm.R0, 0))
}

// plus adds what a register has, and plusOne adds 1.
func plus(offset int16, r asm.Register) func(asm.Register) asm.Instructions {
	return func(value asm.Register) asm.Instructions {
		return asm.Instructions{asm.LoadMem(asm.R1, value, offset, asm.DWord), asm.Add.Reg(asm.R1, r), asm.StoreMem(value, offset, asm.R1, asm.DWord)}
	}
}

func plusOne(offset int16) func(asm.Register) asm.Instructions {
	return func(value asm.Register) asm.Instructions {
		return asm.Instructions{asm.LoadMem(asm.R1, value, offset, asm.DWord), asm.Add.Imm(asm.R1, 1), asm.StoreMem(value, offset, asm.R1, asm.DWord)}
	}
}

// networkOrder is a 16-bit number as a load of its bytes from a packet has it.
func networkOrder(n uint16) int32 {
	return int32(binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n)))
}
