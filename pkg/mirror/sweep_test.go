package mirror

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/podtap/podtap/internal/lab"
)

// Two pods with attachments to two networks; one of the pods is dead, and one of
// the other's attachments.
func TestSweepTakesTheDeadOfAllNetworksAndNobodyElse(t *testing.T) {
	s := newScene(t, 1430, 1500)
	node, p := open(t, s.node, s.pod)
	second := s.node.Pod("second", 1430)
	q := openPod(t, node, second)
	lab.Settle(t, s.pod.Space, second.Space, s.node.Space)
	before := track(t, s.pod.Space)
	alive := Owner{SourceCNI, "net", "c2", "eth0"}
	relayed := s.want(t, "vxlan: {vni: 1, remote: COLLECTOR4}", "direction: both")
	add(t, q, alive, relayed)
	living := track(t, second.Space, s.node.Space)
	for i, device := range []string{"a", "b"} {
		o := Owner{SourceCNI, []string{"net", "net2"}[i], "c1", []string{"eth0", "net1"}[i]}
		add(t, p, o, s.want(t, "vxlan: {vni: 1, remote: COLLECTOR4}", "device: "+device))
		add(t, p, o, s.want(t, "vxlan: {vni: 7, remote: COLLECTOR4, placement: pod}", "device: in-"+device))
		add(t, p, o, s.want(t, "veth: {}", "device: v"+device))
	}
	add(t, q, Owner{SourceCNI, "net2", "c2", "net1"}, s.want(t, "vxlan: {vni: 9, remote: COLLECTOR4}", "device: dead"))
	asked := map[Owner]bool{}
	removed, err := node.Sweep(func(at Trace) bool {
		asked[at.Owner] = true
		if age := time.Since(at.Made); age < 0 || age > time.Minute || at.Pod != "default/"+at.Owner.ContainerID {
			t.Errorf("asked of %+v, which was made just now", at)
		}
		return at.Owner.ContainerID == "c1" || at.Owner.Network == "net2"
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(removed) != 3 || slices.ContainsFunc(removed, func(at Trace) bool { return at.Owner == alive }) {
		t.Errorf("removed are %+v, want the three dead owners", removed)
	}
	before.unchanged("after the sweep")
	living.unchanged("after the sweep")
	if len(asked) != 4 {
		t.Errorf("asked of %v", asked)
	}
	healthy(t, q, alive, relayed)
	if removed, err := node.Sweep(func(Trace) bool { return false }); err != nil || len(removed) > 0 {
		t.Fatal(removed, err)
	}
	living.unchanged("after a sweep where all live")
}

// What bears podtap's group, or that of what is to be deleted, and nothing more,
// is somebody else's.
func TestSomebodyElsesDeviceAmongTheDoomedStays(t *testing.T) {
	s := newScene(t, 1430, 1500)
	node, p := open(t, s.node, s.pod)
	for _, at := range []*lab.Space{s.node.Space, s.pod.Space} {
		lab.Cable(at, "alien", at, "peer", 1500)
		setGroup(t, at, "alien", doomedGroup)
		setGroup(t, at, "peer", deviceGroup)
	}
	lab.Settle(t, s.node.Space, s.pod.Space)
	before := track(t, s.node.Space, s.pod.Space)
	for _, device := range []string{"a", "b"} {
		add(t, p, ownerOf("c1"), s.want(t, "vxlan: {vni: 1, remote: COLLECTOR4}", "device: "+device))
		add(t, p, ownerOf("c1"), s.want(t, "vxlan: {vni: 7, remote: COLLECTOR4, placement: pod}", "device: in-"+device))
	}
	remove(t, p, ownerOf("c1"))
	before.unchanged("after Remove")
	if _, err := node.Sweep(func(Trace) bool { return true }); err != nil {
		t.Fatal(err)
	}
	before.unchanged("after a sweep")
}

func setGroup(t *testing.T, at *lab.Space, device string, group int) {
	t.Helper()
	if err := at.Netlink.LinkSetGroup(at.Link(device), group); err != nil {
		t.Fatal(err)
	}
}

// A device without an owner is a pod's by its address: another pod's Remove, which
// holds another lock, leaves it alone, as does a sweep while that pod's lock is held.
func TestADeviceThatIsBeingMadeIsItsPodsOwn(t *testing.T) {
	s := newScene(t, 1430, 1500)
	node, p := open(t, s.node, s.pod)
	before := track(t, s.node.Space, s.pod.Space)
	err := node.addVeth(end{"half", macOf(macAtNode, "c1", "mirror"), 1500}, end{"mirror", macOf(macInPod, "c1", "mirror"), 1500}, p.namespace, true)
	if err != nil {
		t.Fatal(err)
	}
	there := func(want bool, when string) {
		t.Helper()
		if s.node.Has("half") != want || s.pod.Has("mirror") != want {
			t.Errorf("%s the devices are there: %t, %t", when, s.node.Has("half"), s.pod.Has("mirror"))
		}
	}
	remove(t, p, ownerOf("c2"))
	there(true, "after another's Remove")
	unlock, err := LockPod("c1")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := node.Sweep(func(Trace) bool { return false })
		done <- err
	}()
	time.Sleep(200 * time.Millisecond)
	there(true, "while its pod's lock is held")
	unlock()
	if err := <-done; err != nil {
		t.Error(err)
	}
	there(false, "after the sweep")
	before.unchanged("after the sweep")
}

// The kernel's aliases have no room for a long container ID: who compares one with
// them has to shorten it likewise.
func TestAShortIDIsTheOneThatASweepIsAskedOf(t *testing.T) {
	s := newScene(t, 1430, 1500)
	node, p := open(t, s.node, s.pod)
	for _, id := range []string{strings.Repeat("a", 64), strings.Repeat("a", 65)} {
		add(t, p, ownerOf(id), parse(t, "{device: d%d, veth: {}}", len(id)))
		removed, err := node.Sweep(func(at Trace) bool { return at.Owner.ContainerID == ShortID(id) })
		if err != nil || len(removed) != 1 {
			t.Errorf("an ID of %d bytes: removed are %v, error %v", len(id), removed, err)
		}
	}
}
