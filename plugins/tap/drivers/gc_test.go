package drivers

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// gc is what CRI-O does when it starts. go-cni has no GC: on nodes with containerd it is
// podtapd that sweeps.
func (n *node) gc(valid ...pod) {
	n.t.Helper()
	if _, err := n.runtime.do(request{Verb: "gc", Valid: valid}); err != nil {
		n.t.Errorf("GC: %v", err)
	}
}

func TestGCTakesThePodsThatCRIODoesNotKnow(t *testing.T) {
	// Before 1.1.0 there is no verb GC, but libcni deletes what it remembers.
	for _, version := range []string{"1.0.0", "1.1.0"} {
		for _, gone := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, namespace gone %t", version, gone), func(t *testing.T) {
				n := newNode(t, "CRI-O", network{version: version})
				valid, first := n.sandbox("valid", n.two())
				stale, second := n.sandbox("stale", n.alone())
				n.add(valid)
				n.add(stale)
				n.gc(valid, stale)
				if relays := n.relays(); len(relays) != 2 {
					t.Errorf("a GC for which both pods are valid leaves the relays %q", relays)
				}
				if gone {
					second.Destroy()
				}
				n.restart()
				n.gc(valid)
				if !gone {
					n.onlyLoopback(second)
				}
				for _, path := range append(n.cached(), n.leased()...) {
					if text, err := os.ReadFile(path); err != nil || strings.Contains(string(text), stale.ID) {
						t.Errorf("the stale pod is still in %s: %v", path, err)
					}
				}
				if relays := n.relays(); len(relays) != 1 {
					t.Errorf("the relays are %q, want the valid pod's", relays)
				}
				n.pinged(first, n.copies)
				if err := n.check(valid); err != nil {
					t.Errorf("CHECK of the valid pod: %v", err)
				}
				n.remove(valid)
				n.kernelIsIdle(patience)
				n.nothingIsRemembered()
			})
		}
	}
}

func TestGCWithoutAnyValidPodTakesAll(t *testing.T) {
	n := newNode(t, "CRI-O", network{})
	p, space := n.sandbox("web", n.two())
	n.add(p)
	n.restart()
	n.gc()
	n.nothingIsLeft(space)
}

// What CRI-O's GC does, podtapd's sweep has to do where go-cni has none.
func TestTheSweepTakesThePodsThatContainerdDoesNotDelete(t *testing.T) {
	for _, gone := range []bool{false, true} {
		t.Run(fmt.Sprintf("namespace gone %t", gone), func(t *testing.T) {
			n := newNode(t, "containerd", network{})
			valid, first := n.sandbox("valid", n.two())
			stale, second := n.sandbox("stale", n.alone())
			n.add(valid)
			n.add(stale)
			n.restart()
			if gone {
				second.Destroy()
				n.eventually("the node's ends go with the namespace", func() bool {
					return len(snap(t, n.host.Space).having("pod=default/stale")) == 0
				})
			}
			n.sweep(tapsOf(stale))
			if !gone {
				n.untouched(second)
			}
			if relays := n.relays(); len(relays) != 1 {
				t.Errorf("the relays are %q, want the valid pod's", relays)
			}
			n.pinged(first, n.copies)
			if err := n.check(valid); err != nil {
				t.Errorf("CHECK of the valid pod: %v", err)
			}
		})
	}
}

// A cache that is lost leaves it to the plugins' own GC. Bridge has none.
func TestGCWithoutLibcnisCacheTakesTheTaps(t *testing.T) {
	n := newNode(t, "CRI-O", network{})
	valid, first := n.sandbox("valid", n.two())
	stale, second := n.sandbox("stale", n.two())
	n.add(valid)
	n.add(stale)
	if err := os.RemoveAll(filepath.Join(cache, "results")); err != nil {
		t.Fatal(err)
	}
	n.restart()
	n.gc(valid)
	n.untouched(second)
	n.pinged(first, n.copies)
	n.gc()
	n.untouched(first)
	if relays := n.relays(); len(relays) != 0 {
		t.Errorf("the relays %q are left", relays)
	}
}
