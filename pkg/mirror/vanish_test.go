package mirror

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/tap"
)

// fragile is a pod without a bridge behind it, which can be made anew in no time.
type fragile struct {
	*scene
	t *testing.T
	// nodeAlone is the node without the pod's cable, podAlone a pod without it.
	nodeAlone, podAlone string
}

func newFragile(t *testing.T) *fragile {
	t.Helper()
	f := &fragile{scene: newScene(t, 1450, 1500), t: t}
	f.node.Sysctl("ipv6", "default", "disable_ipv6", "1")
	f.nodeAlone = f.node.Snapshot()
	f.make()
	f.podAlone = f.pod.Snapshot()
	f.pod.Destroy()
	return f
}

// in is the scene in a subtest, which has a pod of its own.
func (f *fragile) in(t *testing.T) *fragile {
	out, own := *f, *f.scene
	out.t, out.scene = t, &own
	out.make()
	out.plug()
	t.Cleanup(func() {
		out.pod.Destroy()
		_ = out.settled("")
	})
	return &out
}

// make makes the pod's namespace, and plug its cable.
func (f *fragile) make() {
	f.t.Helper()
	s := lab.NewSpace(f.t, "fragile")
	s.Sysctl("ipv6", "default", "disable_ipv6", "1")
	f.pod = &lab.Pod{Space: s, Host: f.node}
}

func (f *fragile) plug() {
	f.t.Helper()
	lab.Cable(f.node.Space, "cable", f.pod.Space, "eth0", 1450)
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if f.pod.Link("eth0").Attrs().Flags&net.FlagRunning != 0 {
			return
		}
	}
	f.t.Fatal("the pod's eth0 gets no carrier")
}

// settled waits until the node is as it was and the pod as it is to be, and says
// what is not so: namespaces end some time after they are told to. pod is empty
// where that is gone.
func (f *fragile) settled(pod string) (problem string) {
	f.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		problem = lab.Difference(f.nodeAlone, f.atNode())
		if pod != "" {
			problem += lab.Difference(pod, f.pod.Snapshot())
		}
		if pod == "" && f.node.Has("cable") {
			problem += "the pod's cable is still there"
		}
		if problem == "" || time.Now().After(deadline) {
			return problem
		}
	}
}

// vanishing is what somebody takes away while Add is at work.
type vanishing struct {
	what string
	take func(*fragile)
}

func drop(s *lab.Space, device string) {
	if s.Has(device) {
		s.Delete(device)
	}
}

var vanishings = []vanishing{
	{"the pod's eth0", func(f *fragile) { drop(f.pod.Space, "eth0") }},
	{"the tap's device in the pod", func(f *fragile) { drop(f.pod.Space, "mirror") }},
	{"the tap's device on the node", func(f *fragile) { drop(f.node.Space, hostName(ownerOf("c1"), "mirror")) }},
	{"the relay", func(f *fragile) {
		if name := f.relay(); name != "no relay" {
			f.node.Delete(name)
		}
	}},
	{"the pod's clsact", func(f *fragile) {
		if f.pod.Has("eth0") && strings.Contains(f.pod.Snapshot(), "qdisc clsact on "+fmt.Sprint(f.pod.Link("eth0").Attrs().Index)+" ") {
			f.pod.DeleteClsact("eth0")
		}
	}},
	{"the pod's namespace", func(f *fragile) { f.pod.Destroy() }},
}

// Add holds the namespace open while it works; all else may go before any of its
// steps. It ends, with a tap that is whole or with nothing of it; and what Remove
// leaves is what nobody took away.
func TestWhateverVanishesDuringAddNothingIsLeft(t *testing.T) {
	f := newFragile(t)
	for name, want := range f.everyTap(t) {
		if want.VXLAN != nil && want.VXLAN.Remote.Is6() {
			continue // the steps are those of IPv4
		}
		for _, v := range vanishings {
			t.Run(name+"/"+v.what, func(t *testing.T) {
				f := f.in(t)
				steps := 0
				for step := 1; f.vanishesAt(v, want, step); step++ {
					steps = step
				}
				if steps < 7 {
					t.Errorf("only %d steps were seen", steps)
				}
			})
		}
	}
}

