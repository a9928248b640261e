package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/internal/lab"
)

// nameless takes the node's namespace out of /run/netns, where the lab has it and
// real nodes rarely do. What holds it open keeps it.
func nameless(t *testing.T, node *lab.Space) {
	t.Helper()
	if err := errors.Join(unix.Unmount(node.Path(), unix.MNT_DETACH), os.Remove(node.Path())); err != nil {
		t.Fatal(err)
	}
}

// Two networks, each on two containers. libcni's GC deletes what it has in its
// cache by DEL before it calls the plugin's; a runtime that has lost its cache
// leaves all to the plugin.
func TestGCTakesOnlyWhatIsNoLongerValidOfItsNetwork(t *testing.T) {
	for _, cache := range []string{"with the cache", "without the cache"} {
		t.Run(cache, func(t *testing.T) {
			k := newCluster(t)
			nameless(t, k.node.Space)
			taps := func(network string) string {
				return fmt.Sprintf(`"taps":[{"device":"near-%s","veth":{}},{"device":"far-%s","vxlan":{"vni":100,"remote":"198.18.0.200"}}]`, network, network)
			}
			lists := map[string]string{"a": conflist(newest, "a", bridgeOf(t, 7), taps("a")), "b": conflist(newest, "b", bridgeOf(t, 8), taps("b"))}
			ifNames := map[string]string{"a": "eth0", "b": "eth1"}
			k.settle(lists["a"])
			k.settle(lists["b"])
			empty := snap(t, k.node.Space)
			sandboxes, pods := map[string]lab.Sandbox{}, map[string]*lab.Space{}
			for _, id := range []string{"one", "two"} {
				s, pod := k.sandbox(id, "")
				pods[id] = pod
				for _, network := range []string{"a", "b"} {
					s.IfName = ifNames[network]
					sandboxes[network+id] = s
					k.add(lists[network], s)
				}
			}
			has := func(where string, want bool, devices ...string) {
				t.Helper()
				for _, d := range devices {
					if got := pods[where].Has(d); got != want {
						t.Errorf("pod %s has %s: %t, want %t", where, d, got, want)
					}
				}
			}
			collector := k.runtime
			if cache == "without the cache" {
				collector = lab.NewRuntime(k.node.Space, binaries(t), t.TempDir())
			}
			gc := func(network string, valid ...string) {
				t.Helper()
				var list []lab.Sandbox
				for _, id := range valid {
					list = append(list, sandboxes[network+id])
				}
				if err := collector.GC(lists[network], list...); err != nil {
					t.Errorf("GC of %s: %v", network, err)
				}
			}

			before := snap(t, k.node.Space)
			gc("a", "one", "two")
			before.unchanged(t, k.node.Space)

			gc("a", "one")
			has("one", true, "near-a", "far-a", "near-b", "far-b")
			has("two", true, "near-b", "far-b")
			has("two", false, "near-a", "far-a")
			if n := snap(t, pods["two"]).count("filter on eth0"); n != 0 {
				t.Errorf("%d rules are left on the collected interface", n)
			}
			k.check(lists["a"], sandboxes["aone"])
			k.check(lists["b"], sandboxes["bone"])
			k.check(lists["b"], sandboxes["btwo"])

			// A pod whose namespace is gone, as after a crash.
			pods["two"].Destroy()
			gc("b", "one")
			k.check(lists["a"], sandboxes["aone"])
			k.check(lists["b"], sandboxes["bone"])
			if n := snap(t, k.node.Space).count(`alias "podtap/`, " two "); n != 0 {
				t.Errorf("%d devices of the gone pod are left", n)
			}

			for _, network := range []string{"a", "b"} {
				k.del(lists[network], sandboxes[network+"one"])
			}
			empty.unchanged(t, k.node.Space)
			noDeviceLeft(t, pods["one"])
		})
	}
}

