package mirror

import (
	"math"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/pkg/tap"
)

// listOf lists a node's taps.
func listOf(t *testing.T, n *Node) List {
	t.Helper()
	list, err := n.List()
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// only is the list's only tap, with counters that add up.
func only(t *testing.T, n *Node) ListedTap {
	t.Helper()
	list := listOf(t, n)
	if len(list.Taps) != 1 {
		t.Fatalf("%d taps are listed: %+v", len(list.Taps), list.Taps)
	}
	addUp(t, list.Taps[0].Counters)
	return list.Taps[0]
}

// addUp fails where matched is not copied and dropped.
func addUp(t *testing.T, counters []Counters) {
	t.Helper()
	for _, c := range counters {
		packets, bytes, known := c.Copied.Packets, c.Copied.Bytes, !c.Copied.BytesUnknown
		for _, d := range c.Dropped {
			packets, bytes, known = packets+d.Packets, bytes+d.Bytes, known && !d.BytesUnknown
		}
		if packets != c.Matched.Packets || known && bytes != c.Matched.Bytes {
			t.Errorf("%s: matched is not what was copied and dropped: %+v", c.Direction, c)
		}
	}
}

// direction is one of a tap's counters.
func direction(t *testing.T, counters []Counters, d tap.Direction) Counters {
	t.Helper()
	for _, c := range counters {
		if c.Direction == d {
			return c
		}
	}
	t.Fatalf("no counters of %s among %+v", d, counters)
	return Counters{}
}

// eth0 are the pod's interface's own counters, when nothing moves any more.
func (s *scene) eth0(t *testing.T) (received, sent Amount) {
	t.Helper()
	var before netlink.LinkStatistics
	for range 50 {
		now := *s.pod.Link("eth0").Attrs().Statistics
		if now == before {
			return Amount{Packets: now.RxPackets, Bytes: now.RxBytes}, Amount{Packets: now.TxPackets, Bytes: now.TxBytes}
		}
		before = now
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("the interface does not come to rest")
	return
}

// atRest reads something while the interface counts nothing, and returns what the
// interface has counted by then.
func (s *scene) atRest(t *testing.T, read func()) (received, sent Amount) {
	t.Helper()
	for range 20 {
		received, sent = s.eth0(t)
		read()
		if r, x := s.eth0(t); r == received && x == sent {
			return received, sent
		}
	}
	t.Fatal("the interface does not come to rest")
	return
}

// counted are a tap's counters and the interface's own, of one moment.
func (s *scene) counted(t *testing.T, n *Node) (is ListedTap, received, sent Amount) {
	t.Helper()
	received, sent = s.atRest(t, func() { is = only(t, n) })
	return is, received, sent
}

// Datagrams, and TCP in super-packets, which the interface counts once and the
// kernel's rules many times.
func TestMatchedIsWhatTheInterfaceCounts(t *testing.T) {
	for _, v := range variants {
		for _, want := range []tap.Direction{tap.Ingress, tap.Egress, tap.Both} {
			t.Run(v.name+"/"+string(want), func(t *testing.T) {
				s := newScene(t, 1430, 1500)
				node, p := open(t, s.node, s.pod)
				add(t, p, ownerOf("c1"), s.want(t, v.text, "direction: "+string(want)))
				before, receivedBefore, sentBefore := s.counted(t, node)
				s.exchange(t, "datagrams", 700)
				s.exchangeTCP(t)
				now, received, sent := s.counted(t, node)
				check := func(d tap.Direction, packets, bytes uint64) {
					if want != tap.Both && want != d {
						return
					}
					was, is := direction(t, before.Counters, d), direction(t, now.Counters, d)
					if got := is.Matched.Packets - was.Matched.Packets; got != packets || is.Segments {
						t.Errorf("%s: %d packets matched, the interface counted %d (segments: %t)", d, got, packets, is.Segments)
					}
					got := is.Matched.Bytes - was.Matched.Bytes
					if d == tap.Ingress && got != bytes || got < bytes || got > bytes*11/10 {
						t.Errorf("%s: %d bytes matched, the interface counted %d", d, got, bytes)
					}
					if len(is.Dropped) != 0 {
						t.Errorf("%s: dropped %v", d, is.Dropped)
					}
				}
				check(tap.Ingress, received.Packets-receivedBefore.Packets, received.Bytes-receivedBefore.Bytes)
				check(tap.Egress, sent.Packets-sentBefore.Packets, sent.Bytes-sentBefore.Bytes)
				if len(now.Counters) != 1 && want != tap.Both || len(now.Counters) != 2 && want == tap.Both {
					t.Errorf("counters of %d directions", len(now.Counters))
				}
				remove(t, p, ownerOf("c1"))
				if left := listOf(t, node); len(left.Taps)+len(left.Senders) != 0 {
					t.Errorf("after Remove there is %+v", left)
				}
			})
		}
	}
}

// The mirror is whole, then broken, and whole again where that can be: what it
// did not take meanwhile, and nothing else, is dropped.
func TestWhatTheMirrorDidNotTakeIsDropped(t *testing.T) {
	for name, c := range map[string]struct {
		tap           string
		breaks, mends func(s *scene, made Made)
		deleted       bool
	}{
		"the pod's end is down":       {"veth: {}", func(s *scene, _ Made) { s.pod.Down("mirror") }, func(s *scene, _ Made) { s.pod.Up("mirror") }, false},
		"the node's end is down":      {"vxlan: {vni: 1, remote: COLLECTOR4}", func(s *scene, m Made) { s.node.Down(m.Host.Name) }, func(s *scene, m Made) { s.node.Up(m.Host.Name) }, false},
		"the VXLAN device is down":    {"vxlan: {vni: 1, remote: COLLECTOR4, placement: pod}", func(s *scene, _ Made) { s.pod.Down("mirror") }, func(s *scene, _ Made) { s.pod.Up("mirror") }, false},
		"the veth is deleted":         {"veth: {}", func(s *scene, _ Made) { s.pod.Delete("mirror") }, nil, true},
		"the VXLAN device is deleted": {"vxlan: {vni: 1, remote: COLLECTOR4, placement: pod}", func(s *scene, _ Made) { s.pod.Delete("mirror") }, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, 1430, 1500)
			node, p := open(t, s.node, s.pod)
			made := add(t, p, ownerOf("c1"), s.want(t, c.tap, "direction: both"))
			s.exchange(t, "whole", 300)
			s.eth0(t)
			whole := only(t, node).Counters
			c.breaks(s, made)
			breaking, receivedBefore, sentBefore := s.counted(t, node)
			s.exchange(t, "broken", 300)
			s.exchangeTCP(t)
			broken, received, sent := s.counted(t, node)
			if (broken.Device == "") != c.deleted {
				t.Errorf("the device is %q", broken.Device)
			}
			for d, lost := range map[tap.Direction]uint64{tap.Ingress: received.Packets - receivedBefore.Packets, tap.Egress: sent.Packets - sentBefore.Packets} {
				was, is := direction(t, breaking.Counters, d), direction(t, broken.Counters, d)
				if got := is.Dropped[DropMirror].Packets - was.Dropped[DropMirror].Packets; got != lost || is.Copied.Packets != was.Copied.Packets {
					t.Errorf("%s: %d dropped and %d copied; want %d and none", d, got, is.Copied.Packets-was.Copied.Packets, lost)
				}
				if before := direction(t, whole, d); len(before.Dropped) != 0 || before.Copied.Packets < 1000 {
					t.Errorf("%s: when it was whole it had %+v", d, before)
				}
			}
			if c.mends == nil {
				return
			}
			c.mends(s, made)
			before, _, _ := s.counted(t, node)
			s.exchange(t, "mended", 300)
			for _, is := range only(t, node).Counters {
				if was := direction(t, before.Counters, is.Direction); is.Dropped[DropMirror] != was.Dropped[DropMirror] || is.Copied.Packets < was.Copied.Packets+1000 {
					t.Errorf("%s: mended it has %+v, before %+v", is.Direction, is, was)
				}
			}
		})
	}
}

