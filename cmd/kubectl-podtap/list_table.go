package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/podtap/podtap/api/node"
	"github.com/podtap/podtap/pkg/tap"
)

const (
	unknown = "-"
	// shownID is how many characters of a container's ID are shown, as many as
	// crictl shows.
	shownID = 12
)

// view is how the taps are shown: on the node itself with the pods' containers, of
// a cluster with what tells its pods apart.
type view struct {
	cluster       bool
	allNamespaces bool // of a cluster: with the pods' namespaces
	wide          bool // of a cluster: with nodes, containers, and all senders
}

// writeTable writes the taps, one line for each direction; below them those whose copies
// are altered, one line each; and the senders, in a cluster's table only those that lost
// copies. A table without lines is left out.
func writeTable(w io.Writer, l node.Taps, v view, now time.Time) error {
	taps, altered, senders := [][]string{v.tapHead()}, [][]string{v.alteredHead()}, [][]string{v.senderHead()}
	for _, t := range l.Taps {
		taps = append(taps, v.tapRows(t, now)...)
		if isAltered(t) {
			altered = append(altered, v.alteredRow(t))
		}
	}
	for _, s := range l.Senders {
		if !v.cluster || v.wide || s.Missing || losses(s.Dropped) != "0" {
			senders = append(senders, v.senderRow(s))
		}
	}
	before := ""
	for _, rows := range [][][]string{taps, altered, senders} {
		if len(rows) == 1 {
			continue
		}
		if _, err := io.WriteString(w, before); err != nil {
			return err
		}
		if err := writeRows(w, rows); err != nil {
			return err
		}
		before = "\n"
	}
	return nil
}

// writeRows pads columns as kubectl does.
func writeRows(w io.Writer, rows [][]string) error {
	t := tabwriter.NewWriter(w, 6, 4, 3, ' ', 0)
	for _, row := range rows {
		for i, cell := range row {
			row[i] = cmp.Or(cell, unknown)
		}
		if _, err := fmt.Fprintln(t, strings.Join(row, "\t")); err != nil {
			return err
		}
	}
	return t.Flush()
}

func (v view) tapHead() []string {
	head := []string{"DEVICE", "INTERFACE", "DIRECTION", "DESTINATION", "PASSED", "MATCHED", "COPIED", "DROPPED", "AGE"}
	return v.tapRow(head, "NAMESPACE", "POD", "CONTAINER", "NODE")
}

// tapRow puts whose a tap is around the columns that each table has. Those of the
// wide table come last, as kubectl has it.
func (v view) tapRow(row []string, namespace, pod, container, on string) []string {
	switch {
	case !v.cluster:
		return append([]string{pod, container}, row...)
	case v.wide:
		row = append(row, on, container)
	}
	if v.allNamespaces {
		return append([]string{namespace, pod}, row...)
	}
	return append([]string{pod}, row...)
}

// rowOf is a tap's row, which begins with its device.
func (v view) rowOf(t node.Tap, columns ...string) []string {
	pod := cmp.Or(t.Pod, t.NetNS)
	if v.cluster && t.Name != "" {
		pod = t.Name
	}
	row := append([]string{cmp.Or(t.Device, "(deleted)")}, columns...)
	return v.tapRow(row, t.Namespace, pod, fmt.Sprintf("%.*s", shownID, t.ContainerID), t.Node)
}

// tapRows has a row for each direction, or one where there are no counters.
func (v view) tapRows(t node.Tap, now time.Time) [][]string {
	destination := t.Destination
	if t.Placement == tap.PlacementPod {
		destination = cmp.Or(destination, unknown) + " (pod)"
	}
	row := func(direction tap.Direction, counts ...string) []string {
		return v.rowOf(t, append(append([]string{t.Interface, string(direction), destination}, counts...), age(t.Since, now))...)
	}
	var rows [][]string
	for _, c := range t.Directions {
		rows = append(rows, row(c.Direction, passed(c), count(c.Matched), count(c.Copied), losses(c.Dropped)))
	}
	if rows == nil {
		rows = append(rows, row(t.Direction, "", "", "", ""))
	}
	return rows
}

// passed is what a tap did not copy because it was not to: what its filter passed over,
// and what its sample left out, which is in brackets besides.
func passed(c node.Counters) string {
	if c.SampledOut == nil {
		return known(c.PassedOver)
	}
	sum := c.SampledOut.Packets
	if c.PassedOver != nil {
		sum += c.PassedOver.Packets
	}
	if c.SampledOut.Packets == 0 {
		return fmt.Sprint(sum)
	}
	return fmt.Sprintf("%d (sampled out %d)", sum, c.SampledOut.Packets)
}

func (v view) senderHead() []string {
	return v.senderColumns("NODE", "SENDER", "POD", "DESTINATION", "TAPS", "SENT", "DROPPED")
}

func (v view) senderColumns(on string, row ...string) []string {
	if v.cluster {
		return append(row, on)
	}
	return row
}

func (v view) senderRow(s node.Sender) []string {
	device := s.Device
	if s.Missing {
		device += " (deleted)"
	}
	return v.senderColumns(s.Node, device, s.Pod, s.Destination, fmt.Sprint(s.Taps), known(s.Sent), losses(s.Dropped))
}

func count(a node.Amount) string { return fmt.Sprint(a.Packets) }

// known is a count, "" where it is unknown.
func known(a *node.Amount) string {
	if a == nil {
		return ""
	}
	return count(*a)
}

// losses is the sum of lost packets and, where there are any, why.
func losses(dropped map[string]node.Amount) string {
	var sum uint64
	var reasons []string
	for _, reason := range slices.Sorted(maps.Keys(dropped)) {
		if packets := dropped[reason].Packets; packets > 0 {
			sum += packets
			reasons = append(reasons, fmt.Sprintf("%s %d", reason, packets))
		}
	}
	switch len(reasons) {
	case 0:
		return "0"
	case 1:
		reason, _, _ := strings.Cut(reasons[0], " ")
		return fmt.Sprintf("%d (%s)", sum, reason)
	}
	return fmt.Sprintf("%d (%s)", sum, strings.Join(reasons, ", "))
}

// age is the time since then in the one or two units that tell most, as kubectl
// has it. It is unknown where then is, or lies ahead.
func age(since, now time.Time) string {
	const day, year = 24, 24 * 365 // hours
	d := now.Sub(since).Truncate(time.Second)
	seconds, minutes, hours := int(d.Seconds()), int(d.Minutes()), int(d.Hours())
	switch {
	case since.IsZero() || d < 0:
		return unknown
	case seconds < 120:
		return units(seconds, "s", 0, "")
	case minutes < 10:
		return units(minutes, "m", seconds%60, "s")
	case hours < 3:
		return units(minutes, "m", 0, "")
	case hours < 8:
		return units(hours, "h", minutes%60, "m")
	case hours < 2*day:
		return units(hours, "h", 0, "")
	case hours < 8*day:
		return units(hours/day, "d", hours%day, "h")
	case hours < 2*year:
		return units(hours/day, "d", 0, "")
	}
	return units(hours/year, "y", hours%year/day, "d")
}

func units(large int, unit string, small int, smallUnit string) string {
	if small == 0 {
		return fmt.Sprint(large) + unit
	}
	return fmt.Sprint(large) + unit + fmt.Sprint(small) + smallUnit
}
