package mirror

import (
	"fmt"

	"golang.org/x/net/bpf"

	"github.com/podtap/podtap/pkg/tap"
)

// Verdicts of a classic BPF program in a tc classifier.
const (
	verdictMiss = 0          // the rule does not match
	verdictHit  = 0xffffffff // the rule matches
	verdictDrop = 2          // TC_ACT_SHOT, in direct-action mode
)

// dropAll is the seal: in direct-action mode it drops whatever it sees.
func dropAll() []bpf.RawInstruction {
	return mustAssemble([]bpf.Instruction{bpf.RetConstant{Val: verdictDrop}})
}

// matchAll is the rule of a tap whose copies cannot come back.
func matchAll() []bpf.RawInstruction {
	return mustAssemble([]bpf.Instruction{bpf.RetConstant{Val: verdictHit}})
}

// vxlanFlags is the first word of a VXLAN header: the flag that says that the VNI
// is valid, all other bits zero (RFC 7348, section 5).
const vxlanFlags = 0x08000000

// Offsets of fields in an Ethernet frame.
const (
	offType     = 12
	offIPv4Frag = 14 + 6
	offIPv4Prot = 14 + 9
	offIPv4Dst  = 14 + 16
	offIPv6Next = 14 + 6
	offIPv6Dst  = 14 + 24
	offIPv6UDP  = 14 + 40
	lenVXLAN    = 8 + 8 + 14 // of the UDP header, the VXLAN header, and an inner Ethernet header
)

// passCopies is the rule of a tap that sends VXLAN: it matches every packet but
// VXLAN packets bound for the tap's own collector, and VXLAN packets that are
// some tap's copies already, told by their source port. Without it a collector
// that is tapped itself would feed on its own copies, and two tapped collectors
// on each other's. Fragments after the first carry no ports and match, as does
// whatever is too short to be VXLAN: a program that reads past a packet's end
// would end in a miss and lose it.
func passCopies(v *tap.VXLAN) []bpf.RawInstruction {
	p := &program{}
	p.add(bpf.LoadAbsolute{Off: offType, Size: 2})
	p.jump(bpf.JumpEqual, 0x0800, "ipv4", "")
	p.jump(bpf.JumpEqual, 0x86dd, "ipv6", "hit")

	p.label("ipv4")
	p.add(bpf.LoadExtension{Num: bpf.ExtLen})
	p.jump(bpf.JumpGreaterOrEqual, 14+20+lenVXLAN, "", "hit")
	p.add(bpf.LoadAbsolute{Off: offIPv4Prot, Size: 1})
	p.jump(bpf.JumpEqual, 17, "", "hit")
	p.add(bpf.LoadAbsolute{Off: offIPv4Frag, Size: 2})
	p.jump(bpf.JumpBitsSet, 0x1fff, "hit", "")
	p.add(bpf.LoadMemShift{Off: 14}) // X: the length of the IPv4 header
	p.add(bpf.LoadExtension{Num: bpf.ExtLen})
	p.add(bpf.ALUOpX{Op: bpf.ALUOpSub})
	p.jump(bpf.JumpGreaterOrEqual, 14+lenVXLAN, "", "hit")
	p.add(bpf.LoadIndirect{Off: 14 + 8, Size: 4})
	p.jump(bpf.JumpEqual, vxlanFlags, "", "hit")
	p.add(bpf.LoadIndirect{Off: 14, Size: 2})
	if v.Remote.Is6() {
		p.jump(bpf.JumpGreaterOrEqual, copySourcePortLow, "miss", "hit")
	} else {
		p.jump(bpf.JumpGreaterOrEqual, copySourcePortLow, "miss", "")
		p.add(bpf.LoadIndirect{Off: 14 + 2, Size: 2})
		p.jump(bpf.JumpEqual, uint32(v.Port), "", "hit")
		p.matchAddress(offIPv4Dst, v.Remote.AsSlice())
	}

	p.label("ipv6")
	p.add(bpf.LoadExtension{Num: bpf.ExtLen})
	p.jump(bpf.JumpGreaterOrEqual, offIPv6UDP+lenVXLAN, "", "hit")
	p.add(bpf.LoadAbsolute{Off: offIPv6Next, Size: 1})
	p.jump(bpf.JumpEqual, 17, "", "hit")
	p.add(bpf.LoadAbsolute{Off: offIPv6UDP + 8, Size: 4})
	p.jump(bpf.JumpEqual, vxlanFlags, "", "hit")
	p.add(bpf.LoadAbsolute{Off: offIPv6UDP, Size: 2})
	if v.Remote.Is4() {
		p.jump(bpf.JumpGreaterOrEqual, copySourcePortLow, "miss", "hit")
	} else {
		p.jump(bpf.JumpGreaterOrEqual, copySourcePortLow, "miss", "")
		p.add(bpf.LoadAbsolute{Off: offIPv6UDP + 2, Size: 2})
		p.jump(bpf.JumpEqual, uint32(v.Port), "", "hit")
		p.matchAddress(offIPv6Dst, v.Remote.AsSlice())
	}

	p.label("hit")
	p.add(bpf.RetConstant{Val: verdictHit})
	p.label("miss")
	p.add(bpf.RetConstant{Val: verdictMiss})
	return p.assemble()
}

// program is a classic BPF program under construction, with labels for jumps,
// which may only lead forwards.
type program struct {
	code   []bpf.Instruction
	labels map[string]int
	jumps  []labelled
}

type labelled struct {
	at         int
	yes, no    string // labels; "" is the next instruction
	test       bpf.JumpTest
	comparison uint32
}

func (p *program) add(i bpf.Instruction) { p.code = append(p.code, i) }

func (p *program) label(name string) {
	if p.labels == nil {
		p.labels = map[string]int{}
	}
	p.labels[name] = len(p.code)
}

func (p *program) jump(test bpf.JumpTest, value uint32, yes, no string) {
	p.jumps = append(p.jumps, labelled{at: len(p.code), yes: yes, no: no, test: test, comparison: value})
	p.add(nil) // set by assemble
}

// matchAddress misses where the packet has the address at an offset, and hits
// where it has not.
func (p *program) matchAddress(offset uint32, address []byte) {
	for i := 0; i < len(address); i += 4 {
		next := ""
		if i+4 == len(address) {
			next = "miss"
		}
		p.add(bpf.LoadAbsolute{Off: offset + uint32(i), Size: 4})
		word := uint32(address[i])<<24 | uint32(address[i+1])<<16 | uint32(address[i+2])<<8 | uint32(address[i+3])
		p.jump(bpf.JumpEqual, word, next, "hit")
	}
}

func (p *program) assemble() []bpf.RawInstruction {
	skip := func(from int, to string) uint8 {
		if to == "" {
			return 0
		}
		return uint8(p.labels[to] - from - 1)
	}
	for _, j := range p.jumps {
		p.code[j.at] = bpf.JumpIf{Cond: j.test, Val: j.comparison, SkipTrue: skip(j.at, j.yes), SkipFalse: skip(j.at, j.no)}
	}
	return mustAssemble(p.code)
}

// mustAssemble assembles a program of ours, which cannot be wrong but by a
// mistake in this file.
func mustAssemble(code []bpf.Instruction) []bpf.RawInstruction {
	raw, err := bpf.Assemble(code)
	if err != nil {
		panic(fmt.Sprintf("classic BPF program: %v", err))
	}
	return raw
}
