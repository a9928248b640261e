package mirror

import (
	"errors"
	"fmt"
	"math"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/pkg/tap"
)

// Amount is a number of packets, as the tapped interface counts them: what TCP's
// offload has left whole is one. The kernel counts them in 32 bits, so they begin
// again at 4294967296. Bytes are those of Ethernet frames; what leaves the pod
// whole counts with the headers of all the segments that it will become.
type Amount struct {
	Packets uint64
	Bytes   uint64
	// BytesUnknown is set where some packets of several fared otherwise than the
	// rest: the kernel does not count their bytes apart.
	BytesUnknown bool
}

// BetweenReadings is how many packets may come between the readings of two counters of
// one tap, which takes some milliseconds at most. What was matched and what was dropped
// of it do not fit together by so much.
const BetweenReadings = 1 << 20

// DropMirror is the reason of a copy that the tap's device did not take: it is
// down, or somebody deleted it, or the copy exceeded the tap's cap.
const DropMirror = "mirror"

// Counters are those of one direction of a tap. Matched is the sum of Copied and
// of what Dropped has.
type Counters struct {
	Direction tap.Direction // ingress or egress
	// PassedOver is what the tap's filter did not match, and what it matched that is a
	// copy already; nil without a filter, and where the kernel does not count it.
	PassedOver *Amount
	// SampledOut is what the filter matched and the sample left out; nil where all is
	// copied, and where the kernel does not count it. It is no part of Matched.
	SampledOut *Amount
	Matched    Amount
	Copied     Amount // handed to the tap's device
	Dropped    map[string]Amount
	// Segments says that the kernel counts the segments of what TCP's offload has left
	// whole: it is one before 6.8, without police actions or with rules that a podtap has
	// made which did not use them.
	Segments bool
}

// counters makes sense of the statistics of a rule's two actions.
func counters(d tap.Direction, counting, mirror *action) Counters {
	c := Counters{Direction: d, Segments: counting == nil}
	c.Matched = Amount{Packets: mirror.counts.packets, Bytes: mirror.counts.bytes}
	if counting != nil {
		c.Matched.Packets = uint64(counting.counts.failed)
	}
	if d == tap.Ingress {
		// At the ingress hook the kernel leaves out the Ethernet header.
		c.Matched.Bytes += ethernetHeader * c.Matched.Packets
	}
	dropped := uint64(mirror.counts.failed)
	if counting != nil {
		copied := uint32(c.Matched.Packets - dropped) // both begin again at 2^32
		if dropped > 0 && copied > math.MaxUint32-BetweenReadings {
			copied, c.Matched.Packets = 0, dropped
		}
		c.Copied.Packets = uint64(copied)
	} else {
		dropped = min(dropped, c.Matched.Packets)
		c.Copied.Packets = c.Matched.Packets - dropped
	}
	lost := Amount{Packets: dropped}
	switch {
	case dropped == 0:
		c.Copied.Bytes = c.Matched.Bytes
	case c.Copied.Packets == 0:
		lost.Bytes = c.Matched.Bytes
	default:
		c.Copied.BytesUnknown, lost.BytesUnknown = true, true
	}
	if dropped > 0 {
		c.Dropped = map[string]Amount{DropMirror: lost}
	}
	return c
}

// less is what one rule counted and a later one did not, in packets and, as the kernel has
// them, bytes. The first may be read a moment before the second, and have less.
func less(first, second actionCounts) Amount {
	a := Amount{Packets: uint64(first.failed - second.failed)} // both begin again at 2^32
	if a.Packets > math.MaxUint32-BetweenReadings {
		a.Packets = 0
	}
	if a.Packets > 0 && first.bytes > second.bytes {
		a.Bytes = first.bytes - second.bytes
	}
	return a
}

// leftOut adds what the tap's rule left, by the statistics of the rules that count what came
// to the filter and what the filter matched; nil where there is no such rule. taken are those
// of the tap's rule.
func (c *Counters) leftOut(all, matched *action, taken actionCounts) {
	left := func(first *action, second actionCounts) *Amount {
		a := less(first.counts, second)
		if c.Direction == tap.Ingress {
			a.Bytes += ethernetHeader * a.Packets
		}
		return &a
	}
	if matched != nil {
		c.SampledOut = left(matched, taken)
		taken = matched.counts
	}
	if all != nil {
		c.PassedOver = left(all, taken)
	}
}

