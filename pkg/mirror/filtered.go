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

// programOf is the program of a tap's rules on the pod's interface: what the tap's filter
// matches, less what must not be copied.
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
