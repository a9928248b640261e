// Package report writes down what was measured, as a Markdown document that says
// how, on what machine, and which targets are met. Notes that a person wrote into
// the document survive its being written anew.
package report

import (
	"fmt"
	"os"
	"strings"

	"github.com/podtap/podtap/internal/bench/stats"
)

// Series is one verb of one case.
type Series struct{ Case, Verb string }

// Times has a series' milliseconds, one for each round, in the order of rounds.
type Times map[Series][]float64

// Ratio compares two series round by round.
func (t Times) Ratio(over, under Series) stats.Spread {
	return stats.Of(stats.Ratios(t[over], t[under]))
}

// Case is something that was measured.
type Case struct {
	Name, About string
	// Beside is the case of bandwidth's that it is compared with; empty for none.
	Beside string
	// Without is the same case on a node without other taps; empty for none.
	Without string
}

// Target is something that has to hold.
type Target struct {
	What     string
	Measured string
	Limit    string
	Met      bool
}

// Report is what a run found out.
type Report struct {
	Facts   [][2]string // of the run and of the machine
	Cases   []Case      // that have ADD, CHECK and DEL
	Starts  []Case      // of which only VERSION was measured
	Times   Times
	Targets []Target
}

// verbs are the columns of the tables.
var verbs = []string{"ADD", "CHECK", "DEL"}

// Tables is the report without what explains it.
func (r Report) Tables() string {
	var b strings.Builder
	for _, section := range []struct{ title, text string }{
		{"Run", facts(r.Facts)},
		{"Targets", r.targets()},
		{"Times", "Milliseconds: the median of the rounds, and the range in which the middle half\nof them lies.\n\n" + r.times() + "\n" + r.starts()},
		{"Beside bandwidth", "Each verb's time divided by that of the same verb of `bandwidth` on the same node,\nround by round.\n\n" + r.ratios(func(c Case) string { return c.Beside })},
		{"With the taps of other pods", "Each verb's time on the crowded node divided by that on the quiet one, round by\nround.\n\n" + r.ratios(func(c Case) string { return c.Without })},
	} {
		fmt.Fprintf(&b, "## %s\n\n%s\n", section.title, section.text)
	}
	return strings.TrimRight(b.String(), "\n") + "\n"
}

func facts(list [][2]string) string {
	rows := [][]string{{"", ""}}
	for _, f := range list {
		rows = append(rows, []string{f[0], f[1]})
	}
	return table(rows)
}

func (r Report) targets() string {
	rows := [][]string{{"target", "measured", "limit", ""}}
	missed := 0
	for _, t := range r.Targets {
		verdict := "met"
		if !t.Met {
			verdict = "**missed**"
			missed++
		}
		rows = append(rows, []string{t.What, t.Measured, t.Limit, verdict})
	}
	return fmt.Sprintf("%d of %d are met.\n\n%s", len(r.Targets)-missed, len(r.Targets), table(rows))
}

func (r Report) times() string {
	rows := [][]string{append([]string{"case"}, verbs...)}
	for _, c := range r.Cases {
		row := []string{c.Name}
		for _, verb := range verbs {
			row = append(row, Format(stats.Of(r.Times[Series{c.Name, verb}])))
		}
		rows = append(rows, row)
	}
	return table(rows)
}

func (r Report) starts() string {
	rows := [][]string{{"process start", "VERSION"}}
	for _, c := range r.Starts {
		rows = append(rows, []string{c.Name, Format(stats.Of(r.Times[Series{c.Name, "VERSION"}]))})
	}
	return table(rows)
}

// ratios compares each case with another one that it names.
func (r Report) ratios(other func(Case) string) string {
	rows := [][]string{append([]string{"case"}, verbs...)}
	for _, c := range r.Cases {
		under := other(c)
		if under == "" {
			continue
		}
		row := []string{c.Name}
		for _, verb := range verbs {
			row = append(row, Format(r.Times.Ratio(Series{c.Name, verb}, Series{under, verb})))
		}
		rows = append(rows, row)
	}
	return table(rows)
}

// Format writes a median with its quartiles.
func Format(s stats.Spread) string {
	return fmt.Sprintf("%.2f (%.2f–%.2f)", s.Median, s.Low, s.High)
}

// Document is the whole report, with a person's notes.
func (r Report) Document(notes string) string {
	rows := [][]string{{"case", "what it is"}}
	for _, c := range append(append([]Case(nil), r.Starts...), r.Cases...) {
		rows = append(rows, []string{c.Name, c.About})
	}
	return introduction + "\n" + table(rows) + "\n" + r.Tables() + "\n## Notes\n\n" + opening + notes + closing + "\n"
}

// Save writes the document, with the notes of the one that is there.
func (r Report) Save(path string) error {
	notes, err := Kept(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(r.Document(notes)), 0o644)
}
