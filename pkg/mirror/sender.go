package mirror

import (
	"fmt"
	"math"
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
	// Dropped is what was lost, by reason: DropDown, DropNoRoute, DropOther; the
	// bytes of that are unknown. A packet that comes while the device is just set
	// up or down may count under two of them.
	Dropped map[string]Amount
}

// Reasons for which copies are lost behind a tap.
const (
	DropDown    = "down"    // the relay was down, or deleted
	DropNoRoute = "noRoute" // the node had no route to the collector
	DropOther   = "other"   // the device could not send them: for want of memory, or over IPv6 of room in the path
)

// senderOf reads the counters of a VXLAN device, which leaves the copies' Ethernet
// headers out of its bytes.
func senderOf(l *link, to string) *Sender {
	c := l.counts
	s := &Sender{Device: l.name, Destination: to, Sent: Amount{Packets: c.sentPackets, Bytes: c.sentBytes + ethernetHeader*c.sentPackets}}
	s.drop(DropNoRoute, c.noCarrier)
	s.drop(DropOther, c.sendErrors-min(c.sendErrors, c.noCarrier)+c.sendDropped)
	return s
}

func (s *Sender) drop(reason string, packets uint64) {
	if packets == 0 {
		return
	}
	if s.Dropped == nil {
		s.Dropped = map[string]Amount{}
	}
	s.Dropped[reason] = Amount{Packets: s.Dropped[reason].Packets + packets, BytesUnknown: true}
}

// destination writes a collector as ADDRESS:PORT/VNI.
func destination(c collector) string {
	return fmt.Sprintf("%s/%d", netip.AddrPortFrom(c.Remote, c.Port), c.VNI)
}

// relays are those of a node, by name, with the taps that they are counted for.
type relays struct {
	byName  map[string]*Sender
	index   map[string]int       // of the devices
	actions map[cookie]redirects // of the taps' ends on the node
}

// redirects are what a tap's end on the node does with copies.
type redirects struct {
	to     int // index of the device
	failed uint64
}

func (n *Node) relays(links []*link) (*relays, error) {
	r := &relays{map[string]*Sender{}, map[string]int{}, map[cookie]redirects{}}
	for _, at := range links {
		if c, isRelay := relayMark(at); isRelay && at.group == deviceGroup {
			r.byName[at.name], r.index[at.name] = senderOf(at, destination(c)), at.index
		}
	}
	actions, err := n.actions("mirred", math.MaxInt)
	if err != nil {
		r.index = nil // who sends to what is unknown
	}
	for _, a := range actions {
		if a.marked && a.redirect {
			r.actions[a.cookie.plain()] = redirects{a.to, uint64(a.counts.failed)}
		}
	}
	return r, err
}

// of is the relay of a tap, and counts what could not be handed to it as lost in
// it. Where somebody deleted the relay, the tap's copies go nowhere, also after
// another of the same name was made for others.
func (r *relays) of(m mark) *Sender {
	does, known := r.actions[newCookie(m.Owner, m.Device, 0)]
	name := m.Relay
	// The rules of older podtaps do not say whose they are.
	if index, there := r.index[name]; r.byName[name] == nil || known && there && does.to != index {
		name += " deleted"
		if r.byName[name] == nil {
			r.byName[name] = &Sender{Device: m.Relay, Missing: true}
		}
	}
	s := r.byName[name]
	s.Taps++
	s.drop(DropDown, does.failed)
	return s
}
