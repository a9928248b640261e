package mirror

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/podtap/podtap/internal/lab"
)

// forge makes a device in a pod that claims to be a tap's of long ago.
func forge(t *testing.T, at *lab.Pod, l netlink.Link, o Owner) {
	t.Helper()
	alias := mark{Owner: o, Device: "mirror", Interface: "eth0", Since: time.Now().Add(-time.Hour), Pod: "default/forged"}.alias()
	l.Attrs().Group, l.Attrs().TxQLen = deviceGroup, -1
	if err := errors.Join(at.Netlink.LinkAdd(l), at.Netlink.LinkSetAlias(l, alias)); err != nil {
		t.Fatal(err)
	}
}

func old(t Trace) bool { return time.Since(t.Made) > time.Minute }

func TestWhatAPodClaimsOfAnothersTapIsNotBelievedByASweep(t *testing.T) {
	s := newScene(t, 1430, 1500)
	node, p := open(t, s.node, s.pod)
	forger := s.node.Pod("a-forger", 1430) // before the other in a list by name
	want := s.want(t, "vxlan: {vni: 1, remote: COLLECTOR4}", "direction: both")
	made := add(t, p, ownerOf("c1"), want)
	forge(t, forger, &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "mirror"}, PeerName: "peer"}, ownerOf("c1"))
	before := track(t, forger.Space)
	removed, err := node.Sweep(old)
	if err != nil || len(removed) > 0 {
		t.Errorf("removed are %+v, error %v", removed, err)
	}
	before.unchanged("after the sweep")
	if !s.node.Has(made.Host.Name) {
		t.Fatal("a living pod's tap is gone")
	}
	healthy(t, p, ownerOf("c1"), want)
}

// An owner that only a pod names has nothing on the node, whatever the node has by the
// time, and is nobody to tell of.
func TestAnOwnerThatOnlyAPodNamesLosesWhatItHasThere(t *testing.T) {
	s := newScene(t, 1430, 1500)
	node, p := open(t, s.node, s.pod)
	forger := s.node.Pod("z-forger", 1430)
	lab.Settle(t, s.pod.Space, forger.Space, s.node.Space)
	before := track(t, forger.Space)
	forge(t, forger, &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "mirror"}, PeerName: "peer"}, ownerOf("c1"))
	forge(t, forger, &netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: "far"}, VxlanId: 7, Port: 4789}, ownerOf("c2"))
	// Of the first owner the node learns after the sweep has looked at it.
	var made Made
	removed, err := node.Sweep(func(at Trace) bool {
		if at.Owner == ownerOf("c1") && made.Host == nil {
			made = add(t, p, ownerOf("c1"), parse(t, "veth: {}"))
		}
		return old(at)
	})
	if err != nil || len(removed) != 1 || removed[0].Owner != ownerOf("c2") {
		t.Errorf("removed are %+v, error %v; want the one with a VXLAN device", removed, err)
	}
	before.unchanged("after the sweep")
	if made.Host == nil || !s.node.Has(made.Host.Name) {
		t.Error("the node's device of another pod's tap is gone")
	}
}

// The node's word is told of who is gone, not the pod's.
func TestOfAnOwnerOfTheNodesTheNodeTells(t *testing.T) {
	s := newScene(t, 1430, 1500)
	node, p := open(t, s.node, s.pod)
	// The forged one comes first in the pod's list.
	forge(t, s.pod, &netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: "a"}, VxlanId: 7, Port: 4789}, ownerOf("c1"))
	add(t, p, ownerOf("c1"), parse(t, "veth: {}"))
	removed, err := node.Sweep(func(Trace) bool { return true })
	if err != nil || len(removed) != 1 || removed[0].Pod != "default/c1" || old(removed[0]) {
		t.Errorf("removed are %+v, error %v", removed, err)
	}
	if s.pod.Has("mirror") || s.pod.Has("a") {
		t.Error("devices of the owner are left in the pod")
	}
}

// More owners of the node's can be dead than one pass takes: all are asked of, because
// some callers remember since when they are.
func TestASweepAsksOfAllThatItDoesNotTake(t *testing.T) {
	var links []*link
	for i := range 2 * maxStale {
		m := mark{Owner: ownerOf(fmt.Sprint(i)), Device: "mirror", Interface: "eth0"}
		links = append(links, &link{name: "m", alias: m.alias(), kind: "veth", group: deviceGroup})
	}
	asked := map[Owner]bool{}
	found := owners(links, func(t Trace) bool {
		asked[t.Owner] = true
		return true
	})
	if len(found) != maxStale || len(asked) != 2*maxStale {
		t.Errorf("found %d, asked of %d", len(found), len(asked))
	}
}