const ethernetHeader = 14 // bytes

// counted is what a namespace's mirrors have counted, by the cookie of the tap.
type counted map[cookie][]Counters

// countMirrors reads the statistics of all taps of the namespace, in dumps of no more
// actions than most.
func (n *namespace) countMirrors(most int) (counted, error) {
	actions, err := n.actions("mirred", most)
	if err != nil {
		return nil, err
	}
	counting, mirrors := map[cookie]*action{}, map[cookie]*action{}
	note := func(actions []action) {
		for i := range actions {
			switch a := &actions[i]; {
			case !a.marked || a.redirect:
			case a.counting() != uncounted:
				newest(counting, a)
			case a.block == 0:
				newest(mirrors, a)
			}
		}
	}
	note(actions)
	for of := range mirrors {
		if counting[of] == nil {
			police, err := n.actions("police", most)
			if err != nil {
				return nil, err
			}
			note(police)
			break
		}
	}
	found := counted{}
	for _, a := range mirrors {
		of, direction := a.cookie.plain(), tap.Ingress
		if a.cookie.flags()&ofEgress != 0 {
			direction = tap.Egress
		}
		c := counters(direction, counting[a.cookie], a)
		if by := counting[a.cookie]; by != nil {
			c.leftOut(counting[a.cookie.with(ofAll)], counting[a.cookie.with(ofMatched)], actionCounts{failed: by.counts.failed, bytes: a.counts.bytes})
		}
		if direction == tap.Egress {
			found[of] = append(found[of], c)
		} else {
			found[of] = append([]Counters{c}, found[of]...)
		}
	}
	return found, nil
}

// newest keeps the youngest action of each rule: of a rule that was replaced the kernel frees
// the actions a little later.
func newest(of map[cookie]*action, a *action) {
	if was := of[a.cookie]; was == nil || a.age < was.age {
		of[a.cookie] = a
	}
}

// Attributes of a list of actions, from linux/rtnetlink.h.
const (
	actionTable = 1 // TCA_ACT_TAB
	actionFlags = 2 // TCA_ROOT_FLAGS
	largeDump   = 1 // TCA_ACT_FLAG_LARGE_DUMP_ON
)

// actions lists all actions of a kind in the namespace, with statistics. Where there
// are more than most, it gives up with errTooMuch.
func (n *namespace) actions(kind string, most int) ([]action, error) {
	table := nl.NewRtAttr(actionTable, nil)
	table.AddRtAttr(1, nil).AddRtAttr(nl.TCA_ACT_KIND, nl.ZeroTerminated(kind))
	flags := nl.NewRtAttr(actionFlags, append(nl.Uint32Attr(largeDump), nl.Uint32Attr(largeDump)...))
	const sizeofTcamsg = 4
	total := 0
	parts, err := query(n, unix.RTM_GETACTION, unix.NLM_F_DUMP, func(m []byte) (list []action, ok bool, err error) {
		if len(m) < sizeofTcamsg {
			return nil, false, errors.New("short message")
		}
		for kind, value := range attributes(m[sizeofTcamsg:]) {
			if kind != actionTable {
				continue
			}
			for _, value := range attributes(value) {
				list = append(list, parseAction(value))
			}
		}
		if total += len(list); total > most {
			return nil, false, errTooMuch
		}
		return list, true, nil
	}, tcamsg{}, table, flags)
	if errors.Is(err, unix.ENOENT) { // nobody has used any yet
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the %s actions: %w", kind, err)
	}
	var out []action
	for _, part := range parts {
		out = append(out, part...)
	}
	return out, nil
}

// tcamsg is struct tcamsg of linux/rtnetlink.h, of no family.
type tcamsg struct{}

func (tcamsg) Len() int          { return 4 }
func (tcamsg) Serialize() []byte { return make([]byte, 4) }