// A kernel with nothing to count whole packets counts segments; nothing else changes.
func TestWithoutTheCountingActionSegmentsAreCounted(t *testing.T) {
	mirror := &action{counts: actionCounts{packets: 50, bytes: 5000, failed: 3}}
	c := counters(tap.Egress, nil, mirror)
	addUp(t, []Counters{c})
	if !c.Segments || c.Matched.Packets != 50 || c.Copied.Packets != 47 || !c.Copied.BytesUnknown {
		t.Errorf("counters are %+v", c)
	}
	mirror.counts.failed = 60 // whole ones, of more segments each
	addUp(t, []Counters{counters(tap.Egress, nil, mirror)})
}

// Of each way to count, what is written is read back, and somebody else's action before a
// mirror is no way.
func TestHowARuleCountsIsReadBack(t *testing.T) {
	for _, want := range []counting{uncounted, byPolice, byBlock} {
		r := rule{program: matchAll(), mirred: &mirred{to: 7, cookie: newCookie(ownerOf("c1"), "mirror", 0), counted: want}}
		is := installed{kind: "bpf"}
		is.parseOptions(bpfOptions(r).Serialize()[unix.SizeofRtAttr:])
		if !is.marked || is.mirred == nil || is.mirred.counted != want || is.mirred.to != 7 {
			t.Errorf("%d is read as %+v, %+v", want, is, is.mirred)
		}
	}
	for _, by := range []counting{byPolice, byBlock} {
		only := rule{program: matchAll(), mirred: &mirred{cookie: newCookie(ownerOf("c1"), "mirror", ofAll|ofEgress), counted: by}}
		is := installed{kind: "bpf"}
		is.parseOptions(bpfOptions(only).Serialize()[unix.SizeofRtAttr:])
		if !is.marked || is.mirred == nil || is.mirred.counted != by || !is.mirred.countsOnly() || is.mirred.to != 0 {
			t.Errorf("a rule that only counts by %d is read as %+v, %+v", by, is, is.mirred)
		}
	}
	for _, theirs := range []action{{kind: "police", mtu: countingMTU}, {kind: "police", marked: true, mtu: 1500}, {kind: "mirred", marked: true, block: 1}} {
		if theirs.counting() != uncounted {
			t.Errorf("%+v is taken for podtap's", theirs)
		}
	}
}

