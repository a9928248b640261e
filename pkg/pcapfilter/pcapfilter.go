// Package pcapfilter compiles filter expressions of pcap-filter(7), which tcpdump and
// Wireshark's capture filters use, to classic BPF programs for Ethernet frames. It
// is pure Go and needs neither libpcap nor the network: names of hosts are not looked
// up. A program gives the verdict that libpcap's own would give on the same frame; what
// differs is in docs/filters.md. Any input is safe: what is no filter gets an *Error
// that tells where, and time and memory are bounded.
package pcapfilter

import (
	"errors"
	"fmt"

	"golang.org/x/net/bpf"

	"github.com/podtap/podtap/pkg/pcapfilter/internal/graph"
)

const (
	// MaxLength is the longest expression, in bytes.
	MaxLength = 64 << 10
	// MaxInstructions is the longest program. Linux takes 4096 (BPF_MAXINSNS), but lists a
	// tc rule with its program, 8 bytes an instruction, in one message of 32 KiB: rules
	// with longer ones could be made, and never be listed or found again. Some room is left
	// for a rule's actions, and for who wants to ask more of a packet in the same program.
	MaxInstructions = 3500
	// maxNesting bounds how deep parentheses may be nested.
	maxNesting = 200
)

// Target is what a program is to run on.
type Target int

const (
	// File is for frames whose bytes are all there, VLAN tags among them, as in a
	// capture file. The program is what `tcpdump -y EN10MB -ddd` would print, or as good.
	File Target = iota
	// Kernel is for Linux's tc and socket filters, where the outermost VLAN tag is often
	// not among the frame's bytes. The verdict is that of File on the whole frame.
	Kernel
)

// Results of a program. Any other than 0 is a match; the numbers are tcpdump's and tc's.
const (
	acceptFile   = 262144     // tcpdump's default snapshot length
	acceptKernel = 0xffffffff // cls_bpf's "matches, and the class is the rule's"
)

// Compile compiles an expression. The empty one, which may have white space, matches
// every frame. The error is an *Error.
func Compile(expression string, target Target) ([]bpf.RawInstruction, error) {
	f, b, err := parse(expression)
	if err != nil {
		return nil, err
	}
	g, err := b.Graph(f)
	if err != nil {
		return nil, tooLarge(expression, err)
	}
	g.Optimize()
	if g.RejectsAll() {
		return nil, &Error{Expression: expression, Length: len(expression), Problem: "no frame can match this filter"}
	}
	accept := uint32(acceptFile)
	if target == Kernel {
		accept = acceptKernel
		if err := g.TagBeside(); err != nil {
			return nil, tooLarge(expression, err)
		}
	}
	code, err := g.Assemble(accept)
	if err == nil && len(code) > MaxInstructions {
		err = graph.ErrTooLarge
	}
	if err != nil {
		return nil, tooLarge(expression, err)
	}
	program, err := bpf.Assemble(code)
	if err != nil {
		return nil, tooLarge(expression, err)
	}
	return program, nil
}

// tooLarge words an error of the compiler's later stages, which is about the whole.
func tooLarge(expression string, err error) *Error {
	e := &Error{Expression: expression, Length: len(expression)}
	switch {
	case errors.Is(err, graph.ErrTooLarge):
		e.Problem = fmt.Sprintf("the filter needs more than %d instructions; split it, or use networks in place of hosts and ranges in place of ports", MaxInstructions)
	case errors.Is(err, graph.ErrTooDeep):
		e.Problem = "the arithmetic needs more than 16 intermediate results; write it with fewer parentheses"
	default:
		e.Problem = "the filter makes no valid program: " + err.Error()
	}
	return e
}
