package pcapfilter

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/net/bpf"

	"github.com/podtap/podtap/pkg/pcapfilter/internal/reference"
)

var (
	update = flag.Bool("update", false, "renew libpcap's programs in testdata with the tcpdump that is installed")
	seed   = flag.Uint64("seed", 0, "of the expressions for the installed tcpdump; 0 is another one each time")
	count  = flag.Int("expressions", 150, "how many expressions are made for the installed tcpdump")
)

// golden is an expression and libpcap's program for it.
type golden struct {
	expression string
	program    []bpf.RawInstruction
}

const (
	curatedGolden = "testdata/libpcap.txt.gz"
	randomGolden  = "testdata/libpcap-random.txt.gz"
	randomSeed    = 1
	randomCount   = 3000
)

// expressions are those of testdata/expressions.txt, below a heading or all of them.
func expressions(t testing.TB, heading string) (list []string) {
	t.Helper()
	text, err := os.ReadFile("testdata/expressions.txt")
	if err != nil {
		t.Fatal(err)
	}
	below := heading == ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "#"):
			below = heading == "" || strings.Contains(line, heading)
		case below && line != "":
			list = append(list, line)
		}
	}
	return list
}

// goldens reads a file of libpcap's programs, having renewed it with -update.
func goldens(t *testing.T, file string, renew func() []string) (all []golden) {
	t.Helper()
	if *update {
		writeGoldens(t, file, renew())
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for s := bufio.NewScanner(z); s.Scan(); {
		switch line := s.Text(); {
		case strings.HasPrefix(line, "# "):
		case strings.HasPrefix(line, "> "):
			all = append(all, golden{expression: line[2:]})
		default:
			all[len(all)-1].program = append(all[len(all)-1].program, parseInstruction(t, line))
		}
	}
	return all
}

func writeGoldens(t *testing.T, file string, expressions []string) {
	t.Helper()
	version, _ := exec.Command("tcpdump", "--version").CombinedOutput()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	fmt.Fprintf(z, "# The programs of tcpdump -y EN10MB -ddd: %s\n", strings.Join(strings.Split(string(version), "\n")[:2], ", "))
	for _, e := range expressions {
		program, err := libpcap(t, e)
		if err != nil {
			t.Errorf("%q: %v", e, err)
		}
		fmt.Fprintf(z, "> %s\n", e)
		for _, i := range program {
			fmt.Fprintf(z, "%d %d %d %d\n", i.Op, i.Jt, i.Jf, i.K)
		}
	}
	if err := errors.Join(z.Close(), os.WriteFile(file, b.Bytes(), 0o644)); err != nil {
		t.Fatal(err)
	}
}

func parseInstruction(t *testing.T, line string) (i bpf.RawInstruction) {
	t.Helper()
	if _, err := fmt.Sscanf(line, "%d %d %d %d", &i.Op, &i.Jt, &i.Jf, &i.K); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return i
}

// libpcap asks the installed tcpdump for its program.
func libpcap(t *testing.T, expression string, options ...string) (program []bpf.RawInstruction, err error) {
	t.Helper()
	command := exec.Command("tcpdump", append(append([]string{"-y", "EN10MB", "-ddd"}, options...), "--", expression)...)
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		return nil, errors.New(strings.TrimSpace(stderr.String()))
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	for _, line := range lines[1:] {
		program = append(program, parseInstruction(t, line))
	}
	return program, nil
}

// randomExpressions are such as libpcap takes.
func randomExpressions(t *testing.T, seed uint64, count int) (list []string) {
	t.Helper()
	g := newGrammar(seed)
	for len(list) < count {
		if e := g.expression(g.IntN(4)); len(e) < 2000 {
			if _, err := libpcap(t, e); err == nil {
				list = append(list, e)
			}
		}
	}
	return list
}

func curatedGoldens(t *testing.T) []golden {
	return goldens(t, curatedGolden, func() []string { return expressions(t, "") })
}

func randomGoldens(t *testing.T) []golden {
	return goldens(t, randomGolden, func() []string { return randomExpressions(t, randomSeed, randomCount) })
}

func TestTheVerdictIsLibpcaps(t *testing.T) {
	all := curatedGoldens(t)
	if len(all) < 600 || len(all) != len(expressions(t, "")) {
		t.Errorf("there are %d programs for %d expressions; make filter-goldens renews them", len(all), len(expressions(t, "")))
	}
	sameVerdicts(t, all)
}

func TestTheVerdictOfExpressionsMadeAtRandomIsLibpcaps(t *testing.T) {
	all := randomGoldens(t)
	if len(all) != randomCount {
		t.Errorf("there are %d programs", len(all))
	}
	sameVerdicts(t, all)
}

// The verdict on a frame that is cut short depends on what the optimizer leaves out, and
// libpcap's is not always right: where its program without the optimizer says something
// else, one expression in a thousand may differ.
func TestTheVerdictIsThatOfTheInstalledTcpdump(t *testing.T) {
	if _, err := exec.LookPath("tcpdump"); err != nil {
		t.Skipf("no tcpdump is installed: %v", err)
	}
	if *seed == 0 {
		*seed = rand.Uint64()
	}
	t.Logf("go test -seed %d -expressions %d", *seed, *count)
	others := 0
	for _, e := range randomExpressions(t, *seed, *count) {
		program, err := libpcap(t, e)
		if err != nil {
			t.Fatal(err)
		}
		ours, ok := compileBoth(t, e)
		for _, frame := range corpus() {
			want := reference.Run(program, frame).Verdict != 0
			if !ok && !want || ok && (reference.Run(ours.file, frame).Verdict != 0) == want {
				continue
			}
			plain, err := libpcap(t, e, "-O") // which leaves nothing out
			if err != nil {
				t.Fatal(err)
			}
			o := reference.Run(plain, frame)
			if !o.Failed && (o.Verdict != 0) == want {
				t.Errorf("%q: libpcap says %t to %x (%d bytes)", e, want, frame.Bytes, frame.Length)
				break
			}
			t.Logf("%q: libpcap says %t to %x, and %t without its optimizer (cut short: %t)", e, want, frame.Bytes, o.Verdict != 0, o.Failed)
			others++
			break
		}
		if ok {
			sameForLinux(t, e, ours)
		}
	}
	if others > 1+*count/1000 {
		t.Errorf("%d of %d expressions have another verdict where libpcap has two", others, *count)
	}
}