// The kernel's 32 bits begin again, and some packets may come between the readings of
// what was matched and what was dropped of that; the sums hold all the same.
func TestCountersOf32BitsAddUp(t *testing.T) {
	for name, c := range map[string]struct{ matched, dropped, wantMatched, wantCopied uint64 }{
		"half of them, none dropped":      {3_000_000_000, 0, 3_000_000_000, 3_000_000_000},
		"half of them, some dropped":      {3_000_000_000, 3, 3_000_000_000, 2_999_999_997},
		"the last one":                    {math.MaxUint32, 0, math.MaxUint32, math.MaxUint32},
		"begun again":                     {7, math.MaxUint32 - 2, 7, 10},
		"all dropped, some while reading": {1000, 1010, 1010, 0},
	} {
		t.Run(name, func(t *testing.T) {
			got := counters(tap.Egress, &action{counts: actionCounts{failed: uint32(c.matched)}}, &action{counts: actionCounts{failed: uint32(c.dropped), bytes: 1 << 40}})
			if got.Matched.Packets != c.wantMatched || got.Copied.Packets != c.wantCopied || got.Dropped[DropMirror].Packets != c.dropped {
				t.Errorf("counters are %+v", got)
			}
		})
	}
}

// What is passed over is what came to the filter less what it matched; the two are not read
// at one moment, and begin again at 2^32.
func TestWhatIsPassedOverIsADifference(t *testing.T) {
	for name, c := range map[string]struct {
		direction     tap.Direction
		all, matched  uint32
		bytes         uint64 // of all; of each matched there are 100
		want, wantAre uint64
	}{
		"some":                       {tap.Egress, 30, 10, 5000, 20, 4000},
		"some that came in":          {tap.Ingress, 30, 10, 5000, 20, 5000 + 14*30 - 1000 - 14*10},
		"none":                       {tap.Egress, 10, 10, 1000, 0, 0},
		"read before what matched":   {tap.Egress, 10, 12, 1000, 0, 0},
		"begun again":                {tap.Egress, 5, math.MaxUint32 - 2, 1 << 40, 8, 1<<40 - 100*(math.MaxUint32-2)},
		"half of them":               {tap.Egress, 3_000_000_000, 0, 1 << 40, 3_000_000_000, 1 << 40},
		"read before, at the corner": {tap.Egress, math.MaxUint32, 1, 100, 0, 0},
	} {
		got := counters(c.direction, &action{counts: actionCounts{failed: c.matched}}, &action{counts: actionCounts{bytes: 100 * uint64(c.matched)}})
		got.leftOut(&action{counts: actionCounts{failed: c.all, bytes: c.bytes}}, nil, actionCounts{failed: c.matched, bytes: 100 * uint64(c.matched)})
		if got.PassedOver == nil || got.PassedOver.Packets != c.want || got.PassedOver.Bytes != c.wantAre {
			t.Errorf("%s: %+v, want %d packets and %d bytes", name, got.PassedOver, c.want, c.wantAre)
		}
	}
}
