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

// sweepLater sweeps twice, with so much time between.
func (s *scene) sweepLater(a *Agent, later time.Duration) error {
	s.t.Helper()
	err := s.sweep(a)
	a.later(later)
	return errors.Join(err, s.sweep(a))
}

// later lets time pass for those who are missing.
func (a *Agent) later(by time.Duration) {
	for o, since := range a.suspects.since {
		a.suspects.since[o] = since.Add(-by)
	}
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
		s.age(s.pod, m, 11*time.Minute)
	}
	s.age(s.next, living[0], 11*time.Minute)
	s.age(s.next, stopped[0], 11*time.Minute)
	r := &runtimeStandIn{sandboxes: []cri.Sandbox{sandbox("living", ""), {ID: "stopped"}}}
	a := newAgent(t, func(c *Config) { c.Runtime = r })
	if err := s.sweepLater(a, 11*time.Minute); err != nil {
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
		{"its ADD may be at work", "c1", "default/web", 9 * time.Minute, &runtimeStandIn{sandboxes: []cri.Sandbox{sandbox("other", "")}}},
		{"it is no pod of Kubernetes'", "c1", "", time.Hour, &runtimeStandIn{sandboxes: []cri.Sandbox{sandbox("other", "")}}},
		{"the runtime does not answer", "c1", "default/web", time.Hour, &runtimeStandIn{err: errors.New("it hangs")}},
		{"the runtime has no pods at all", "c1", "default/web", time.Hour, &runtimeStandIn{}},
		{"the runtime has no running pod", "c1", "default/web", time.Hour, &runtimeStandIn{sandboxes: []cri.Sandbox{{ID: "other"}}}},
		{"there is no runtime", "c1", "default/web", time.Hour, nil},
		{"its ID is long", long, "default/web", time.Hour, &runtimeStandIn{sandboxes: []cri.Sandbox{sandbox(long, "")}}},
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
				a.later(time.Hour)
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

// The clock may have been set, and a list of the runtime's may lack a pod.
func TestATapGoesOnlyAfterItsPodWasMissingForLong(t *testing.T) {
	for what, age := range map[string]time.Duration{"an older podtap's": 0, "the future's": -time.Hour, "long made": time.Hour} {
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
			swept(false, "at first")
			a.later(11 * time.Minute)
			r.set(sandbox("other", ""), sandbox("c1", ""))
			swept(false, "when its sandbox is there")
			r.set(sandbox("other", ""))
			swept(false, "when it is gone again")
			a.later(9 * time.Minute)
			swept(false, "when it was gone for nine minutes")
			a.later(2 * time.Minute)
			swept(true, "when it was gone for eleven minutes")
		})
	}
}

// Between two lists that lack a pod there may have been many that nobody has seen.
func TestWhereTheRuntimeWasSilentTheTimeBeginsAnew(t *testing.T) {
	s := newScene(t)
	made := s.tap(s.pod, "c1", "default/web", "veth: {}")
	s.age(s.pod, made[0], time.Hour)
	r := &runtimeStandIn{sandboxes: []cri.Sandbox{sandbox("other", "")}}
	a := newAgent(t, func(c *Config) { c.Runtime = r })
	_ = s.sweep(a)
	r.fail(errors.New("it hangs"))
	_ = s.sweepLater(a, time.Hour)
	r.fail(nil)
	if err := s.sweep(a); err != nil || !s.has(made) {
		t.Errorf("after one list there is the tap: %t, error %v", s.has(made), err)
	}
	if err := s.sweepLater(a, time.Hour); err != nil || s.has(made) {
		t.Errorf("after an hour there is the tap: %t, error %v", s.has(made), err)
	}
}

func TestOnlyTheRuntimeThatHasPodtapdItselfIsBelieved(t *testing.T) {
	s := newScene(t)
	made := s.tap(s.pod, "c1", "default/web", "veth: {}")
	s.age(s.pod, made[0], time.Hour)
	r := &runtimeStandIn{sandboxes: []cri.Sandbox{sandbox("other", "")}}
	a := newAgent(t, func(c *Config) { c.Runtime, c.PodUID = r, "uid-podtapd" })
	if err := s.sweepLater(a, time.Hour); err == nil || !strings.Contains(err.Error(), "podtapd's own pod") || !s.has(made) {
		t.Errorf("there is the tap: %t, error %v", s.has(made), err)
	}
	r.set(sandbox("other", ""), sandbox("podtapd", ""))
	if err := s.sweepLater(a, time.Hour); err != nil || s.has(made) {
		t.Errorf("with podtapd's pod there is the tap: %t, error %v", s.has(made), err)
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
	for range 2 {
		s.node.Do(func() error { return a.sweep(ctx) })
		a.later(time.Hour)
	}
	if !s.has(made) {
		t.Error("it was swept")
	}
}
