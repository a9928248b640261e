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

	"github.com/podtap/podtap/pkg/mirror"
	"github.com/podtap/podtap/pkg/tap"
)

const (
	unknown = "-"
	// shownID is how many characters of a container's ID are shown, as many as
	// crictl shows.
	shownID = 12
)

// writeTable writes the taps, one line for each direction, and below them the
// senders.
func writeTable(w io.Writer, l mirror.List, now time.Time) error {
	if len(l.Taps) > 0 {
		rows := [][]string{{"POD", "CONTAINER", "DEVICE", "INTERFACE", "DIRECTION", "DESTINATION", "MATCHED", "COPIED", "DROPPED", "AGE"}}
		for _, t := range l.Taps {
			rows = append(rows, tapRows(t, now)...)
		}
		if err := writeRows(w, rows); err != nil {
			return err
		}
	}
	if len(l.Senders) == 0 {
		return nil
	}
	rows := [][]string{{"SENDER", "POD", "DESTINATION", "TAPS", "SENT", "DROPPED"}}
	for _, s := range l.Senders {
		rows = append(rows, senderRow(s))
	}
	if len(l.Taps) > 0 {
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
	}
	return writeRows(w, rows)
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

// tapRows has a row for each direction, or one where there are no counters.
func tapRows(t mirror.ListedTap, now time.Time) [][]string {
	device, destination := t.Device, t.Destination
	if device == "" {
		device = "(deleted)"
	}
	if t.Placement == tap.PlacementPod {
		destination = cmp.Or(destination, unknown) + " (pod)"
	}
	row := func(direction tap.Direction, counts ...string) []string {
		front := []string{cmp.Or(t.Pod, t.NetNS), fmt.Sprintf("%.*s", shownID, t.Owner.ContainerID), device, t.Interface, string(direction), destination}
		return append(append(front, counts...), age(t.Since, now))
	}
	var rows [][]string
	for _, c := range t.Counters {
		rows = append(rows, row(c.Direction, count(c.Matched), count(c.Copied), losses(c.Dropped)))
	}
	if rows == nil {
		rows = append(rows, row(t.Direction, "", "", ""))
	}
	return rows
}

func senderRow(s mirror.Sender) []string {
	device, sent := s.Device, count(s.Sent)
	if s.Missing {
		device, sent = device+" (deleted)", unknown
	}
	return []string{device, s.Pod, s.Destination, fmt.Sprint(s.Taps), sent, losses(s.Dropped)}
}

func count(a mirror.Amount) string { return fmt.Sprint(a.Packets) }

// losses is the sum of lost packets and, where there are any, why.
func losses(dropped map[string]mirror.Amount) string {
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
