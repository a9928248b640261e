package drivers

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/podtap/podtap/internal/lab"
)

// snapshot is all that podtap could have made or changed in a namespace, a line each.
type snapshot []string

func snap(t *testing.T, s *lab.Space) snapshot {
	t.Helper()
	return s.Lasting()
}

// having are the lines that have a phrase.
func (s snapshot) having(phrase string) []string {
	return slices.DeleteFunc(slices.Clone(s), func(line string) bool { return !strings.Contains(line, phrase) })
}

// relays are the devices of the node that send copies to collectors.
func (n *node) relays() []string {
	n.t.Helper()
	return snap(n.t, n.host.Space).having(" vxlan ")
}

// nothingIsLeft insists that no pod has left anything on the node: no device, rule or
// lock, no address and no memory of libcni's; and no device in namespaces that are
// still there.
func (n *node) nothingIsLeft(spaces ...*lab.Space) {
	n.t.Helper()
	n.kernelIsIdle(0)
	for _, s := range spaces {
		n.onlyLoopback(s)
	}
	n.nothingIsRemembered()
}

// nothingIsLeftSoon is that after pods' namespaces have gone: the kernel takes devices
// along later.
func (n *node) nothingIsLeftSoon() {
	n.t.Helper()
	n.kernelIsIdle(patience)
	n.nothingIsRemembered()
}

func (n *node) nothingIsRemembered() {
	n.t.Helper()
	for _, path := range n.leased() {
		n.t.Errorf("the address %s is not free", path)
	}
	for _, path := range n.cached() {
		n.t.Errorf("libcni's cache still has %s", path)
	}
}

// kernelIsIdle insists that the node's kernel has what it had before any pod, within a time.
func (n *node) kernelIsIdle(within time.Duration) {
	n.t.Helper()
	for end := time.Now().Add(within); ; time.Sleep(10 * time.Millisecond) {
		d := lab.Difference(strings.Join(n.idle, "\n"), strings.Join(snap(n.t, n.host.Space), "\n"))
		if d == "" {
			break
		}
		if !time.Now().Before(end) {
			n.t.Errorf("the node is not as it was:\n%s", d)
			break
		}
	}
	for _, path := range lab.Locks(n.t) {
		n.t.Errorf("the lock %s is left", path)
	}
}

// onlyLoopback insists that a namespace has no other device.
func (n *node) onlyLoopback(s *lab.Space) {
	n.t.Helper()
	for _, line := range snap(n.t, s).having("device ") {
		if !strings.HasPrefix(line, "device lo ") {
			n.t.Errorf("%s still has %s", s.Name, line)
		}
	}
}