// vanishesAt has something vanish before one step of Add; false if there are fewer.
func (f *fragile) vanishesAt(v vanishing, want tap.Tap, step int) bool {
	t, o := f.t, ownerOf("c1")
	t.Helper()
	if !f.pod.Has("eth0") {
		f.plug()
	}
	pod := f.pod.Snapshot()
	var node *Node
	f.node.Do(func() (err error) { node, err = OpenNode(); return err })
	closeNode := sync.OnceFunc(node.Close)
	defer closeNode()
	p, err := node.OpenPod(f.pod.Path())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if p != nil {
			p.Close()
		}
	}()
	n, at := 0, ""
	count := func(what string) error {
		if n++; n == step {
			at = what
			v.take(f)
		}
		return nil
	}
	node.before, p.before = count, count
	done := make(chan error, 1)
	go func() { _, err := p.Add(o, want, "default/pod"); done <- err }()
	select {
	case err = <-done:
	case <-time.After(20 * time.Second):
		t.Fatalf("before step %d (%s): Add hangs", step, at)
	}
	node.before, p.before = nil, nil
	problem := ""
	if err == nil && v.what != "the relay" { // it was made, and is for CHECK to miss
		if found, err := p.Check(o, []tap.Tap{want}); (err != nil || len(found) > 0) && at != "" {
			problem = fmt.Sprintf("Add succeeded, and Check says %q, %v\n", found, err)
		}
	} else if err != nil && strings.Contains(err.Error(), "undo:") {
		problem = fmt.Sprintf("Add could not undo what it did: %v\n", err)
	}
	return f.undone(v, node, closeNode, &p, pod, err, fmt.Sprintf("before step %d (%s)", step, at), problem) && at != ""
}

// undone removes what Add made and compares.
func (f *fragile) undone(v vanishing, node *Node, closeNode func(), p **Pod, pod string, added error, when, problem string) bool {
	t, o := f.t, ownerOf("c1")
	t.Helper()
	switch {
	case v.what == "the pod's namespace" && !strings.Contains(when, "()"):
		(*p).Close()
		*p = nil
		if err := node.Remove(o); err != nil {
			problem += fmt.Sprintf("Remove: %v\n", err)
		}
		closeNode() // its thread may be in the namespace still
		f.pod.Destroy()
		problem += f.settled("")
		f.make()
		f.plug()
	default:
		if !f.pod.Has("eth0") {
			pod = f.podAlone
		}
		if added != nil {
			if left := f.settled(pod); left != "" {
				problem += "the failed Add left\n" + left + "\n"
			}
		}
		if err := (*p).Remove(o); err != nil {
			problem += fmt.Sprintf("Remove: %v\n", err)
		}
		problem += f.settled(pod)
	}
	if locks := lab.Locks(t); len(locks) > 0 {
		problem += fmt.Sprintf("locks: %v", locks)
	}
	if problem != "" {
		t.Fatalf("%s, Add says: %v\n%s", when, added, problem)
	}
	return true
}

// atNode is the node without the pod's cable.
func (f *fragile) atNode() string {
	f.t.Helper()
	cable, err := f.node.Netlink.LinkByName("cable") // it may go any time
	snapshot := f.node.Snapshot()
	if err != nil {
		return snapshot
	}
	index := fmt.Sprintf(" on %d ", cable.Attrs().Index)
	return strings.Join(slices.DeleteFunc(strings.Split(snapshot, "\n"), func(line string) bool {
		return strings.HasPrefix(line, "device cable ") || strings.HasPrefix(line, "qdisc ") && strings.Contains(line, index)
	}), "\n")
}
