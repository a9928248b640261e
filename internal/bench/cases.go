package main

import (
	"fmt"
	"strings"

	"github.com/containernetworking/cni/libcni"

	"github.com/podtap/podtap/internal/bench/report"
)

// trial is a case with all that it takes to call its plugin.
type trial struct {
	report.Case
	at      *place // nil: anywhere
	plugin  string
	config  *libcni.PluginConfig
	runtime *libcni.RuntimeConf
	want    made
}

// The cases' names, which the targets refer to.
const (
	noTaps     = "no taps"
	veth       = "veth"
	vxlanNode  = "vxlan, node"
	vxlanPod   = "vxlan, pod"
	wire4      = "wire, IPv4"
	wire46     = "wire, IPv4 and IPv6"
	manyTaps   = "16 taps"
	limitsFull = "bandwidth, crowded"
	vethFull   = "veth, crowded"
	vxlanFull  = "vxlan, crowded"
)

// starts are the cases of which only the process's start is measured.
func starts() []*trial {
	return []*trial{
		{plugin: reference, Case: report.Case{Name: reference,
			About: "VERSION of a plugin that does nothing: what a process costs"}},
		{plugin: podtap, Case: report.Case{Name: podtap,
			About: "VERSION of podtap: what its size and its libraries add"}},
	}
}

// cases are those with ADD, CHECK and DEL.
func (s *scene) cases() []*trial {
	vxlan := func(vni int, more string) string {
		return fmt.Sprintf("{vxlan: {vni: %d, remote: %s%s}}", vni, s.collector, more)
	}
	const four, six = `"198.19.0.2/24"`, `"fd00:19::2/64"`
	const hostFour, hostSix = `"198.19.0.1/24"`, `"fd00:19::1/64"`
	many := strings.TrimSuffix(strings.Repeat("{veth: {}}, ", 8), ", ")
	for i := range 8 {
		many += ", " + vxlan(200+i, "")
	}
	oneVeth := made{result: 1, pod: 1, node: 1, copies: 1}
	oneRelay := made{result: 1, pod: 1, node: 2, copies: 1} // the mirror's end, and the relay
	oneWire := made{result: 1, pod: 1, node: 1}
	list := []struct {
		*trial
		about, without string
	}{
		{s.limited(bandwidth, s.quiet), "`bandwidth`, with limits for both directions", ""},
		{s.tapped(noTaps, s.quiet, made{}, ""), "podtap, for a pod whose annotations have no taps", ""},
		{s.tapped(veth, s.quiet, oneVeth, "{veth: {}}"), "one tap, whose copies come out on the node", ""},
		{s.tapped(vxlanNode, s.quiet, oneRelay, vxlan(100, "")), "one tap to a collector; makes the relay, and DEL removes it", ""},
		{s.tapped(vxlanPod, s.quiet, made{pod: 1, copies: 1}, vxlan(100, ", placement: pod, oversize: fragment")),
			"one tap to a collector, VXLAN device in the pod", ""},
		{s.tapped(wire4, s.quiet, oneWire, "{wire: {addresses: ["+four+"], hostAddresses: ["+hostFour+"]}}"),
			"one wire, an address at each end", ""},
		{s.tapped(wire46, s.quiet, oneWire, "{wire: {addresses: ["+four+", "+six+"], hostAddresses: ["+hostFour+", "+hostSix+"]}}"),
			"one wire, two addresses at each end", ""},
		{s.tapped(manyTaps, s.quiet, made{result: 16, pod: 16, node: 24, copies: 16}, "["+many+"]"),
			"8 `veth` taps and 8 `vxlan` taps (node) to one collector, each with its own VNI and so its own relay", ""},
		{s.limited(limitsFull, s.crowded), "`bandwidth`, on a node with many tapped pods", bandwidth},
		{s.tapped(vethFull, s.crowded, oneVeth, "{veth: {}}"),
			"`veth`, on a node with many tapped pods, half of them `veth`, half `vxlan` to the same collector with 10 other VNIs", veth},
		{s.tapped(vxlanFull, s.crowded, oneRelay, vxlan(100, "")), "`vxlan, node`, on that node; no other tap has its VNI", vxlanNode},
	}
	var out []*trial
	for _, l := range list {
		l.About, l.Without = l.about, l.without
		if l.plugin == podtap {
			l.Beside = bandwidth
			if l.at == s.crowded {
				l.Beside = limitsFull
			}
		}
		out = append(out, l.trial)
	}
	return out
}
