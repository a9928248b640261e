package mirror

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"golang.org/x/net/bpf"

	"github.com/podtap/podtap/pkg/pcapfilter"
	"github.com/podtap/podtap/pkg/tap"
)

// rulesOf are the rules of a tap at one hook of the pod's interface, in their order: what
// comes to its filter is counted, what the filter matches is counted, and the sample of that
// is copied to the tap's device. The first two are there only where there is a difference.
func rulesOf(t tap.Tap, ofTap cookie, device int) ([]rule, error) {
	matching, err := programOf(t)
	if err != nil {
		return nil, err
	}
	var rules []rule
	if t.Filter != "" {
		rules = append(rules, rule{program: matchAll(), mirred: &mirred{cookie: ofTap.with(ofAll)}})
	}
	if t.Samples() {
		rules = append(rules, rule{program: matching, mirred: &mirred{cookie: ofTap.with(ofMatched)}})
		matching = sampled(matching, t.SampleRate)
	}
	return append(rules, rule{program: matching, mirred: &mirred{cookie: ofTap, to: device}}), nil
}

// programOf is what a tap's filter matches, less what must not be copied.
func programOf(t tap.Tap) ([]bpf.RawInstruction, error) {
	if t.Filter == "" {
		return guardOf(t), nil
	}
	filter, err := pcapfilter.Compile(t.Filter, pcapfilter.Kernel)
	if err != nil {
		return nil, fmt.Errorf("the tap's filter: %w", err)
	}
	if t.VXLAN == nil {
		return filter, nil
	}
	return both(filter, guardOf(t)), nil
}

// sampled is a program that matches one packet in so many of those that another matches, at
// random. It throws the dice first, so that most packets see no more of it.
func sampled(program []bpf.RawInstruction, rate uint32) []bpf.RawInstruction {
	return append(dice(rate), program...)
}

// dice misses but for one packet in so many: the kernel's random number has 32 bits.
func dice(rate uint32) []bpf.RawInstruction {
	return mustAssemble([]bpf.Instruction{
		bpf.LoadExtension{Num: bpf.ExtRand},
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: uint32((1<<32 + uint64(rate)/2) / uint64(rate)), SkipTrue: 1},
		bpf.RetConstant{Val: verdictMiss},
	})
}

// unsampled is a program without the dice of a rate in front of it; ok is false where others
// are there, or none.
func unsampled(program []bpf.RawInstruction, rate uint32) (rest []bpf.RawInstruction, ok bool) {
	if rate <= 1 {
		return program, rateOf(program) == 1
	}
	if !beginsWith(program, dice(rate)) {
		return nil, false
	}
	return program[len(dice(rate)):], true
}

func beginsWith(program, start []bpf.RawInstruction) bool {
	return len(program) >= len(start) && slices.Equal(program[:len(start)], start)
}

// rateOf is the rate that a program samples with, one of those that have the same dice;
// 1 where it takes all. It may be anybody's program.
func rateOf(program []bpf.RawInstruction) uint32 {
	const threshold = 1 // which of the dice's instructions has it
	if len(program) <= threshold || program[threshold].K == 0 {
		return 1
	}
	k := uint64(program[threshold].K)
	rate := (1<<32 + k/2) / k
	if rate < 2 || rate > tap.MaxSampleRate || !beginsWith(program, dice(uint32(rate))) {
		return 1
	}
	return uint32(rate)
}

// guardOf is what every packet that a tap copies has to pass, whatever its filter says.
func guardOf(t tap.Tap) []bpf.RawInstruction {
	if t.VXLAN == nil {
		return matchAll()
	}
	return passCopies(t.VXLAN)
}

// both is a program that matches what two do. Where the first says so, it goes on with the
// second; that comes last, so that most packets which the first passes over see no more.
func both(first, second []bpf.RawInstruction) []bpf.RawInstruction {
	const jumpAlways = 0x05 // BPF_JMP | BPF_JA
	out := slices.Clone(first)
	for i, instruction := range out {
		if isReturn(instruction) && instruction.K != verdictMiss {
			out[i] = bpf.RawInstruction{Op: jumpAlways, K: uint32(len(first) - i - 1)}
		}
	}
	return append(out, second...)
}

func isReturn(i bpf.RawInstruction) bool { return i.Op&0x07 == 0x06 } // BPF_RET

// goesOnWith says whether a program can be a filter and then another program, which decides
// on all that the filter matches.
func goesOnWith(program, end []bpf.RawInstruction) bool {
	filter := len(program) - len(end)
	return filter > 0 && slices.Equal(program[filter:], end) &&
		!slices.ContainsFunc(program[:filter], func(i bpf.RawInstruction) bool { return isReturn(i) && i.K != verdictMiss })
}

// filterHash is what an alias has of a filter: enough to tell another one.
func filterHash(filter string) string {
	if filter == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(filter))
	return hex.EncodeToString(sum[:4])
}
