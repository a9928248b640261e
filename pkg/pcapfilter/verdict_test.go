package pcapfilter

import (
	"encoding/binary"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/bpf"

	"github.com/podtap/podtap/pkg/pcapfilter/internal/reference"
)

// sameVerdicts holds our programs for files and for Linux against libpcap's, on every frame
// of the corpus.
func sameVerdicts(t *testing.T, all []golden) {
	t.Helper()
	var wait sync.WaitGroup
	next := make(chan golden)
	for range runtime.GOMAXPROCS(0) {
		wait.Go(func() {
			for g := range next {
				sameVerdict(t, g)
			}
		})
	}
	for _, g := range all {
		next <- g
	}
	close(next)
	wait.Wait()
}

func sameVerdict(t *testing.T, g golden) {
	p, ok := compileBoth(t, g.expression)
	for _, frame := range corpus() {
		want := reference.Run(g.program, frame).Verdict
		if !ok && want != 0 {
			t.Errorf("%q matches %x (%d bytes)", g.expression, frame.Bytes, frame.Length)
			return
		}
		if ok && !p.agree(t, g.expression, frame, want != 0) {
			return
		}
	}
}

// sameForLinux holds the program for Linux against the one for files.
func sameForLinux(t *testing.T, expression string, p both) {
	for _, frame := range corpus() {
		if !p.agree(t, expression, frame, reference.Run(p.file, frame).Verdict != 0) {
			return
		}
	}
}

// both are the programs of one expression.
type both struct{ file, kernel []bpf.RawInstruction }

// compileBoth is false where no frame can match.
func compileBoth(t testing.TB, expression string) (p both, ok bool) {
	t.Helper()
	var errFile, errKernel error
	p.file, errFile = Compile(expression, File)
	p.kernel, errKernel = Compile(expression, Kernel)
	if errFile == nil && errKernel == nil {
		return p, true
	}
	if problem := new(Error); !errors.As(errFile, &problem) || !strings.Contains(problem.Problem, "no frame can match") {
		t.Errorf("%q: for files: %v; for Linux: %v", expression, errFile, errKernel)
	}
	return p, false
}

// agree holds both programs against a verdict on a frame: for files as it is, for Linux as
// it is and, if it has a tag that Linux knows, with that beside.
func (p both) agree(t testing.TB, expression string, frame reference.Packet, want bool) bool {
	kernel := frame
	kernel.InLinux = true
	same := p.agrees(t, "for files", p.file, expression, frame, want) && p.agrees(t, "for Linux", p.kernel, expression, kernel, want)
	if without, has := tagBeside(frame); has {
		same = p.agrees(t, "for Linux, with the tag beside,", p.kernel, expression, without, want) && same
	}
	return same
}

func (p both) agrees(t testing.TB, what string, program []bpf.RawInstruction, expression string, frame reference.Packet, want bool) bool {
	o := reference.Run(program, frame)
	got := o.Verdict
	switch {
	case o.Hazard:
		t.Errorf("%q: the program %s does on %x what Linux does otherwise", expression, what, frame.Bytes)
	case (got != 0) != want:
		t.Errorf("%q: the program %s says %t to %x (%d bytes, tag %t %#x)", expression, what, got != 0, frame.Bytes, frame.Length, frame.Tagged, frame.Tag)
	default:
		return true
	}
	return false
}

// tagBeside is a frame as Linux has it after it took the tag out.
func tagBeside(frame reference.Packet) (without reference.Packet, has bool) {
	b := frame.Bytes
	if len(b) < 16 {
		return frame, false
	}
	kind := binary.BigEndian.Uint16(b[12:])
	if kind != 0x8100 && kind != 0x88a8 {
		return frame, false
	}
	return reference.Packet{Bytes: append(append([]byte(nil), b[:12]...), b[16:]...), Length: frame.Length - 4,
		InLinux: true, Tagged: true, TagType: kind, Tag: binary.BigEndian.Uint16(b[14:])}, true
}

func TestAnotherVirtualMachineSaysTheSame(t *testing.T) {
	for _, e := range expressions(t, "") {
		program, err := Compile(e, File)
		if err != nil || slices.ContainsFunc(program, isNegation) {
			continue // no frame can match, which compileBoth looks at; that machine has no negation
		}
		instructions, ok := bpf.Disassemble(program)
		if !ok {
			t.Errorf("%q: not all instructions are known: %v", e, instructions)
			continue
		}
		vm, err := bpf.NewVM(instructions)
		if err != nil {
			t.Errorf("%q: %v", e, err)
			continue
		}
		for i := 0; i < len(corpus()); i += 17 {
			frame := corpus()[i]
			frame.Length = uint32(len(frame.Bytes)) // that machine knows no other
			want := reference.Run(program, frame).Verdict
			if got, err := vm.Run(frame.Bytes); err != nil || (got != 0) != (want != 0) {
				t.Errorf("%q on %x: %d (%v), want %d", e, frame.Bytes, got, err, want)
				break
			}
		}
	}
}

func isNegation(i bpf.RawInstruction) bool { return i.Op == 0x84 }

// What people use most is not to be longer than libpcap's program by more than a fifth.
// For Linux there are two instructions more at most, unless the filter asks for tags or
// lengths.
func TestProgramsAreAsSmallAsLibpcaps(t *testing.T) {
	programs := map[string][]bpf.RawInstruction{}
	ours, theirs := 0, 0
	for _, g := range curatedGoldens(t) {
		programs[g.expression] = g.program
		if p, err := Compile(g.expression, File); err == nil {
			ours, theirs = ours+len(p), theirs+len(g.program)
		}
	}
	common := expressions(t, "that people use most")
	if len(common) < 50 {
		t.Errorf("only %d expressions are compared", len(common))
	}
	for _, e := range common {
		p, ok := compileBoth(t, e)
		if !ok {
			t.Fatalf("%q does not compile", e)
		}
		if len(p.file)*5 > len(programs[e])*6 {
			t.Errorf("%q: %d instructions, libpcap's has %d:\n%s", e, len(p.file), len(programs[e]), Readable(p.file))
		}
		if !strings.Contains(e, "vlan") && !strings.Contains(e, "greater") && len(p.kernel) > len(p.file)+2 {
			t.Errorf("%q: %d instructions for Linux, %d for files:\n%s", e, len(p.kernel), len(p.file), Readable(p.kernel))
		}
	}
	t.Logf("all %d expressions: %d instructions, libpcap's programs have %d", len(programs), ours, theirs)
	if ours > theirs {
		t.Errorf("%d instructions in all, libpcap's have %d", ours, theirs)
	}
}
