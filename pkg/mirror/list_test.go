package mirror

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/tap"
)

// sender is the list's only one.
func sender(t *testing.T, n *Node) Sender {
	t.Helper()
	list := listOf(t, n)
	if len(list.Senders) != 1 {
		t.Fatalf("%d senders are listed: %+v", len(list.Senders), list.Senders)
	}
	return list.Senders[0]
}

func TestWhatIsLostBehindTheRelayIsTheRelays(t *testing.T) {
	for name, c := range map[string]struct {
		breaks  func(s *scene)
		reason  string
		missing bool
	}{
		"it is down":             {func(s *scene) { s.node.Down(s.relay()) }, DropDown, false},
		"it is deleted":          {func(s *scene) { s.node.Delete(s.relay()) }, DropDown, true},
		"it has no way to there": {func(s *scene) { s.node.Run("ip", "route", "add", "unreachable", s.collector.IPv4()+"/32") }, DropNoRoute, false},
		"it has lost its peer": {func(s *scene) {
			s.node.Run("bridge", "fdb", "del", "00:00:00:00:00:00", "dev", s.relay(), "dst", s.collector.IPv4(), "port", "4789", "vni", "1")
		}, DropOther, false},
		"nothing is wrong at all": {func(*scene) {}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.HasPrefix(name, "it has") {
				needsTC(t)
			}
			s := newScene(t, 1430, 1500)
			node, p := open(t, s.node, s.pod)
			add(t, p, ownerOf("c1"), s.want(t, "vxlan: {vni: 1, remote: COLLECTOR4}", "direction: both"))
			s.eth0(t)
			c.breaks(s)
			var before, now ListedTap
			var sentBefore, sent Sender
			s.atRest(t, func() { before, sentBefore = only(t, node), sender(t, node) })
			s.exchange(t, "broken", 300)
			s.atRest(t, func() { now, sent = only(t, node), sender(t, node) })
			var copied uint64
			for _, is := range now.Counters {
				copied += is.Copied.Packets - direction(t, before.Counters, is.Direction).Copied.Packets
				if len(is.Dropped) > 0 {
					t.Errorf("%s: the tap itself dropped %v", is.Direction, is.Dropped)
				}
			}
			lost := sent.Dropped[c.reason].Packets - sentBefore.Dropped[c.reason].Packets
			if c.reason == "" {
				lost = 0
			}
			if sent.Missing != c.missing || sent.Taps != 1 || copied < 2000 || lost+sent.Sent.Packets-sentBefore.Sent.Packets != copied ||
				(lost == copied) != (c.reason != "") {
				t.Errorf("of %d copies %d were lost and %d sent: %+v, before %+v", copied, lost, sent.Sent.Packets-sentBefore.Sent.Packets, sent, sentBefore)
			}
		})
	}
}

// The taps of two pods and two networks, one relay; each has its own counters.
func TestEachTapCountsForItself(t *testing.T) {
	s := newScene(t, 1430, 1500)
	node, p := open(t, s.node, s.pod)
	second := s.node.Pod("second", 1430)
	other := openPod(t, node, second)
	add(t, p, ownerOf("c1"), s.want(t, "vxlan: {vni: 1, remote: COLLECTOR4}", "direction: egress"))
	add(t, p, Owner{SourceCNI, "net2", "c1", "net1"}, s.want(t, "veth: {}, device: m2", "direction: both"))
	add(t, other, ownerOf("c2"), s.want(t, "vxlan: {vni: 1, remote: COLLECTOR4}", "direction: both"))
	add(t, other, ownerOf("c2"), parse(t, "{device: w, %s}", wireText))
	lab.Settle(t, s.pod.Space, second.Space, s.node.Space)
	before := listOf(t, node)
	second.Ping(s.peer.IPv4, 7)
	after := listOf(t, node)
	if len(after.Taps) != 4 || len(after.Senders) != 1 || after.Senders[0].Taps != 2 {
		t.Fatalf("listed: %+v", after)
	}
	for i, is := range after.Taps {
		what := fmt.Sprintf("%s of %s", is.Device, is.Owner.ContainerID)
		grown := uint64(0)
		for j, c := range is.Counters {
			grown += c.Matched.Packets - before.Taps[i].Counters[j].Matched.Packets
		}
		switch {
		case is.Owner.ContainerID == "c2" && is.Sink == tap.SinkVXLAN:
			if grown < 14 {
				t.Errorf("%s counted %d packets of 7 pings", what, grown)
			}
		case grown > 2: // neighbour discovery, at most
			t.Errorf("%s counted %d packets of another pod's", what, grown)
		}
		if is.Pod != "default/"+is.Owner.ContainerID || time.Since(is.Since) > time.Minute || time.Since(is.Since) < 0 {
			t.Errorf("%s is of %s, since %v", what, is.Pod, is.Since)
		}
	}
}

// Another pod's ADD makes the relay anew under the same name: what the first one's
// tap copies still goes nowhere, and the list says so.
func TestARelayMadeAnewIsNotTheOldOne(t *testing.T) {
	s := newScene(t, 1430, 1500)
	node, p := open(t, s.node, s.pod)
	second := s.node.Pod("second", 1430)
	other := openPod(t, node, second)
	want := s.want(t, "vxlan: {vni: 1, remote: COLLECTOR4}", "direction: both")
	add(t, p, ownerOf("c1"), want)
	s.node.Delete(s.relay())
	add(t, other, ownerOf("c2"), want)
	s.exchange(t, "after", 100)
	list := listOf(t, node)
	if len(list.Senders) != 2 || len(list.Taps) != 2 {
		t.Fatalf("listed: %+v", list)
	}
	for _, is := range list.Senders {
		if is.Taps != 1 || is.Missing != (is.Destination == "") || is.Missing && is.Dropped[DropDown].Packets < 2000 || !is.Missing && is.Dropped[DropDown].Packets != 0 {
			t.Errorf("sender %+v", is)
		}
	}
}

// A pod copies the alias of another's tap onto a device of its own.
func TestOnePodsDeviceDoesNotHideAnothers(t *testing.T) {
	s := newScene(t, 1430, 1500)
	node, p := open(t, s.node, s.pod)
	forger := s.node.Pod("a-forger", 1430) // before the other in a list by name
	add(t, p, ownerOf("c1"), s.want(t, "vxlan: {vni: 1, remote: COLLECTOR4, placement: pod}", "direction: both"))
	alias := s.pod.Link("mirror").Attrs().Alias
	forger.VXLAN("mirror", 77, 7777)
	claim(t, forger.Space, "mirror", alias)
	list := listOf(t, node)
	if len(list.Taps) != 2 || list.Taps[0].NetNS != forger.Path() || len(list.Taps[0].Counters) != 0 {
		t.Fatalf("listed: %+v", list.Taps)
	}
	if is := list.Taps[1]; is.NetNS != s.pod.Path() || is.Device != "mirror" || len(is.Counters) != 2 {
		t.Errorf("listed: %+v", is)
	}
}
