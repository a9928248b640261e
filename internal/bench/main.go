// Bench measures what podtap's ADD, CHECK and DEL cost, side by side with
// containernetworking's bandwidth, a plugin that is chained in the same place. It
// builds its nodes and pods out of network namespaces, which end with it.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/podtap/podtap/internal/bench/report"
	"github.com/podtap/podtap/internal/lab"
)

// options of the command line.
type options struct {
	bin, output    string
	rounds, others int
	seed           uint64
}

func main() {
	var o options
	flag.StringVar(&o.bin, "bin", "bin", "`folder` of podtap, bandwidth and the reference plugin")
	flag.StringVar(&o.output, "o", "", "`document` to write; its notes stay")
	flag.IntVar(&o.rounds, "rounds", 60, "rounds that count, 1 to 1000")
	flag.IntVar(&o.others, "others", 200, "tapped pods on the crowded node, 1 to 250")
	flag.Uint64Var(&o.seed, "seed", 1, "of the order in which the cases have their turns")
	flag.Parse()
	code, err := run(o)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		code = 1
	}
	os.Exit(code)
}

// run enters the lab, where the program runs again and measures. It returns the
// exit code, which a missed target does not change: that is for people to judge.
func run(o options) (int, error) {
	switch {
	case flag.NArg() > 0:
		return 0, fmt.Errorf("unexpected %q; see -help", flag.Args())
	case o.rounds < 1 || o.rounds > 1000:
		return 0, fmt.Errorf("-rounds is %d; it must be 1 to 1000", o.rounds)
	case o.others < 1 || o.others > 250:
		// Each has an address of the node's /24, as has the measured pod.
		return 0, fmt.Errorf("-others is %d; it must be 1 to 250", o.others)
	}
	bin, err := filepath.Abs(o.bin)
	if err != nil {
		return 0, fmt.Errorf("-bin: %w", err)
	}
	if err := findPlugins(bin); err != nil {
		return 0, err
	}
	if o.output != "" {
		if _, err := report.Kept(o.output); err != nil { // rather now than after the rounds
			return 0, err
		}
	}
	if !lab.Inside() {
		return lab.Enter()
	}
	if err := lab.Prepare(); err != nil {
		return 0, fmt.Errorf("prepare the namespaces: %w", err)
	}
	r, err := measure(bin, o)
	if err != nil {
		return 0, err
	}
	fmt.Print(r.Tables())
	if o.output == "" {
		return 0, nil
	}
	if err := r.Save(o.output); err != nil {
		return 0, fmt.Errorf("write the document: %w", err)
	}
	return 0, nil
}

func findPlugins(bin string) error {
	for _, name := range []string{podtap, bandwidth, reference} {
		if _, err := os.Stat(filepath.Join(bin, name)); err != nil {
			return fmt.Errorf("%w; `make bench` builds it, or say with -bin where it is", err)
		}
	}
	return nil
}

// measure does the rounds and judges what they found.
func measure(bin string, o options) (report.Report, error) {
	facts := machine()
	podtapBinary, err := inspect(filepath.Join(bin, podtap))
	if err != nil {
		return report.Report{}, err
	}
	progress("building the nodes and %d tapped pods", o.others)
	c := newCaller(bin)
	s, err := newScene(c, o.others)
	if err != nil {
		return report.Report{}, err
	}
	b := &bench{caller: c, starts: starts(), cases: s.cases(), times: report.Times{}}
	if err := b.verify(); err != nil {
		return report.Report{}, err
	}
	if err := b.run(o.rounds, o.seed); err != nil {
		return report.Report{}, err
	}
	if err := b.verify(); err != nil {
		return report.Report{}, fmt.Errorf("after the rounds: %w", err)
	}
	r := report.Report{Times: b.times, Targets: judge(b.times, b.cases, podtapBinary)}
	r.Facts = append(facts,
		[2]string{"rounds", fmt.Sprintf("%d, after %d that do not count; seed %d", o.rounds, warmUp, o.seed)},
		[2]string{"tapped pods on the crowded node", fmt.Sprint(o.others)})
	for _, k := range b.starts {
		r.Starts = append(r.Starts, k.Case)
	}
	for _, k := range b.cases {
		r.Cases = append(r.Cases, k.Case)
	}
	return r, nil
}

// progress tells on standard error what goes on; standard output has the tables.
func progress(format string, args ...any) {
	fmt.Fprintln(os.Stderr, strings.TrimSpace(fmt.Sprintf(format, args...)))
}
