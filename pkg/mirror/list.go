package mirror

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/podtap/podtap/pkg/tap"
)

// List is what there is of podtap's on a node.
type List struct {
	Taps    []ListedTap
	Senders []Sender
}

// ListedTap is a tap as the kernel has it.
type ListedTap struct {
	Owner Owner  // of its fields, those above 64 bytes are hashed
	Pod   string // NAMESPACE/NAME; "" where the alias had no room for it
	NetNS string // path of the pod's namespace; "" where it has no name under /run/netns
	// Device is the tap's in the pod, "" where somebody deleted it and only the
	// rules are left. Then there is no more to tell but NetNS, Interface and
	// Counters.
	Device    string
	Interface string
	Direction tap.Direction // "" of a wire
	Sink      tap.Sink
	// Destination is the node's end of a veth or a wire, or a collector, written
	// ADDRESS:PORT/VNI.
	Destination string
	Placement   tap.Placement // of a vxlan
	Since       time.Time     // zero where it is unknown
	SnapLength  int           // bytes that are kept of a copy; 0 for all
	MaxBitrate  tap.Bitrate   // 0 for none
	// Counters has one entry for each direction; none of a wire, and none where
	// the pod's namespace was not found.
	Counters []Counters
	// Trimmed is what was cut, or segmented to fit; nil where copies go as they are.
	Trimmed *Trimmed
	// TrimUnknown says that Trimmed, and SnapLength, could not be read.
	TrimUnknown bool
	// Capped is how many copies exceeded MaxBitrate. They are among those that the
	// directions have as dropped by the mirror.
	Capped uint64
	// Lost is how many copies were lost behind the cap, on their way to the node.
	Lost uint64
}

const (
	// maxActions bounds the mirrors that are read of one pod: its taps have 8 each at most, and
	// a pod that may administer its network can make any number.
	maxActions = 4096
	// podTime is what one such pod may take of the time for all.
	podTime = 500 * time.Millisecond
)

// List lists all taps on the node, with their counters. Taps of pods whose
// namespace has no name under /run/netns are known from the node's side only. Where
// the node's own devices cannot be read nothing is listed: what pods tell would be
// taken for all that there is.
func (n *Node) List() (List, error) {
	links, err := n.linksOf("", withStatistics)
	if err != nil {
		return List{}, err
	}
	l := lister{node: n, seen: map[tapKey]seen{}}
	err = errors.Join(l.addNode(links), n.eachPod(l.addPod))
	return l.sorted(), err
}

type tapKey struct {
	owner  Owner
	device string
}

// seen is a tap that the node knows.
type seen struct {
	at   int   // in List.Taps
	host *link // its end on the node
}

// lister gathers a List: what the node knows first, because no pod can forge it.
type lister struct {
	node *Node
	list List
	seen map[tapKey]seen
}

func (l *lister) addNode(links []*link) error {
	relays, err := l.node.relays(links)
	for _, at := range links {
		m, isTap := linkMark(at)
		if !isTap || at.group != deviceGroup {
			continue
		}
		t := listed(m, at.name)
		if m.Relay != "" {
			t.Sink, t.Placement, t.Destination = tap.SinkVXLAN, tap.PlacementNode, relays.of(m).Destination
		}
		if failed := l.node.readTrim(at, &t); failed != nil {
			t.TrimUnknown = true
			err = errors.Join(err, fmt.Errorf("what was trimmed of %s is unknown: %w", at.name, failed))
		}
		l.seen[tapKey{m.Owner, m.Device}] = seen{len(l.list.Taps), at}
		l.list.Taps = append(l.list.Taps, t)
	}
	for _, s := range relays.byName {
		l.list.Senders = append(l.list.Senders, *s)
	}
	return err
}

// readTrim adds what is done to a tap's copies on the node.
func (n *Node) readTrim(host *link, t *ListedTap) error {
	if t.Sink == tap.SinkWire {
		return nil
	}
	read := func(host *link) error {
		at, err := n.trimAt(host)
		if err == nil {
			t.SnapLength = at.Snap
			t.Trimmed, err = at.trimmed()
		}
		return err
	}
	err := read(host)
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	// The program has gone since the devices were listed: with the tap, or for another.
	if host, err = n.linkByIndex(host.index); err != nil || host == nil {
		return err
	}
	return read(host)
}

// listed is what a mark tells of a tap.
func listed(m mark, host string) ListedTap {
	t := ListedTap{Owner: m.Owner, Pod: m.Pod, Device: m.Device, Interface: m.Interface, Direction: m.Direction, Since: m.Since,
		Sink: tap.SinkVeth, Destination: host}
	if m.Direction == "" {
		t.Sink = tap.SinkWire
	}
	return t
}

// addPod adds what a pod's namespace tells: counters, devices that the node does
// not see, and rules whose devices are gone. A pod may have written what it likes
// into its own devices; no more are taken from it than it can have taps.
func (l *lister) addPod(p *Pod) error {
	p.socket.until = time.Now().Add(podTime)
	err := l.readPod(p)
	if errors.Is(err, errTooMuch) {
		err = fmt.Errorf("the pod's network namespace %s: %w", p.path, err)
	}
	return err
}

