package drivers

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/podtap/podtap/internal/lab"
)

// Between a pod's ADD and its DEL an administrator changes the network. CRI-O deletes
// by the configuration that the pod was added with, containerd by today's.
func TestDELComesToAGoodEndAfterTheConfigurationChanged(t *testing.T) {
	cases := map[string]struct {
		from, to network
		// plain: the pods' authors ask for nothing.
		plain bool
		// unasked: by today's configuration, DEL does not come to podtap, or not to
		// this network of it.
		unasked bool
	}{
		"podtap was taken out": {to: network{bare: true}, unasked: true},
		"other taps":           {to: network{taps: `[{"device":"other","veth":{}}]`}},
		"no taps":              {from: network{taps: `[{"vxlan":{"vni":100,"remote":"198.18.0.2"}}]`}, plain: true},
		"podtap was put in":    {from: network{bare: true}},
		"a newer version":      {from: network{version: "1.0.0"}},
		"an older version":     {to: network{version: "0.3.1"}},
		"another name":         {to: network{name: "others"}, unasked: true},
	}
	both(t, func(t *testing.T, name string) {
		for what, c := range cases {
			t.Run(what, func(t *testing.T) {
				n := newNode(t, name, c.from)
				taps := n.two()
				if c.plain {
					taps = ""
				}
				soon, first := n.sandbox("soon", taps)
				late, second := n.sandbox("late", taps)
				n.add(soon)
				n.add(late)
				n.reconfigure(c.to)
				for i, space := range []*lab.Space{first, second} {
					if c.from.bare {
						n.untouched(space)
					} else {
						n.pinged(space, n.copies)
					}
					n.remove([]pod{soon, late}[i])
					n.restart()
				}
				if name == "CRI-O" || !c.unasked {
					n.nothingIsLeft(first, second)
					return
				}
				// containerd ends the namespaces next, and podtapd sweeps the relay. An
				// address of a network with another name is host-local's to free.
				first.Destroy()
				second.Destroy()
				n.eventually("the node's ends of the taps go with the namespaces", func() bool {
					return len(snap(t, n.host.Space).having("pod=default/")) == 0
				})
				n.sweep(tapsOf())
				n.kernelIsIdle(patience)
			})
		}
	})
}

// goes takes the configuration away.
func (n *node) goes() {
	n.t.Helper()
	if err := os.Remove(filepath.Join(n.confDir, listName)); err != nil {
		n.t.Fatal(err)
	}
}

func TestDELByCRIONeedsNoConfiguration(t *testing.T) {
	n := newNode(t, "CRI-O", network{})
	p, space := n.sandbox("web", n.two())
	n.add(p)
	n.goes()
	n.eventually("CRI-O has no network", func() bool { return n.status() != nil })
	n.remove(p)
	n.nothingIsLeft(space)
}

// go-cni without a configuration calls no plugin, and says so. containerd keeps the
// sandbox then, and deletes it later.
func TestDELByContainerdWaitsForAConfiguration(t *testing.T) {
	n := newNode(t, "containerd", network{})
	p, space := n.sandbox("web", n.two())
	n.add(p)
	n.goes()
	n.restart()
	if _, err := n.runtime.do(request{Verb: "remove", Pod: p}); err == nil {
		t.Error("without a configuration DEL succeeds")
	}
	n.pinged(space, n.copies)
	n.configure(network{})
	n.load()
	n.remove(p)
	n.nothingIsLeft(space)
}
