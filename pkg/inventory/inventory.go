// Package inventory says what taps there are on a node, in the words of podtapd's
// API: for podtapd, which serves them, and for a kubectl-podtap that runs on the node.
package inventory

import (
	"strings"

	"github.com/podtap/podtap/api/node"
	"github.com/podtap/podtap/pkg/mirror"
)

// Read reads the taps of the network namespace that it runs in, which must be the
// node's. What could be read is there also beside an error. The error is the
// kernel's: without root it is EPERM, and then nothing that is there can be relied on.
func Read() (node.Taps, error) {
	n, err := mirror.OpenNode()
	if err != nil {
		return Of(mirror.List{}), err
	}
	defer n.Close()
	list, err := n.List()
	return Of(list), err
}

// Of is a list as podtapd tells it. What is empty is an empty list in the JSON, and
// what is unknown is left out.
func Of(l mirror.List) node.Taps {
	out := node.Taps{Taps: []node.Tap{}, Senders: []node.Sender{}}
	for _, t := range l.Taps {
		out.Taps = append(out.Taps, tapOf(t))
	}
	for _, s := range l.Senders {
		out.Senders = append(out.Senders, senderOf(s))
	}
	return out
}

func tapOf(t mirror.ListedTap) node.Tap {
	out := node.Tap{
		Pod: t.Pod, ContainerID: t.Owner.ContainerID, Network: t.Owner.Network, IfName: t.Owner.IfName, NetNS: t.NetNS,
		Device: t.Device, Interface: t.Interface, Direction: t.Direction, Sink: t.Sink, Placement: t.Placement, Destination: t.Destination,
		Since: t.Since.UTC(), SnapLength: t.SnapLength, MaxBitrate: uint64(t.MaxBitrate), Directions: []node.Counters{},
	}
	if namespace, name, found := strings.Cut(t.Pod, "/"); found {
		out.Namespace, out.Name = namespace, name
	}
	for _, c := range t.Counters {
		out.Directions = append(out.Directions, countersOf(c))
	}
	addAltered(&out, t)
	return out
}

func countersOf(c mirror.Counters) node.Counters {
	out := node.Counters{Direction: c.Direction, PassedOver: knownOf(c.PassedOver), SampledOut: knownOf(c.SampledOut),
		Matched: amountOf(c.Matched), Copied: amountOf(c.Copied), Dropped: lossesOf(c.Dropped), Unit: "packets"}
	if c.Segments {
		out.Unit = "segments"
	}
	return out
}

// addAltered adds what the copies of a tap lose and gain between its device and the node.
func addAltered(out *node.Tap, t mirror.ListedTap) {
	lost := t.Lost
	if t.Trimmed != nil {
		out.Cut, out.SegmentsAdded = knownOf(&t.Trimmed.Cut), &t.Trimmed.Segments
		lost += t.Trimmed.Lost
	}
	if t.MaxBitrate > 0 {
		out.Capped = &node.Amount{Packets: t.Capped}
	}
	// Without the pod's namespace nobody knows whether there is a cap, and what was
	// lost behind it; nor without the program's counts what that lost. A part of the loss
	// would look like a counter that went down.
	if (t.Trimmed != nil || t.MaxBitrate > 0) && t.NetNS != "" && !t.TrimUnknown {
		out.Lost = &node.Amount{Packets: lost}
	}
}

func senderOf(s mirror.Sender) node.Sender {
	out := node.Sender{Device: s.Device, Pod: s.Pod, Destination: s.Destination, Taps: s.Taps, Missing: s.Missing, Dropped: lossesOf(s.Dropped)}
	if !s.Missing {
		sent := amountOf(s.Sent)
		out.Sent = &sent
	}
	return out
}

func lossesOf(dropped map[string]mirror.Amount) map[string]node.Amount {
	out := map[string]node.Amount{}
	for reason, amount := range dropped {
		out[reason] = amountOf(amount)
	}
	return out
}

// knownOf is an amount that may be unknown.
func knownOf(a *mirror.Amount) *node.Amount {
	if a == nil {
		return nil
	}
	out := amountOf(*a)
	return &out
}

func amountOf(a mirror.Amount) node.Amount {
	out := node.Amount{Packets: a.Packets}
	if !a.BytesUnknown {
		out.Bytes = &a.Bytes
	}
	return out
}
