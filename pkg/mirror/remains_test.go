package mirror

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/podtap/podtap/pkg/tap"
)

// wireText is a wire with addresses of both families.
const wireText = `wire: {addresses: [198.19.0.2/24, "fd00:19::2/64"], hostAddresses: [198.19.0.1/24, "fd00:19::1/64"]}`

// everyTap is a tap of each variant, and a wire.
func (s *scene) everyTap(t *testing.T) map[string]tap.Tap {
	t.Helper()
	out := map[string]tap.Tap{"wire": parse(t, "{%s}", wireText)}
	for _, v := range variants {
		out[v.name] = s.want(t, v.text, "direction: both")
	}
	return out
}

func TestRemoveLeavesPodAndNodeAsTheyWere(t *testing.T) {
	s := newScene(t, 1450, 1500)
	node, p := open(t, s.node, s.pod)
	o := ownerOf("c1")
	for name, want := range s.everyTap(t) {
		t.Run(name, func(t *testing.T) {
			before := track(t, s.node.Space, s.pod.Space)
			add(t, p, o, want)
			s.pod.Ping(s.peer.IPv4, 1)
			remove(t, p, o)
			before.unchanged("after Remove")
			remove(t, p, o)
			if err := node.Remove(o); err != nil {
				t.Errorf("Remove without a pod: %v", err)
			}
			before.unchanged("after Remove twice")
		})
	}
}

func TestAddTwiceIsAsAddOnce(t *testing.T) {
	s := newScene(t, 1450, 1500)
	_, p := open(t, s.node, s.pod)
	o := ownerOf("c1")
	for name, want := range s.everyTap(t) {
		t.Run(name, func(t *testing.T) {
			before := track(t, s.node.Space, s.pod.Space)
			for range 2 {
				present, err := p.Present(o)
				if err != nil {
					t.Fatal(err)
				}
				if present.Remains {
					remove(t, p, o)
				}
				add(t, p, o, want)
			}
			healthy(t, p, o, want)
			remove(t, p, o)
			before.unchanged("after Remove")
		})
	}
}

func TestNothingIsLeftOnTheNodeOfAPodThatIsGone(t *testing.T) {
	for name := range map[string]bool{"veth": true, "node-IPv4": true, "pod-IPv4": true, "wire": true} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, 1450, 1500)
			before := track(t, s.node.Space)
			node, p := open(t, s.node, s.pod)
			o := ownerOf("c1")
			add(t, p, o, s.everyTap(t)[name])
			p.Close()
			s.pod.Destroy()
			if err := node.Remove(o); err != nil {
				t.Fatal(err)
			}
			// The pod's own cable goes with the pod, whenever the kernel gets to it.
			if before, after := devices(before.before[0]), devices(s.node.Snapshot()); after != before {
				t.Errorf("devices of the node:\n%s\nbefore:\n%s", after, before)
			}
		})
	}
}

// devices are the names of the devices of a snapshot other than the pod's cable.
func devices(snapshot string) string {
	var out []string
	for _, l := range strings.Split(snapshot, "\n") {
		if strings.HasPrefix(l, "device ") && !strings.HasPrefix(l, "device pod1 ") {
			name, _, _ := strings.Cut(l, " mtu ")
			out = append(out, name)
		}
	}
	return strings.Join(out, "\n")
}

var errInjected = errors.New("injected")

// A failure is put before each change to the kernel in turn.
func TestAFailedAddIsUndoneAtEveryStep(t *testing.T) {
	s := newScene(t, 1450, 1500)
	node, p := open(t, s.node, s.pod)
	o := ownerOf("c1")
	for name, want := range s.everyTap(t) {
		t.Run(name, func(t *testing.T) {
			before := track(t, s.node.Space, s.pod.Space)
			for step := 1; ; step++ {
				n, at := 0, ""
				inject := func(what string) error {
					if n++; n == step {
						at = what
						return errInjected
					}
					return nil
				}
				node.before, p.before = inject, inject
				_, err := p.Add(o, want, "default/pod")
				node.before, p.before = nil, nil
				if err == nil {
					if step < 8 {
						t.Errorf("only %d steps were seen", step-1)
					}
					break
				}
				if !errors.Is(err, errInjected) || !strings.Contains(err.Error(), at) || step > 100 {
					t.Fatalf("step %d: %v; want the failure of %q", step, err, at)
				}
				before.unchanged(fmt.Sprintf("after a failure of step %d (%s)", step, at))
			}
			remove(t, p, o)
			before.unchanged("after Remove")
		})
	}
}

// healthy fails where Check has something to say.
func healthy(t *testing.T, p *Pod, o Owner, taps ...tap.Tap) {
	t.Helper()
	for what, check := range map[string]func() ([]string, error){
		"Check":      func() ([]string, error) { return p.Check(o, taps) },
		"CheckOwned": func() ([]string, error) { return p.CheckOwned(o) },
	} {
		if problems, err := check(); err != nil || len(problems) > 0 {
			t.Errorf("%s of healthy taps: %q, %v", what, problems, err)
		}
	}
}
