package drivers

import (
	"fmt"
	"testing"
	"time"

	"github.com/podtap/podtap/internal/lab"
)

func TestARestartOfTheRuntimeBetweenADDAndDELChangesNothing(t *testing.T) {
	both(t, func(t *testing.T, name string) {
		n := newNode(t, name, network{})
		p, space := n.sandbox("web", n.two())
		n.add(p)
		n.restart()
		if err := n.check(p); err != nil {
			t.Errorf("CHECK after the restart: %v", err)
		}
		n.pinged(space, n.copies)
		later, second := n.sandbox("later", n.far())
		n.add(later)
		n.pinged(second, n.copies)
		n.restart()
		n.remove(p)
		n.pinged(second, n.copies)
		n.remove(later)
		n.nothingIsLeft(space, second)
	})
}

// Plugins that run go on without the runtime, but nobody reads their result, and no
// plugin follows them. The next DEL knows of no ADD.
func TestARuntimeKilledDuringADDLeavesNothingBehindItsNextDEL(t *testing.T) {
	both(t, func(t *testing.T, name string) {
		n := newNode(t, name, network{})
		p, space := n.sandbox("whole", n.two())
		begin := time.Now()
		n.add(p)
		took := time.Since(begin)
		n.remove(p)
		n.nothingIsLeft(space)
		const moments = 10
		for i := range moments {
			p, space := n.sandbox(fmt.Sprintf("moment%d", i), n.two())
			n.runtime.begin(request{Verb: "add", Pod: p})
			time.Sleep(took * time.Duration(i+1) / moments)
			n.restart()
			n.remove(p)
			n.nothingIsLeft(space)
			space.Destroy()
		}
	})
}

// A reboot takes the kernel's part and /run along. What is on the disk stays: the
// configuration, libcni's cache, host-local's addresses.
func TestAfterARebootTheOldPodsAreDeleted(t *testing.T) {
	forget := map[string]func(*node, ...pod){
		"DEL with the old path": func(n *node, pods ...pod) {
			for _, p := range pods {
				n.remove(p)
			}
		},
		"DEL without a path": func(n *node, pods ...pod) {
			for _, p := range pods {
				p.NetNS = ""
				n.remove(p)
			}
		},
		"GC": func(n *node, _ ...pod) { n.gc() },
	}
	both(t, func(t *testing.T, name string) {
		for how, f := range forget {
			if how == "GC" && name != "CRI-O" {
				continue
			}
			t.Run(how, func(t *testing.T) {
				n := newNode(t, name, network{})
				one, first := n.sandbox("one", n.two())
				two, second := n.sandbox("two", "")
				n.add(one)
				n.add(two)
				n.runtime.kill()
				for _, s := range []*lab.Space{first, second, n.host.Space, n.collector.Space} {
					s.Destroy()
				}

				n.boot("rebooted-")
				n.idle = snap(t, n.host.Space)
				n.restart()
				f(n, one, two)
				n.nothingIsLeft()

				// The kubelet makes the pod anew, in another sandbox.
				again, third := n.sandbox("again", n.far())
				n.add(again)
				n.pinged(third, n.copies)
				n.remove(again)
				n.onlyLoopback(third)
				n.nothingIsRemembered()
			})
		}
	})
}
