package drivers

import (
	"testing"

	"github.com/podtap/podtap/internal/lab"
)

// TestDELLeavesNothing has other pods of the same collector live on.
func TestDELLeavesNothing(t *testing.T) {
	cases := map[string]struct {
		before func(p *pod, space *lab.Space)
		// alive: the namespace is there, and the path to it is known.
		alive bool
	}{
		"the namespace is there":          {before: func(*pod, *lab.Space) {}, alive: true},
		"the namespace is gone":           {before: func(_ *pod, s *lab.Space) { s.Destroy() }},
		"the namespace is gone, no path":  {before: func(p *pod, s *lab.Space) { s.Destroy(); p.NetNS = "" }},
		"the namespace is there, no path": {before: func(p *pod, _ *lab.Space) { p.NetNS = "" }},
	}
	both(t, func(t *testing.T, name string) {
		for what, c := range cases {
			t.Run(what, func(t *testing.T) {
				n := newNode(t, name, network{})
				other, stays := n.sandbox("other", n.far())
				p, space := n.sandbox("web", n.alone())
				n.add(other)
				n.add(p)
				if relays := n.relays(); len(relays) != 2 {
					t.Errorf("the relays are %q, want the pod's own and one that both pods use", relays)
				}
				c.before(&p, space)
				for range 2 {
					n.remove(p)
					if c.alive {
						n.onlyLoopback(space)
					}
					// Of podtap there is nothing on the node any more but the other's.
					if marked := snap(t, n.host.Space).having(" " + p.ID); len(marked) != 0 {
						t.Errorf("the node has %q", marked)
					}
					if relays := n.relays(); len(relays) != 1 {
						t.Errorf("the relays are %q, want the other pod's", relays)
					}
					n.pinged(stays, n.copies)
				}
				space.Destroy()
				n.remove(other)
				n.nothingIsLeftSoon()
			})
		}
	})
}
