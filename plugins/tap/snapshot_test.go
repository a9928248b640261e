package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/podtap/podtap/internal/lab"
)

// snapshot is all that podtap could have made or changed in a namespace, a line
// each.
type snapshot []string

func snap(t *testing.T, s *lab.Space) snapshot {
	t.Helper()
	return s.Lasting()
}

// unchanged fails where a namespace is not as it was.
func (before snapshot) unchanged(t *testing.T, s *lab.Space) {
	t.Helper()
	if d := lab.Difference(strings.Join(before, "\n"), strings.Join(snap(t, s), "\n")); d != "" {
		t.Errorf("%s is not as it was:\n%s", s.Name, d)
	}
}

// count is how many lines have all phrases.
func (before snapshot) count(phrases ...string) int {
	n := 0
	for _, line := range before {
		if !slices.ContainsFunc(phrases, func(p string) bool { return !strings.Contains(line, p) }) {
			n++
		}
	}
	return n
}

// untouched takes snapshots of the node and the pod, and returns what compares
// them with what is there then.
func (s *scene) untouched() (check func(*testing.T)) {
	s.t.Helper()
	node, pod := snap(s.t, s.node.Space), snap(s.t, s.pod.Space)
	return func(t *testing.T) {
		t.Helper()
		node.unchanged(t, s.node.Space)
		pod.unchanged(t, s.pod.Space)
		locksFree(t)
	}
}

// devicesOfPodtap are the lines of what bears podtap's mark.
func devicesOfPodtap(t *testing.T, s *lab.Space) []string {
	t.Helper()
	return slices.DeleteFunc(snap(t, s), func(line string) bool {
		return !strings.Contains(line, `alias "podtap/`) && !strings.Contains(line, fmt.Sprintf("group %d", 0x70746170))
	})
}

// noDeviceLeft fails where a device of podtap's is left.
func noDeviceLeft(t *testing.T, s *lab.Space) {
	t.Helper()
	for _, line := range devicesOfPodtap(t, s) {
		t.Errorf("%s still has %s", s.Name, line)
	}
}

// locksFree fails where a lock is left.
func locksFree(t *testing.T) {
	t.Helper()
	for _, path := range lab.Locks(t) {
		t.Errorf("the lock %s is left", path)
	}
}

// parseResult reads a result of any version.
func parseResult(t *testing.T, text string) *current.Result {
	t.Helper()
	v, err := (&version.ConfigDecoder{}).Decode([]byte(text))
	if err != nil {
		t.Fatalf("result %q: %v", text, err)
	}
	parsed, err := version.NewResult(v, []byte(text))
	if err != nil {
		t.Fatalf("result %q: %v", text, err)
	}
	result, err := current.NewResultFromResult(parsed)
	if err != nil {
		t.Fatalf("result %q: %v", text, err)
	}
	return result
}