func TestGCNeedsTheListOfValidAttachments(t *testing.T) {
	s := newScene(t)
	s.call("ADD", s.configured(everySink)).succeeds()
	untouched := s.untouched()
	for name, c := range map[string]conf{
		"missing": s.configured(everySink),
		"old key": s.configured(everySink).with(conf{"cni.dev/attachments": []any{}}),
		"no list": s.configured(everySink).with(conf{"cni.dev/valid-attachments": "none"}),
	} {
		t.Run(name, func(t *testing.T) {
			s := s.in(t)
			if got := s.call("GC", c); got.failed == nil {
				t.Error("GC succeeded without knowing what is valid")
			}
			untouched(t)
		})
	}
	nameless(t, s.node.Space)
	list := conf{"cni.dev/valid-attachments": []any{map[string]string{"containerID": "container1", "ifname": "eth1"}}}
	s.call("GC", s.configured(everySink).with(list, conf{"name": "other"})).silent()
	untouched(t)
	s.call("GC", s.configured(everySink).with(list)).silent()
	noDeviceLeft(t, s.pod.Space)
	noDeviceLeft(t, s.node.Space)
}

// CRI-O's ocicni has no list for a network without pods, which libcni writes as
// null: after a power cut all is stale, and all must go.
func TestGCWithNothingValidTakesAll(t *testing.T) {
	for name, list := range map[string]any{"an empty list": []any{}, "null": nil} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			nameless(t, s.node.Space)
			empty := s.untouched()
			s.call("ADD", s.configured(everySink)).succeeds()
			s.call("GC", s.chained(newest).with(conf{"cni.dev/valid-attachments": list})).silent()
			empty(t)
		})
	}
}

// Where somebody has named the node's own namespace too, as ip netns attach does,
// the pods' side must go all the same.
func TestGCIsNotMisledByANameOfTheNodesOwnNamespace(t *testing.T) {
	s := newScene(t)
	empty := s.untouched()
	s.call("ADD", s.configured(everySink)).succeeds()
	s.call("GC", s.chained(newest).with(conf{"cni.dev/valid-attachments": []any{}})).silent()
	empty(t)
}

func TestGCNeedsNoSoundConfiguration(t *testing.T) {
	s := newScene(t)
	nameless(t, s.node.Space)
	empty := s.untouched()
	s.call("ADD", s.configured(everySink)).succeeds()
	s.call("GC", s.configured(`[{"vxlan":{}}]`).with(conf{"cni.dev/valid-attachments": []any{}, "policy": 7,
		"failurePolicy": "Sometimes", "log": json.RawMessage(`{"level":7}`)})).silent()
	empty(t)
}

func TestStatusOfAHealthyNodeIsSilent(t *testing.T) {
	s := newScene(t)
	untouched := s.untouched()
	for name, c := range map[string]conf{
		"plain":          {"cniVersion": newest, "name": "net", "type": "podtap"},
		"no agent":       s.asking("/run/nowhere/agent.sock").without("prevResult"),
		"invalid policy": s.chained(newest).with(conf{"policy": 7}),
	} {
		t.Run(name, func(t *testing.T) {
			s := s.in(t)
			if got := s.call("STATUS", c).silent(); got.stderr != "" {
				t.Errorf("standard error has %q, want nothing", got.stderr)
			}
		})
	}
	untouched(t)
	k := lab.NewRuntime(s.node.Space, binaries(t), t.TempDir())
	if err := k.Status(conflist(newest, "net", bridgeOf(t, 7), "")); err != nil {
		t.Errorf("STATUS of a chain: %v", err)
	}
}

// A container may have two attachments to one network.
func TestGCTakesSeveralAttachmentsOfOneContainer(t *testing.T) {
	s := newScene(t)
	nameless(t, s.node.Space)
	empty := s.untouched()
	for i, name := range []string{"eth0", "net1"} {
		a := s.attachment()
		a.IfName = name
		s.callFor(a, "ADD", s.configured(fmt.Sprintf(`[{"device":"d%d","veth":{}}]`, i))).succeeds()
	}
	begin := time.Now()
	s.call("GC", s.chained(newest).with(conf{"cni.dev/valid-attachments": []any{}})).silent()
	if took := time.Since(begin); took > 10*time.Second {
		t.Errorf("GC took %v", took)
	}
	empty(t)
}
