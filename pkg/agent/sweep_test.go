package agent

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/podtap/podtap/pkg/cri"
	"github.com/podtap/podtap/pkg/mirror"
)

// sweep lets an agent sweep the scene's node.
func (s *scene) sweep(a *Agent) error {
	s.t.Helper()
	var err error
	s.node.Do(func() error {
		err = a.sweep(s.t.Context())
		return nil
	})
	return err
}

// has says whether the node has a tap's end.
func (s *scene) has(m []mirror.Made) bool { return s.node.Has(m[0].Host.Name) }

func TestASweepTakesTheTapsOfPodsThatAreGone(t *testing.T) {
	s := newScene(t)
	before := s.pod.Snapshot()
	gone := s.tap(s.pod, "gone", "default/gone", "[{veth: {}}, {device: far, vxlan: {vni: 1, remote: 198.18.0.9}}]")
	living := s.tap(s.next, "living", "default/living", "{device: near, veth: {}}")
	stopped := s.tap(s.next, "stopped", "default/stopped", "{device: stop, veth: {}}")
	for _, m := range gone {
		s.age(s.pod, m, 10*time.Minute)
	}
	s.age(s.next, living[0], 10*time.Minute)
	s.age(s.next, stopped[0], 10*time.Minute)
	r := &runtimeStandIn{sandboxes: []cri.Sandbox{sandbox("living", ""), {ID: "stopped"}}}
	a := newAgent(t, func(c *Config) { c.Runtime = r })
	if err := s.sweep(a); err != nil {
		t.Fatal(err)
	}
	if s.has(gone) || s.node.Has(gone[1].Host.Name) || s.pod.Snapshot() != before {
		t.Errorf("of the pod that is gone there is still something:\n%s", s.pod.Snapshot())
	}
	if !s.has(living) || !s.has(stopped) {
		t.Error("a tap of a sandbox that the runtime has is gone")
	}
	if n := testutil.ToFloat64(a.metrics.swept); n != 1 {
		t.Errorf("%v attachments count as swept", n)
	}
}

// What is not certain to be dead stays.
func TestASweepLeavesWhatMayBeAlive(t *testing.T) {
	long := strings.Repeat("l", 65) // hashed in aliases
	for _, c := range []struct {
		what, id, pod string
		age           time.Duration
		runtime       *runtimeStandIn
	}{
		{"its ADD may be at work", "c1", "default/web", 4 * time.Minute, &runtimeStandIn{sandboxes: []cri.Sandbox{sandbox("other", "")}}},
		{"it is no pod of Kubernetes'", "c1", "", time.Hour, &runtimeStandIn{sandboxes: []cri.Sandbox{sandbox("other", "")}}},
		{"the runtime does not answer", "c1", "default/web", time.Hour, &runtimeStandIn{err: errors.New("it hangs")}},
		{"the runtime has no pods at all", "c1", "default/web", time.Hour, &runtimeStandIn{}},
		{"the runtime has no running pod", "c1", "default/web", time.Hour, &runtimeStandIn{sandboxes: []cri.Sandbox{{ID: "other"}}}},
		{"there is no runtime", "c1", "default/web", time.Hour, nil},
		{"its ID is long", long, "default/web", time.Hour, &runtimeStandIn{sandboxes: []cri.Sandbox{sandbox(long, "")}}},
		{"it is from the future", "c1", "default/web", -time.Hour, &runtimeStandIn{sandboxes: []cri.Sandbox{sandbox("other", "")}}},
	} {
		t.Run(c.what, func(t *testing.T) {
			s := newScene(t)
			made := s.tap(s.pod, c.id, c.pod, "veth: {}")
			s.age(s.pod, made[0], c.age)
			a := newAgent(t, func(conf *Config) {
				if c.runtime != nil {
					conf.Runtime = c.runtime
				}
			})
			for range 3 {
				_ = s.sweep(a)
			}
			if !s.has(made) || !s.pod.Has("mirror") {
				t.Error("it was swept")
			}
		})
	}
}

// What nobody judges goes all the same: here a relay without users.
func TestWithoutARuntimeRelaysWithoutUsersAreSwept(t *testing.T) {
	s := newScene(t)
	before := s.node.Snapshot()
	made := s.tap(s.pod, "c1", "default/web", "vxlan: {vni: 1, remote: 198.18.0.9}")
	s.node.Delete(made[0].Host.Name)
	a := newAgent(t, func(c *Config) { c.Runtime = &runtimeStandIn{err: errors.New("it hangs")} })
	if err := s.sweep(a); err == nil || !strings.Contains(err.Error(), "it hangs") {
		t.Errorf("error is %v, want the runtime's", err)
	}
	if after := s.node.Snapshot(); after != before {
		t.Errorf("the node is not as it was:\n%s", after)
	}
}

func TestWhatHasNoAgeGoesOnlyAfterItWasSeenForLong(t *testing.T) {
	for what, age := range map[string]time.Duration{"an older podtap's": 0, "the future's": -time.Hour} {
		t.Run(what, func(t *testing.T) {
			s := newScene(t)
			made := s.tap(s.pod, "c1", "default/web", "veth: {}")
			s.age(s.pod, made[0], age)
			r := &runtimeStandIn{sandboxes: []cri.Sandbox{sandbox("other", "")}}
			a := newAgent(t, func(c *Config) { c.Runtime = r })
			swept := func(want bool, when string) {
				t.Helper()
				if err := s.sweep(a); err != nil {
					t.Fatal(err)
				}
				if s.has(made) == want {
					t.Fatalf("%s: swept is %t", when, !want)
				}
			}
			later := func() {
				for o, since := range a.suspects.since {
					a.suspects.since[o] = since.Add(-6 * time.Minute)
				}
			}
			swept(false, "at first")
			later()
			r.set(sandbox("other", ""), sandbox("c1", ""))
			swept(false, "when its sandbox is there")
			r.set(sandbox("other", ""))
			swept(false, "when it is gone again")
			swept(false, "a moment later")
			later()
			swept(true, "when it was gone for six minutes")
		})
	}
}

// The context's end stops a sweep from judging.
func TestASweepThatIsOverJudgesNobody(t *testing.T) {
	s := newScene(t)
	made := s.tap(s.pod, "c1", "default/web", "veth: {}")
	s.age(s.pod, made[0], time.Hour)
	a := newAgent(t, func(c *Config) { c.Runtime = &runtimeStandIn{sandboxes: []cri.Sandbox{sandbox("other", "")}} })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.node.Do(func() error { return a.sweep(ctx) })
	if !s.has(made) {
		t.Error("it was swept")
	}
}
