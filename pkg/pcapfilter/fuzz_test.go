package pcapfilter

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/net/bpf"

	"github.com/podtap/podtap/pkg/pcapfilter/internal/reference"
)

// FuzzCompile gives the compiler any text, and the programs that come of it some frames, which
// begin with bytes of the fuzzer's. The corpus of the seeds is testdata/expressions.txt.
func FuzzCompile(f *testing.F) {
	for i, e := range expressions(f, "") {
		f.Add(e, corpus()[i*7].Bytes)
	}
	for _, c := range mistakes {
		f.Add(c.expression, []byte{})
	}
	f.Fuzz(func(t *testing.T, expression string, bytes []byte) {
		file, errFile := Compile(expression, File)
		kernel, errKernel := Compile(expression, Kernel)
		checkMistake(t, expression, errFile)
		checkMistake(t, expression, errKernel)
		if errFile != nil || errKernel != nil {
			return
		}
		if again, err := Compile(expression, Kernel); err != nil || !reflect.DeepEqual(again, kernel) {
			t.Errorf("%q: two programs of one expression (%v)", expression, err)
		}
		if len(file) > MaxInstructions || len(kernel) > MaxInstructions {
			t.Errorf("%q: %d and %d instructions", expression, len(file), len(kernel))
		}
		vm := machine(t, file)
		frames := []reference.Packet{{Bytes: bytes, Length: uint32(len(bytes))}}
		for i := len(bytes) % 97; i < len(corpus()); i += 97 {
			frame := corpus()[i]
			frame.Bytes = append(append([]byte(nil), bytes[:min(len(bytes), len(frame.Bytes))]...), frame.Bytes[min(len(bytes), len(frame.Bytes)):]...)
			frame.Length = uint32(len(frame.Bytes))
			frames = append(frames, corpus()[i], frame)
		}
		for _, frame := range frames {
			frame.Length = max(frame.Length, uint32(len(frame.Bytes)))
			want := reference.Run(file, frame).Verdict != 0
			both{file, kernel}.agree(t, expression, frame, want)
			if vm != nil && frame.Length == uint32(len(frame.Bytes)) {
				if got, err := vm.Run(frame.Bytes); err != nil || (got != 0) != want {
					t.Errorf("%q on %x: another machine says %d (%v), want %t", expression, frame.Bytes, got, err, want)
				}
			}
		}
	})
}

// machine runs a program in golang.org/x/net/bpf, which has no negation.
func machine(t *testing.T, program []bpf.RawInstruction) *bpf.VM {
	instructions, ok := bpf.Disassemble(program)
	if !ok {
		t.Fatalf("not all instructions are known: %v", instructions)
	}
	for _, i := range program {
		if isNegation(i) {
			return nil
		}
	}
	vm, err := bpf.NewVM(instructions)
	if err != nil {
		t.Fatal(err)
	}
	return vm
}

// checkMistake insists on a place within the expression, and on messages that print.
func checkMistake(t *testing.T, expression string, err error) {
	if err == nil {
		return
	}
	mistake := new(Error)
	if !errors.As(err, &mistake) {
		t.Fatalf("%q: %v", expression, err)
	}
	if mistake.Offset < 0 || mistake.Length < 0 || mistake.Offset+mistake.Length > len(expression) || mistake.Expression != expression {
		t.Fatalf("%q: the mistake is at %d, %d bytes", expression, mistake.Offset, mistake.Length)
	}
	text := mistake.Error() + strings.Replace(mistake.Caret(), "\n", "", 1)
	if !utf8.ValidString(text) || strings.ContainsAny(text, "\n\r\t\x00\x1b") || len(text) > 2000 {
		t.Errorf("%q: the message is %q", expression, text)
	}
}
