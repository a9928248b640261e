package mirror

import (
	"fmt"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/tap"
)

func TestMain(m *testing.M) { lab.Main(m.Run, false) }

// scene is a node with pods, another node, and a collector on the underlay.
type scene struct {
	network   *lab.Network
	node      *lab.Host
	other     *lab.Host
	collector *lab.Host
	pod       *lab.Pod
	peer      *lab.Pod // on the other node
}

// newScene builds a scene whose pods have an MTU, over an underlay with one.
func newScene(t *testing.T, podMTU, underlayMTU int) *scene {
	t.Helper()
	n := lab.NewNetwork(t, "", underlayMTU)
	s := &scene{network: n, node: n.Host("node"), other: n.Host("other"), collector: n.Host("collector")}
	s.node.Reach(s.other)
	s.other.Reach(s.node)
	s.collector.Reach(s.node)
	s.collector.Reach(s.other)
	s.pod = s.node.Pod("pod", podMTU)
	s.peer = s.other.Pod("peer", podMTU)
	lab.Settle(t, s.node.Space, s.other.Space, s.collector.Space, s.pod.Space, s.peer.Space)
	return s
}

// open opens a host's and a pod's namespaces for the package under test.
func open(t *testing.T, host *lab.Host, pod *lab.Pod) (*Node, *Pod) {
	t.Helper()
	var node *Node
	host.Do(func() error {
		var err error
		node, err = OpenNode()
		return err
	})
	t.Cleanup(node.Close)
	return node, openPod(t, node, pod)
}

// openPod opens another pod's namespace beside.
func openPod(t *testing.T, node *Node, pod *lab.Pod) *Pod {
	t.Helper()
	p, err := node.OpenPod(pod.Path())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func ownerOf(container string) Owner {
	return Owner{Source: SourceCNI, Network: "net", ContainerID: container, IfName: "eth0"}
}

// parse reads a tap as a user writes it, and completes it.
func parse(t *testing.T, format string, args ...any) tap.Tap {
	t.Helper()
	taps, err := tap.Parse(fmt.Appendf(nil, format, args...))
	if err == nil {
		err = tap.Complete(taps, "eth0", func(string) bool { return false })
	}
	if err != nil {
		t.Fatal(err)
	}
	return taps[0]
}

func add(t *testing.T, p *Pod, o Owner, want tap.Tap) Made {
	t.Helper()
	made, err := p.Add(o, want, "default/"+o.ContainerID)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func remove(t *testing.T, p *Pod, o Owner) {
	t.Helper()
	if err := p.Remove(o); err != nil {
		t.Fatal(err)
	}
}

// tracked remembers what namespaces have, and fails where they have not the same
// again, or where a lock is held.
type tracked struct {
	t      *testing.T
	spaces []*lab.Space
	before []string
}

func track(t *testing.T, spaces ...*lab.Space) *tracked {
	t.Helper()
	k := &tracked{t: t, spaces: spaces}
	for _, s := range spaces {
		k.before = append(k.before, s.Snapshot())
	}
	return k
}

func (k *tracked) unchanged(when string) {
	k.t.Helper()
	for i, s := range k.spaces {
		if d := lab.Difference(k.before[i], s.Snapshot()); d != "" {
			k.t.Errorf("%s, %s has changed:\n%s", when, s.Name, d)
		}
	}
	if locks := lab.Locks(k.t); len(locks) > 0 {
		k.t.Errorf("%s, locks are left: %v", when, locks)
	}
}

// asLink is a device of the lab's as this package sees it.
func asLink(l netlink.Link) *link {
	a := l.Attrs()
	return &link{index: a.Index, name: a.Name, alias: a.Alias, kind: l.Type(), group: a.Group, address: a.HardwareAddr}
}
