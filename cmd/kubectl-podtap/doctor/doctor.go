// Package doctor finds out what is wrong with podtap on a cluster, from what the
// nodes' podtapds and the API server tell. It asks nobody.
package doctor

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/podtap/podtap/api/node"
)

// Severity is how bad a finding is.
type Severity string

const (
	Problem Severity = "problem" // pods are not tapped as they ask, or will not be
	Warning Severity = "warning" // copies are lost, or something will fail later
	Info    Severity = "info"    // worth knowing where taps are not what was expected
)

var severities = []Severity{Problem, Warning, Info}

// Finding is one thing that is wrong.
type Finding struct {
	Severity Severity `json:"severity"`
	// Check names what was checked. Names stay the same from version to version.
	Check   string   `json:"check"`
	Nodes   []string `json:"nodes,omitempty"` // where; none where it is the cluster's
	Pod     string   `json:"pod,omitempty"`   // NAMESPACE/NAME
	Message string   `json:"message"`
	Fix     string   `json:"fix"` // what to do
}

// Input is what is known of a cluster.
type Input struct {
	Now       time.Time
	Namespace string // podtapd's
	Nodes     []Node
	// NodesUnknown is why the cluster's nodes are unknown. Then Nodes has those only
	// that have a podtapd.
	NodesUnknown string
}

// Node is what is known of a node.
type Node struct {
	Name         string
	Architecture string
	Kernel       string
	Runtime      string // as the API server has it, for example containerd://2.1.0
	Excluded     bool   // the DaemonSet is not meant for it
	Podtapd      string // the name of podtapd's pod; "" where there is none
	Trouble      string // why it does not answer, or not all
	Hint         string // the command that tells more of that
	Report       *node.Report
	Taps         *node.Taps
}

// Diagnose has the findings, from worst to least. One that many nodes share is one
// finding.
func Diagnose(in Input) []Finding {
	var found []Finding
	if !slices.ContainsFunc(in.Nodes, func(n Node) bool { return n.Podtapd != "" }) {
		found = append(found, notInstalled(in))
	} else {
		for _, check := range []func(Input, Node) []Finding{
			checkPodtapd, checkInstall, checkKernel, checkChain, checkLoaded, checkPods, checkRuntime, checkSenders, checkTaps, checkPluginsBehind,
		} {
			for _, n := range in.Nodes {
				for _, f := range check(in, n) {
					f.Nodes = []string{n.Name}
					found = append(found, f)
				}
			}
		}
		found = append(found, checkSame(in)...)
	}
	if in.NodesUnknown != "" {
		found = append(found, Finding{Severity: Info, Check: "NodesUnknown", Message: "nodes without podtapd are not found: " + in.NodesUnknown,
			Fix: "ask an administrator for the verb `list` on `nodes` (a ClusterRole)"})
	}
	found = merge(found)
	slices.SortStableFunc(found, func(a, b Finding) int {
		return cmp.Compare(slices.Index(severities, a.Severity), slices.Index(severities, b.Severity))
	})
	return found
}

// merge makes one of findings that differ in nothing but the node.
func merge(found []Finding) []Finding {
	out := []Finding{} // an empty list in the JSON
	at := map[string]int{}
	for _, f := range found {
		key := strings.Join([]string{string(f.Severity), f.Check, f.Pod, f.Message, f.Fix}, "\x00")
		if i, is := at[key]; is {
			out[i].Nodes = append(out[i].Nodes, f.Nodes...)
			continue
		}
		at[key] = len(out)
		out = append(out, f)
	}
	return out
}

// Count is how many findings there are of a severity.
func Count(found []Finding, of Severity) int {
	n := 0
	for _, f := range found {
		if f.Severity == of {
			n++
		}
	}
	return n
}

func problem(check, message, fix string) []Finding { return one(Problem, check, message, fix) }
func warning(check, message, fix string) []Finding { return one(Warning, check, message, fix) }

func one(s Severity, check, message, fix string) []Finding {
	return []Finding{{Severity: s, Check: check, Message: message, Fix: fix}}
}