func (l *lister) readPod(p *Pod) error {
	links, err := p.linksOf("", withStatistics)
	if err != nil {
		return err
	}
	counts, uncounted := p.countMirrors(maxActions)
	if errors.Is(uncounted, errTooMuch) {
		err = p.reopen() // its taps are listed, without counters
	} else {
		err = uncounted
	}
	if err != nil {
		return err
	}
	left, err := l.addTaps(p, links, counts)
	if err == nil {
		err = l.addRemains(p, links, counts, left)
	}
	return errors.Join(uncounted, err)
}

// addTaps adds the taps of a pod's devices, and takes what they count out of counts. It
// returns how many taps more the pod may have.
func (l *lister) addTaps(p *Pod, links []*link, counts counted) (int, error) {
	space, err := l.node.numberOf(p)
	if err != nil {
		return 0, err
	}
	shapes, err := p.shapes()
	if err != nil {
		return 0, err
	}
	added := 0
	for _, at := range links {
		m, isTap := linkMark(at)
		if !isTap || at.group != deviceGroup || added == tap.MaxTaps {
			continue
		}
		added++
		of := newCookie(m.Owner, m.Device, 0)
		known, atNode := l.seen[tapKey{m.Owner, m.Device}]
		switch {
		case !atNode && at.kind == "vxlan":
			if err := l.addInPod(p, m, at, counts[of]); err != nil {
				return 0, err
			}
			l.list.Taps[len(l.list.Taps)-1].cap(shapes[at.index], 0)
		case atNode && known.host.peer == at.index && known.host.peerSpace == space && at.peer == known.host.index:
			l.list.Taps[known.at].NetNS = p.path
			l.list.Taps[known.at].Counters = counts[of]
			l.list.Taps[known.at].cap(shapes[at.index], at.counts.sendDropped)
		default:
			continue // what somebody in the pod wrote
		}
		delete(counts, of)
	}
	return tap.MaxTaps - added, nil
}

// cap adds a tap's cap, and what the tap's device could not hand to the node. Without a cap the
// mirror knows of that itself.
func (t *ListedTap) cap(s shape, lost uint64) {
	if s.rate > 0 {
		t.MaxBitrate, t.Capped, t.Lost = s.rate, s.dropped, lost
	}
}

// addRemains adds what counts have left: of devices that somebody deleted; or of rules
// that are just gone, whose actions the kernel frees a little later.
func (l *lister) addRemains(p *Pod, links []*link, counts counted, most int) error {
	if len(counts) == 0 {
		return nil
	}
	rules, err := p.tapped(links)
	if err != nil {
		return err
	}
	for of, c := range counts {
		if on := rules[of]; on != "" && most > 0 {
			most--
			l.list.Taps = append(l.list.Taps, ListedTap{NetNS: p.path, Interface: on, Counters: c})
		}
	}
	return nil
}

// tapped are the interfaces that have taps' rules, by the taps' cookies.
func (p *Pod) tapped(links []*link) (map[cookie]string, error) {
	hooks, err := p.hookQdiscs()
	if err != nil {
		return nil, err
	}
	out := map[cookie]string{}
	for _, at := range links {
		if hooks[at.index] == "" {
			continue
		}
		rules, err := p.allRules(at.index, hooks[at.index])
		if err != nil {
			return nil, err
		}
		for _, r := range rules {
			if r.marked && r.mirred != nil {
				out[r.mirred.cookie.plain()] = at.name
			}
		}
	}
	return out, nil
}

// addInPod adds a tap of placement pod, whose device sends by itself.
func (l *lister) addInPod(p *Pod, m mark, at *link, c []Counters) error {
	list, err := p.destinations(at.index)
	if err != nil {
		return err
	}
	to := ""
	if len(list) == 1 {
		to = destination(list[0])
	}
	t := listed(m, "")
	t.Sink, t.Placement, t.Destination, t.NetNS, t.Counters = tap.SinkVXLAN, tap.PlacementPod, to, p.path, c
	l.list.Taps = append(l.list.Taps, t)
	s := senderOf(at, to)
	// Without the pod's name it still is no relay, though a pod may have it look so.
	s.Pod, s.Taps = cmp.Or(m.Pod, p.path), 1
	l.list.Senders = append(l.list.Senders, *s)
	return nil
}

// sorted is the list, in order.
func (l *lister) sorted() List {
	slices.SortFunc(l.list.Senders, func(a, b Sender) int { return strings.Compare(a.Pod+"\x00"+a.Device, b.Pod+"\x00"+b.Device) })
	slices.SortStableFunc(l.list.Taps, func(a, b ListedTap) int {
		return strings.Compare(a.Pod+"\x00"+a.Owner.ContainerID+"\x00"+a.NetNS+"\x00"+a.Device, b.Pod+"\x00"+b.Owner.ContainerID+"\x00"+b.NetNS+"\x00"+b.Device)
	})
	return l.list
}
