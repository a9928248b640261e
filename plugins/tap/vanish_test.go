package main

import (
	"errors"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/internal/lab"
)

// A runtime that gives up on a pod takes its namespace away, while ADD may be at
// work there. ADD holds the namespace open and finishes, or it comes too late and
// says so; the DEL that follows finds no namespace.
func TestAnAddWhoseNamespaceIsTakenAwayIsUndoneByDel(t *testing.T) {
	const rounds = 40
	s := &scene{t: t, node: lab.NewNetwork(t, "", 1500).Host("node"), collector: "198.18.0.200", collector6: "fd00:18::200"}
	nameless(t, s.node.Space)
	t.Cleanup(func() { locksFree(t) })
	s.node.Sysctl("ipv6", "default", "disable_ipv6", "1")
	before := snap(t, s.node.Space)
	random := rand.New(rand.NewPCG(2, 2))
	made, late := 0, 0
	for round := range rounds {
		space := lab.NewSpace(t, "vanishing")
		s.pod = &lab.Pod{Space: space, IPv4: "198.18.101.2", IPv6: "fd00:18:1::2", Host: s.node}
		lab.Cable(s.node.Space, "vanish0", space, "eth0", 1450)
		a, c := s.attachment(), s.configured(everySink)
		p, err := s.start(a, "ADD", c)
		if err != nil {
			t.Fatal(err)
		}
		// Half of them in the first tenth, where ADD opens the namespace.
		pause := time.Duration(random.Int64N(int64(spread)))
		if round%2 == 0 {
			pause /= 10
		}
		added := make(chan error, 1)
		go func() {
			time.Sleep(spread / 20)
			added <- p.finish()
		}()
		time.Sleep(pause)
		if err := unix.Unmount(a.NetNS, unix.MNT_DETACH); err != nil {
			t.Fatal(err)
		}
		// The path is there still, and is none of a namespace.
		time.Sleep(time.Duration(random.Int64N(int64(spread / 20))))
		if err := os.Remove(a.NetNS); err != nil {
			t.Fatal(err)
		}
		space.Destroy()

		err = <-added
		var failed *types.Error
		switch {
		case err == nil:
			made++
		case errors.As(err, &failed) && failed.Code == types.ErrInvalidNetNS:
			late++
		default:
			t.Errorf("round %d, the namespace taken away after %v: %v", round, pause, err)
		}
		if err := s.run(a, "DEL", c); err != nil {
			t.Errorf("round %d, the namespace taken away after %v: %v", round, pause, err)
		}
		noDeviceLeft(t, s.node.Space)
		locksFree(t)
		// The kernel ends the namespace, and the pod's own cable, some time later.
		problem := left(t, s.node.Space, before)
		for deadline := time.Now().Add(patience); problem != "" && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			problem = left(t, s.node.Space, before)
		}
		if problem != "" {
			t.Fatalf("round %d, the namespace taken away after %v: DEL left\n%s", round, pause, problem)
		}
	}
	if made == 0 || late == 0 {
		t.Errorf("of %d ADDs %d finished and %d came too late, so one of the two was not tried", rounds, made, late)
	}
	t.Logf("of %d ADDs %d finished and %d came too late", rounds, made, late)
}

// left says in what a namespace differs from what it was; "" where it does not.
func left(t *testing.T, s *lab.Space, before snapshot) string {
	t.Helper()
	if changes := lab.Changes(before, snap(t, s)); len(changes) > 0 {
		return s.Name + ":\n\t" + strings.Join(changes, "\n\t") + "\n"
	}
	return ""
}
