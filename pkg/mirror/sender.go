package mirror

import (
	"fmt"
	"net/netip"
)

// Sender is a VXLAN device that sends copies: a relay on the node, which taps
// share, or a tap's own device in a pod. What is lost in it is lost for all.
type Sender struct {
	Device      string
	Pod         string // where it is a pod's own
	Destination string // "" where it sends to none, or to several
	Taps        int
	Missing     bool // somebody deleted it; its taps send nothing
	Sent        Amount
	// Dropped are the packets that were lost, by reason: DropDown, DropNoRoute,
	// DropOther.
	Dropped map[string]uint64
}

// Reasons for which copies are lost behind a tap.
const (
	DropDown    = "down"    // the relay was down, or deleted
	DropNoRoute = "noRoute" // the node had no route to the collector
	DropOther   = "other"   // the device could not send them, for want of memory, say
)

// senderOf reads the counters of a VXLAN device.
func senderOf(l *link, to string) *Sender {
	s := &Sender{Device: l.name, Destination: to, Sent: Amount{Packets: l.counts.sentPackets, Bytes: l.counts.sentBytes}}
	s.drop(DropNoRoute, l.counts.noCarrier)
	s.drop(DropOther, l.counts.sendErrors-min(l.counts.sendErrors, l.counts.noCarrier)+l.counts.sendDropped)
	return s
}

func (s *Sender) drop(reason string, packets uint64) {
	if packets == 0 {
		return
	}
	if s.Dropped == nil {
		s.Dropped = map[string]uint64{}
	}
	s.Dropped[reason] += packets
}

// destination writes a collector as ADDRESS:PORT/VNI.
func destination(c collector) string {
	return fmt.Sprintf("%s/%d", netip.AddrPortFrom(c.Remote, c.Port), c.VNI)
}
