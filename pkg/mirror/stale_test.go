package mirror

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/podtap/podtap/internal/lab"
)

// /run/netns has what others put there.
func TestRemoveStaleGoesPastWhatIsNoNamespace(t *testing.T) {
	s := newScene(t, 1450, 1500)
	node, p := open(t, s.node, s.pod)
	before := track(t, s.node.Space, s.pod.Space)
	add(t, p, ownerOf("c1"), s.want(t, variants[0].text, "direction: both"))
	file, link := filepath.Join(namedSpaces, "0file"), filepath.Join(namedSpaces, "0link")
	t.Cleanup(func() { _ = errors.Join(os.Remove(file), os.Remove(link)) })
	if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Symlink("/nowhere", link)); err != nil {
		t.Fatal(err)
	}
	if err := node.RemoveStale("net", nil); err != nil {
		t.Error(err)
	}
	before.unchanged("after RemoveStale")
}

// The lab names the node's namespace too, and before the pod's. Taken for a pod's
// it would lose the veth, and with it what tells of the rules in the pod.
func TestRemoveStaleVisitsPodsBeforeTheNode(t *testing.T) {
	s := newScene(t, 1450, 1500)
	node, p := open(t, s.node, s.pod)
	before := track(t, s.node.Space, s.pod.Space)
	add(t, p, ownerOf("c1"), s.want(t, variants[0].text, "direction: both"))
	if err := node.RemoveStale("net", []Owner{ownerOf("c1")}); err != nil {
		t.Error(err)
	}
	healthy(t, p, ownerOf("c1"), s.want(t, variants[0].text, "direction: both"))
	if err := node.RemoveStale("net", nil); err != nil {
		t.Error(err)
	}
	before.unchanged("after RemoveStale")
}

// A runtime may keep its namespaces elsewhere than in /run/netns.
func TestRemoveStaleTakesTheNodesSideOfAPodThatHasNoName(t *testing.T) {
	s := newScene(t, 1450, 1500)
	node, p := open(t, s.node, s.pod) // which keeps the namespace
	made := add(t, p, ownerOf("c1"), s.want(t, variants[1].text, "direction: both"))
	other := Owner{Source: SourceCNI, Network: "other", ContainerID: "c1", IfName: "eth0"}
	kept := add(t, p, other, parse(t, "{device: kept, veth: {}}"))
	s.pod.Destroy()
	if err := node.RemoveStale("net", nil); err != nil {
		t.Error(err)
	}
	if s.node.Has(made.Host.Name) || s.relay() != "no relay" {
		t.Error("the node's side is still there")
	}
	if !s.node.Has(kept.Host.Name) {
		t.Error("another network's tap is gone")
	}
}

func TestRemoveStaleSweepsRelays(t *testing.T) {
	s := newScene(t, 1450, 1500)
	node, _ := open(t, s.node, s.pod)
	before := track(t, s.node.Space)
	if _, err := node.makeRelay("podtap0", collector{address(t, "198.18.0.9"), 1, 4789, 64}); err != nil {
		t.Fatal(err)
	}
	if err := node.RemoveStale("net", nil); err != nil {
		t.Error(err)
	}
	before.unchanged("after RemoveStale")
}

// A pod can write as many owners into aliases as it likes.
func TestRemoveStaleTakesABoundedNumberFromOnePod(t *testing.T) {
	s := newScene(t, 1450, 1500)
	node, _ := open(t, s.node, s.pod)
	const more = 5
	for i := range maxStale + more {
		lab.Cable(s.pod.Space, fmt.Sprintf("f%d", i), s.pod.Space, fmt.Sprintf("g%d", i), 1500)
		claim(t, s.pod.Space, fmt.Sprintf("f%d", i), mark{Owner: ownerOf(fmt.Sprint(i)), Device: "mirror", Interface: "eth0"}.alias())
	}
	for _, want := range []int{more, 0} {
		if err := node.RemoveStale("net", nil); err != nil {
			t.Fatal(err)
		}
		links, err := s.pod.Netlink.LinkList()
		if err != nil {
			t.Fatal(err)
		}
		left := len(slices.DeleteFunc(links, func(l netlink.Link) bool { return l.Attrs().Group != deviceGroup }))
		if left != want {
			t.Errorf("%d stale devices are left; want %d", left, want)
		}
	}
}
