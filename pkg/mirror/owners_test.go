package mirror

import (
	"testing"
	"time"

	"sync"
	"sync/atomic"

	"github.com/podtap/podtap/pkg/tap"
)

func TestEveryFieldOfAnOwnerTellsItApart(t *testing.T) {
	o := Owner{Source: SourceCNI, Network: "net", ContainerID: "c1", IfName: "eth0"}
	for field, other := range map[string]Owner{
		"Source":      {"other", "net", "c1", "eth0"},
		"Network":     {SourceCNI, "net2", "c1", "eth0"},
		"ContainerID": {SourceCNI, "net", "c2", "eth0"},
		"IfName":      {SourceCNI, "net", "c1", "eth1"},
		"the border":  {SourceCNI, "netc", "1", "eth0"},
	} {
		if newCookie(o, "mirror", 0).sameOwner(newCookie(other, "mirror", 0)) {
			t.Errorf("%s is not in the cookie", field)
		}
		if hostName(o, "mirror") == hostName(other, "mirror") {
			t.Errorf("%s is not in the name of the node's end", field)
		}
		if (mark{Owner: o}).ownedBy(other) {
			t.Errorf("%s is not compared", field)
		}
	}
}

// Whoever gets a file that somebody has just deleted holds nothing.
func TestALockIsHeldByOneHoweverFastItChangesHands(t *testing.T) {
	var wait sync.WaitGroup
	var inside, twice atomic.Int32
	for range 8 {
		wait.Go(func() {
			for range 400 {
				unlock, err := lock("fast", "the test", 10*time.Second)
				if err != nil {
					t.Error(err)
					return
				}
				if inside.Add(1) != 1 {
					twice.Add(1)
				}
				time.Sleep(10 * time.Microsecond)
				inside.Add(-1)
				unlock()
			}
		})
	}
	wait.Wait()
	if n := twice.Load(); n != 0 {
		t.Errorf("%d times two held the lock at once", n)
	}
}

// Between a relay's making and the alias that says who uses it nobody may sweep it.
func TestWorkOnRelaysWaitsForTheNodesLock(t *testing.T) {
	s := newScene(t, 1450, 1500)
	_, p := open(t, s.node, s.pod)
	want := parse(t, "{vxlan: {vni: 1, remote: %s}}", s.collector.IPv4())
	for _, work := range []struct {
		name string
		do   func() error
	}{
		{"Add", func() error { _, err := p.Add(ownerOf("c1"), want, ""); return err }},
		{"Remove", func() error { return p.Remove(ownerOf("c1")) }},
	} {
		unlock, err := lock("node", "the test", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- work.do() }()
		select {
		case err := <-done:
			done <- err
			t.Errorf("%s did not wait for the node's lock", work.name)
		case <-time.After(300 * time.Millisecond):
		}
		unlock()
		if err := <-done; err != nil {
			t.Errorf("%s: %v", work.name, err)
		}
	}
}

// Another owner's Check has nothing to say of this one's damage, and none of
// another's devices is taken for his.
func TestCheckTellsOwnersApart(t *testing.T) {
	s := newScene(t, 1450, 1500)
	_, p := open(t, s.node, s.pod)
	want := parse(t, "{veth: {}}")
	add(t, p, ownerOf("c1"), want)
	s.pod.Down("mirror")
	if problems, err := p.CheckOwned(ownerOf("c2")); err != nil || len(problems) != 0 {
		t.Errorf("CheckOwned of an owner without taps: %q, %v", problems, err)
	}
	problems, err := p.Check(ownerOf("c2"), []tap.Tap{want})
	if err != nil || len(problems) != 1 || problems[0] != "tap mirror: its device in the pod is not this attachment's" {
		t.Errorf("Check of another owner's tap: %q, %v", problems, err)
	}
}
