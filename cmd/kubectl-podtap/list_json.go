package main

import (
	"encoding/json"
	"io"
	"strings"
	"time"

	"github.com/podtap/podtap/pkg/mirror"
	"github.com/podtap/podtap/pkg/tap"
)

// listJSON is the list for programs. Fields are added to it, never taken away or
// given another meaning. What is unknown is left out.
type listJSON struct {
	Taps    []tapJSON    `json:"taps"`
	Senders []senderJSON `json:"senders"`
}

type tapJSON struct {
	Pod         string          `json:"pod,omitempty"` // NAMESPACE/NAME
	Namespace   string          `json:"namespace,omitempty"`
	Name        string          `json:"name,omitempty"`
	ContainerID string          `json:"containerID,omitempty"`
	Network     string          `json:"network,omitempty"`
	IfName      string          `json:"ifname,omitempty"`
	NetNS       string          `json:"netns,omitempty"`
	Device      string          `json:"device,omitempty"`
	Interface   string          `json:"interface,omitempty"`
	Direction   tap.Direction   `json:"direction,omitempty"`
	Sink        tap.Sink        `json:"sink,omitempty"`
	Placement   tap.Placement   `json:"placement,omitempty"`
	Destination string          `json:"destination,omitempty"`
	Since       time.Time       `json:"since,omitzero"`
	Directions  []directionJSON `json:"directions"`
}

type directionJSON struct {
	Direction tap.Direction         `json:"direction"`
	Matched   amountJSON            `json:"matched"`
	Copied    amountJSON            `json:"copied"`
	Dropped   map[string]amountJSON `json:"dropped"`
	Unit      string                `json:"unit"`
}

type senderJSON struct {
	Device      string                `json:"device"`
	Pod         string                `json:"pod,omitempty"`
	Destination string                `json:"destination,omitempty"`
	Taps        int                   `json:"taps"`
	Missing     bool                  `json:"missing,omitempty"`
	Sent        *amountJSON           `json:"sent,omitempty"`
	Dropped     map[string]amountJSON `json:"dropped"`
}

type amountJSON struct {
	Packets uint64  `json:"packets"`
	Bytes   *uint64 `json:"bytes,omitempty"`
}

func writeJSON(w io.Writer, l mirror.List) error {
	out := listJSON{Taps: []tapJSON{}, Senders: []senderJSON{}}
	for _, t := range l.Taps {
		out.Taps = append(out.Taps, tapAsJSON(t))
	}
	for _, s := range l.Senders {
		out.Senders = append(out.Senders, senderAsJSON(s))
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(out)
}

func tapAsJSON(t mirror.ListedTap) tapJSON {
	out := tapJSON{
		Pod: t.Pod, ContainerID: t.Owner.ContainerID, Network: t.Owner.Network, IfName: t.Owner.IfName, NetNS: t.NetNS,
		Device: t.Device, Interface: t.Interface, Direction: t.Direction, Sink: t.Sink, Placement: t.Placement, Destination: t.Destination,
		Since: t.Since.UTC(), Directions: []directionJSON{},
	}
	if namespace, name, found := strings.Cut(t.Pod, "/"); found {
		out.Namespace, out.Name = namespace, name
	}
	for _, c := range t.Counters {
		d := directionJSON{Direction: c.Direction, Matched: amountAsJSON(c.Matched), Copied: amountAsJSON(c.Copied),
			Dropped: lossesAsJSON(c.Dropped), Unit: "packets"}
		if c.Segments {
			d.Unit = "segments"
		}
		out.Directions = append(out.Directions, d)
	}
	return out
}

func senderAsJSON(s mirror.Sender) senderJSON {
	out := senderJSON{Device: s.Device, Pod: s.Pod, Destination: s.Destination, Taps: s.Taps, Missing: s.Missing, Dropped: lossesAsJSON(s.Dropped)}
	if !s.Missing {
		sent := amountAsJSON(s.Sent)
		out.Sent = &sent
	}
	return out
}

func lossesAsJSON(dropped map[string]mirror.Amount) map[string]amountJSON {
	out := map[string]amountJSON{}
	for reason, amount := range dropped {
		out[reason] = amountAsJSON(amount)
	}
	return out
}

func amountAsJSON(a mirror.Amount) amountJSON {
	out := amountJSON{Packets: a.Packets}
	if !a.BytesUnknown {
		out.Bytes = &a.Bytes
	}
	return out
}
