package lab

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

func TestMain(m *testing.M) { Main(m.Run, false) }

// Whatever the environment says, the machine's own /run must not be mounted over.
func TestPrepareRefusesTheNamespacesThatTheProgramCameFrom(t *testing.T) {
	here, err := namespaces()
	if err != nil {
		t.Fatal(err)
	}
	network, mounts, _ := strings.Cut(here, " ")
	for _, from := range []string{"", "1", here, network + " mnt:[1]", "net:[1] " + mounts} {
		t.Setenv(outside, from)
		if err := Prepare(); err == nil || !strings.Contains(err.Error(), "not in namespaces of its own") {
			t.Errorf("from %q: %v", from, err)
		}
	}
}

func TestVersionsOfTheKernelAreComparedByNumbers(t *testing.T) {
	for version, want := range map[[2]int]bool{{6, 2}: true, {6, 18}: true, {6, 19}: false, {6, 20}: false, {5, 99}: true, {7, 0}: false, {10, 1}: false} {
		if got := atLeast("6.18.0-38-amd64", version[0], version[1]); got != want {
			t.Errorf("6.18 is at least %v: %v", version, got)
		}
	}
	if !KernelHas(3, 10) || KernelHas(99, 0) {
		t.Error("this kernel is older than 3.10, or newer than 99")
	}
}

func TestASpaceEndsWithItsTest(t *testing.T) {
	path := ""
	t.Run("inner", func(t *testing.T) {
		s := NewSpace(t, "short-lived")
		path = s.Path()
		if _, err := os.Stat(path); err != nil {
			t.Fatal(err)
		}
	})
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", path, err)
	}
}

func TestNoThreadStaysInANewSpace(t *testing.T) {
	for i := range 50 {
		NewSpace(t, fmt.Sprintf("new%d", i)).Destroy()
	}
	AllThreadsAtHome(t)
}

func TestASnapshotSeesAChangeAndItsUndoing(t *testing.T) {
	a, b := NewSpace(t, "a"), NewSpace(t, "b")
	Cable(a, "eth0", b, "eth0", 1500)
	Settle(t, a, b)
	before := a.Snapshot()
	a.MTU("eth0", 1400)
	if d := Difference(before, a.Snapshot()); !strings.Contains(d, "+ device eth0 veth mtu 1400") || !strings.Contains(d, "- device eth0 veth mtu 1500") {
		t.Errorf("a changed MTU: %q", d)
	}
	a.MTU("eth0", 1500)
	if d := Difference(before, a.Snapshot()); d != "" {
		t.Errorf("changed back: %q", d)
	}
}
