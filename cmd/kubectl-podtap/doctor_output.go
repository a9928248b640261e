package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/podtap/podtap/api/node"
	"github.com/podtap/podtap/cmd/kubectl-podtap/doctor"
)

// diagnosis is what doctor says, for programs. Fields are added to it, never taken
// away or given another meaning.
type diagnosis struct {
	Nodes    []diagnosedNode  `json:"nodes"`
	Findings []doctor.Finding `json:"findings"`
}

type diagnosedNode struct {
	Name    string       `json:"name"`
	State   string       `json:"state"`
	Runtime string       `json:"runtime,omitempty"`
	Podtapd string       `json:"podtapd,omitempty"` // its pod
	Trouble string       `json:"trouble,omitempty"` // why it did not answer
	Report  *node.Report `json:"report,omitempty"`
}

// States of nodes whose podtapd tells none.
const (
	stateMissing = "NoPodtapd"
	stateSilent  = "NoAnswer"
)

func stateOf(n doctor.Node) string {
	switch {
	case n.Podtapd == "":
		return stateMissing
	case n.Report == nil:
		return stateSilent
	}
	return string(n.Report.Install.State)
}

func documentOf(in doctor.Input, found []doctor.Finding) diagnosis {
	d := diagnosis{Nodes: []diagnosedNode{}, Findings: found}
	for _, n := range in.Nodes {
		d.Nodes = append(d.Nodes, diagnosedNode{Name: n.Name, State: stateOf(n), Runtime: n.RuntimeName(), Podtapd: n.Podtapd, Trouble: n.Trouble, Report: n.Report})
	}
	return d
}

// writeDiagnosis writes a table of the nodes, and then what was found.
func writeDiagnosis(w io.Writer, in doctor.Input, found []doctor.Finding) error {
	rows := [][]string{{"NODE", "STATE", "PODTAPD", "PLUGIN", "KERNEL", "RUNTIME", "CHAIN"}}
	for _, n := range in.Nodes {
		rows = append(rows, nodeRow(n))
	}
	if len(rows) > 1 {
		if err := writeRows(w, rows); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, findings(found))
	return err
}

func nodeRow(n doctor.Node) []string {
	var r node.Report
	if n.Report != nil {
		r = *n.Report
	}
	return []string{n.Name, stateOf(n), r.Podtapd, doctor.Short(r.Plugin.Digest), cmp.Or(r.Kernel.Release, n.Kernel), n.RuntimeName(),
		strings.Join(r.Install.Chain, ",")}
}

// shownAlike is how many findings of one check are shown; a mistake in a
// Deployment may make thousands.
const shownAlike = 20

func findings(found []doctor.Finding) string {
	if len(found) == 0 {
		return "No problems found.\n"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s\n", plural(doctor.Count(found, doctor.Problem), "problem", "problems"), plural(doctor.Count(found, doctor.Warning), "warning", "warnings"))
	type kind struct {
		severity doctor.Severity
		check    string
	}
	alike := map[kind]int{}
	for _, f := range found {
		alike[kind{f.Severity, f.Check}]++
	}
	shown := map[kind]int{}
	for _, f := range found {
		k := kind{f.Severity, f.Check}
		if shown[k]++; shown[k] > shownAlike {
			if more := alike[k] - shownAlike; shown[k] == shownAlike+1 {
				fmt.Fprintf(&b, "\n... and %d more of %s; `kubectl podtap doctor -o json` has all.\n", more, f.Check)
			}
			continue
		}
		fmt.Fprintf(&b, "\n%s: %s%s\n  %s\n  Do: %s.\n", f.Severity, f.Check, where(f), f.Message, f.Fix)
	}
	return b.String()
}

func where(f doctor.Finding) string {
	nodes := ""
	switch len(f.Nodes) {
	case 0:
	case 1:
		nodes = ", node " + f.Nodes[0]
	default:
		nodes = ", nodes " + doctor.Names(f.Nodes)
	}
	if f.Pod != "" {
		return ", pod " + f.Pod + nodes
	}
	return nodes
}
