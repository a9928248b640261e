package main

import (
	"fmt"

	"github.com/podtap/podtap/internal/bench/report"
	"github.com/podtap/podtap/internal/bench/stats"
)

// What podtap may cost. A pod without taps pays for a process and little more; one
// tap no more than the plugin beside it; and other pods' taps do not make it dearer.
const (
	mostNoTaps  = 1.15
	mostBeside  = 1.0
	mostMany    = 5.0
	mostCrowded = 1.2
	mostBytes   = 8_000_000
)

// judge compares medians of the rounds' ratios with the targets.
func judge(times report.Times, cases []*trial, program binary) []report.Target {
	add := func(name string) report.Series { return report.Series{Case: name, Verb: "ADD"} }
	targets := []report.Target{ratio("ADD without taps / reference's VERSION",
		times.Ratio(add(noTaps), report.Series{Case: reference, Verb: "VERSION"}), mostNoTaps)}
	for _, name := range []string{veth, vxlanNode, vxlanPod, wire4, wire46} {
		targets = append(targets, ratio("ADD: "+name+" / bandwidth", times.Ratio(add(name), add(bandwidth)), mostBeside))
	}
	one := stats.Means(times[add(veth)], times[add(vxlanNode)])
	targets = append(targets,
		ratio("ADD: 16 taps / mean of veth and vxlan, node", stats.Of(stats.Ratios(times[add(manyTaps)], one)), mostMany),
		ratio("ADD: veth, crowded / quiet", times.Ratio(add(vethFull), add(veth)), mostCrowded),
		ratio("ADD: vxlan, node, crowded / quiet", times.Ratio(add(vxlanFull), add(vxlanNode)), mostCrowded))
	for _, k := range cases {
		if k.Beside != "" {
			del := func(name string) report.Series { return report.Series{Case: name, Verb: "DEL"} }
			targets = append(targets, ratio("DEL: "+k.Name+" / "+k.Beside, times.Ratio(del(k.Name), del(k.Beside)), mostBeside))
		}
	}
	linked := "no"
	if program.kubernetes {
		linked = "yes"
	}
	return append(targets,
		report.Target{What: "size of the binary", Measured: fmt.Sprintf("%.2f MB", float64(program.bytes)/1e6),
			Limit: fmt.Sprintf("≤ %.0f MB", mostBytes/1e6), Met: program.bytes <= mostBytes},
		report.Target{What: "the binary links k8s.io/client-go", Measured: linked, Limit: "no", Met: !program.kubernetes})
}

func ratio(what string, measured stats.Spread, limit float64) report.Target {
	return report.Target{What: what, Measured: report.Format(measured), Limit: fmt.Sprintf("≤ %.2f", limit), Met: measured.Median <= limit}
}
