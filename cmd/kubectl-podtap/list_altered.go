package main

import (
	"fmt"

	"github.com/podtap/podtap/api/node"
	"github.com/podtap/podtap/pkg/tap"
)

// isAltered says whether there is something to tell of how a tap's copies are cut, made
// to fit the path, or capped. Of a tap that only could alter copies, as each that makes them
// fit could, there is nothing.
func isAltered(t node.Tap) bool {
	return t.SnapLength != 0 || t.MaxBitrate != 0 || t.SegmentsAdded != nil && *t.SegmentsAdded != 0 || some(t.Cut) || some(t.Capped) || some(t.Lost)
}

func some(a *node.Amount) bool { return a != nil && a.Packets != 0 }

func (v view) alteredHead() []string {
	return v.tapRow([]string{"DEVICE", "SNAP", "CAP", "CUT", "SEGMENTS", "CAPPED", "LOST"}, "NAMESPACE", "POD", "CONTAINER", "NODE")
}

func (v view) alteredRow(t node.Tap) []string {
	snap, limit, segments := "", "", ""
	if t.SnapLength != 0 {
		snap = fmt.Sprint(t.SnapLength)
	}
	if t.MaxBitrate != 0 {
		limit = tap.Bitrate(t.MaxBitrate).String()
	}
	if t.SegmentsAdded != nil {
		segments = fmt.Sprint(*t.SegmentsAdded)
	}
	return v.rowOf(t, snap, limit, known(t.Cut), segments, known(t.Capped), known(t.Lost))
}
