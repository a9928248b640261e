package main

import (
	"strings"
	"testing"

	"github.com/podtap/podtap/internal/bench/report"
)

func TestTargetsAreMetUpToTheirLimits(t *testing.T) {
	times := report.Times{}
	var cases []*trial
	set := func(name, beside string, add, del float64) {
		times[report.Series{Case: name, Verb: "ADD"}] = []float64{add, add, add}
		times[report.Series{Case: name, Verb: "DEL"}] = []float64{del, del, del}
		cases = append(cases, &trial{Case: report.Case{Name: name, Beside: beside}})
	}
	times[report.Series{Case: reference, Verb: "VERSION"}] = []float64{2, 2, 2}
	set(bandwidth, "", 4, 8)
	set(limitsFull, "", 4, 16)
	set(noTaps, bandwidth, 2.4, 1) // 1.2 times the reference
	set(veth, bandwidth, 4, 8)     // just
	set(vxlanNode, bandwidth, 6, 9)
	set(vxlanPod, bandwidth, 4, 8)
	set(wire4, bandwidth, 4, 8)
	set(wire46, bandwidth, 4, 8)
	set(manyTaps, bandwidth, 25, 8) // 5 times the mean of 4 and 6
	set(vethFull, limitsFull, 4.4, 16)
	set(vxlanFull, limitsFull, 7.8, 9)

	var missed []string
	for _, target := range judge(times, cases, binary{bytes: mostBytes + 1, kubernetes: true}) {
		if !target.Met {
			missed = append(missed, target.What)
		}
	}
	want := []string{"ADD without taps / reference's VERSION", "ADD: vxlan, node / bandwidth", "ADD: vxlan, node, crowded / quiet",
		"DEL: vxlan, node / bandwidth", "size of the binary", "the binary links k8s.io/client-go"}
	if got := strings.Join(missed, "; "); got != strings.Join(want, "; ") {
		t.Errorf("missed are %s\nwant %s", got, strings.Join(want, "; "))
	}
}

func TestWhatWasNotMeasuredIsNotMet(t *testing.T) {
	for _, target := range judge(report.Times{}, []*trial{{Case: report.Case{Name: veth, Beside: bandwidth}}}, binary{}) {
		if target.Met && strings.Contains(target.Limit, ".") {
			t.Errorf("%s is met, though it was not measured", target.What)
		}
	}
}
