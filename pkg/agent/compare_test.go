package agent

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/podtap/podtap/api/node"
	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/cri"
	"github.com/podtap/podtap/pkg/tap"
)

// comparing is an agent of the scene's node.
func (s *scene) comparing(r *runtimeStandIn, change func(*Config)) *Agent {
	s.t.Helper()
	return newAgent(s.t, func(c *Config) {
		c.Runtime, c.Kube, c.Inventory = r, kubeWith(), s.inventory
		if change != nil {
			change(c)
		}
	})
}

// compared is what two comparisons find, a line each.
func compared(t *testing.T, a *Agent) string {
	t.Helper()
	_ = a.compare(t.Context())
	return comparedOnce(t, a)
}

func comparedOnce(t *testing.T, a *Agent) string {
	t.Helper()
	if err := a.compare(t.Context()); err != nil {
		t.Errorf("comparison: %v", err)
	}
	var lines []string
	for _, p := range a.compared.untapped() {
		lines = append(lines, fmt.Sprintf("%s/%s %s %s: %s", p.Namespace, p.Name, p.UID, p.Reason, p.Message))
	}
	return strings.Join(lines, "\n")
}

// want fails where a comparison does not begin with what it should, "" for nothing.
func want(t *testing.T, got, begins string, has ...string) {
	t.Helper()
	if !strings.HasPrefix(got, begins) || begins == "" && got != "" {
		t.Errorf("the comparison finds %q, want %q", got, begins)
	}
	for _, phrase := range has {
		if !strings.Contains(got, phrase) {
			t.Errorf("the comparison finds %q, want %q in it", got, phrase)
		}
	}
}

const twoTaps = "[{veth: {}}, {device: far, vxlan: {vni: 1, remote: 198.18.0.9}}]"

func TestAPodThatHasItsTapsIsNotListed(t *testing.T) {
	s := newScene(t)
	long := strings.Repeat("l", 65)
	s.tap(s.pod, "c1", "default/pod-c1", twoTaps)
	s.tap(s.next, long, "default/pod-l", "veth: {}")
	a := s.comparing(&runtimeStandIn{sandboxes: []cri.Sandbox{sandbox("c1", twoTaps), sandbox(long, "veth: {}"),
		sandbox("none", ""), sandbox("empty", "[]"), sandbox("blank", " \n")}}, nil)
	want(t, compared(t, a), "")
	if list := settled(t, a, "done"); len(list) > 0 {
		t.Errorf("events are %+v", list)
	}
}

func TestATapThatThePodDeletesIsRemoved(t *testing.T) {
	s := newScene(t)
	s.tap(s.pod, "c1", "default/pod-c1", twoTaps)
	a := s.comparing(&runtimeStandIn{sandboxes: []cri.Sandbox{sandbox("c1", twoTaps)}}, nil)
	want(t, compared(t, a), "")
	s.pod.Delete("far")
	for range 3 {
		want(t, compared(t, a), "default/pod-c1 uid-c1 TapRemoved: ", `"far"`, "recreate the pod")
	}
	s.pod.Delete("mirror")
	want(t, compared(t, a), "default/pod-c1 uid-c1 TapRemoved: ", `["mirror" "far"]`)
	list := settled(t, a, "done")
	if len(list) != 2 || list[0].Reason != "TapRemoved" || list[0].InvolvedObject.Name != "pod-c1" || list[0].Count+list[1].Count != 2 {
		t.Errorf("events are %+v, want one for each of what was missing", list)
	}
}

// A pod that ends has no taps for a moment, and is still listed.
func TestAPodIsToldOfOnlyIfItLacksTheSameTapsAgain(t *testing.T) {
	s := newScene(t)
	s.tap(s.pod, "c1", "default/pod-c1", twoTaps)
	r := &runtimeStandIn{sandboxes: []cri.Sandbox{sandbox("c1", twoTaps), sandbox("wrong", "veth: {")}, host: map[string]bool{"c1": false, "wrong": false, "host": true}}
	a := s.comparing(r, nil)
	want(t, comparedOnce(t, a), "")
	r.set(sandbox("c1", twoTaps), sandbox("host", "veth: {}"))
	s.pod.Delete("far")
	want(t, comparedOnce(t, a), "default/pod-host uid-host HostNetwork: ")
	r.set(sandbox("c1", twoTaps))
	want(t, comparedOnce(t, a), "default/pod-c1 uid-c1 TapRemoved: ", `its tap "far"`)
	s.pod.Delete("mirror")
	want(t, comparedOnce(t, a), "default/pod-c1 uid-c1 TapRemoved: ", `its tap "far"`)
	want(t, comparedOnce(t, a), "default/pod-c1 uid-c1 TapRemoved: ", `["mirror" "far"]`)
	if list := settled(t, a, "done"); len(list) != 3 {
		t.Errorf("events are %+v", list)
	}
}

// Another podtapd saw it there; what is left are rules of a device that is gone.
func TestATapWhoseRulesAreLeftWasRemoved(t *testing.T) {
	s := newScene(t)
	s.tap(s.pod, "c1", "default/pod-c1", twoTaps)
	s.pod.Delete("far")
	a := s.comparing(&runtimeStandIn{sandboxes: []cri.Sandbox{sandbox("c1", twoTaps)}}, nil)
	want(t, compared(t, a), "default/pod-c1 uid-c1 TapRemoved: ", `"far"`)
}

func TestWhyAPodHasNoTapsIsTold(t *testing.T) {
	hour := func(hours int) func() time.Time {
		return func() time.Time { return time.Now().Add(-time.Duration(hours) * time.Hour) }
	}
	for _, c := range []struct {
		what, annotation string
		change           func(*Config, *runtimeStandIn)
		told             bool
		begins           string
		has              []string
	}{
		{"on the node's network", "veth: {}", func(_ *Config, r *runtimeStandIn) { r.host = map[string]bool{"c1": true} }, true,
			"default/pod-c1 uid-c1 HostNetwork: ", []string{"the node's own network"}},
		{"older than the chain", "veth: {}", func(c *Config, _ *runtimeStandIn) { c.ChainedSince = hour(0) }, false,
			"default/pod-c1 uid-c1 NotChained: ", []string{`"mirror"`, "recreate the pod"}},
		{"podtap was never chained", "veth: {}", func(c *Config, _ *runtimeStandIn) { c.ChainedSince = func() time.Time { return time.Time{} } }, false,
			"default/pod-c1 uid-c1 NotChained: ", nil},
		{"the plugin has told", "veth: {}", nil, true, "default/pod-c1 uid-c1 TapFailed: ", []string{"tap 1 is refused"}},
		{"nobody knows", "veth: {}", nil, false, "default/pod-c1 uid-c1 TapMissing: ", []string{`"mirror"`}},
		{"several of them", twoTaps, nil, false, "default/pod-c1 uid-c1 TapMissing: ", []string{`["mirror" "far"]`}},
		{"a mistake that the plugin has told of", "veth: {", nil, true, "default/pod-c1 uid-c1 TapFailed: ", []string{"tap 1 is refused"}},
		{"a mistake", "veth: {", nil, false, "default/pod-c1 uid-c1 TapMissing: ", []string{"podtap.io/taps", "not valid YAML"}},
		{"taps that cannot be together", "[{device: a, veth: {}}, {device: a, veth: {}}]", nil, false, "default/pod-c1 uid-c1 TapMissing: ", []string{"podtap.io/taps", `"a"`}},
		{"a mistake, older than the chain", "veth: {", func(c *Config, _ *runtimeStandIn) { c.ChainedSince = hour(0) }, false, "default/pod-c1 uid-c1 NotChained: ", nil},
		{"gone meanwhile", "veth: {}", func(_ *Config, r *runtimeStandIn) { r.host = map[string]bool{} }, false, "", nil},
	} {
		t.Run(c.what, func(t *testing.T) {
			r := &runtimeStandIn{sandboxes: []cri.Sandbox{sandbox("c1", c.annotation)}}
			a := newAgent(t, func(conf *Config) {
				conf.Runtime, conf.Kube = r, kubeWith()
				if c.change != nil {
					c.change(conf, r)
				}
			})
			if c.told {
				a.failures.add(failureOf("c1", 100, true), time.Now())
			}
			got := compared(t, a)
			want(t, got, c.begins, c.has...)
			want(t, compared(t, a), c.begins)
			list := settled(t, a, "done")
			if c.begins == "" {
				if len(list) > 0 {
					t.Errorf("events are %+v", list)
				}
				return
			}
			reason := strings.TrimSuffix(strings.Fields(c.begins)[2], ":")
			if len(list) != 1 || list[0].Reason != reason || list[0].Count != 1 || list[0].InvolvedObject.UID != "uid-c1" || !strings.Contains(got, list[0].Message) {
				t.Errorf("events are %+v, want one of %s", list, reason)
			}
		})
	}
}

func TestTheRuntimeIsAskedOnceForASandboxesNetwork(t *testing.T) {
	r := &runtimeStandIn{sandboxes: []cri.Sandbox{sandbox("c1", "veth: {}"), sandbox("plain", "")}}
	a := newAgent(t, func(c *Config) { c.Runtime = r })
	for range 3 {
		_ = compared(t, a)
	}
	if r.asked != 1 {
		t.Errorf("it was asked %d times", r.asked)
	}
}

func TestSandboxesThatAreYoungOrNotReadyAreLeft(t *testing.T) {
	young, stopped := sandbox("young", "veth: {}"), sandbox("stopped", "veth: {}")
	young.Created, stopped.Ready = time.Now().Add(-10*time.Second), false
	r := &runtimeStandIn{sandboxes: []cri.Sandbox{young, stopped}}
	a := newAgent(t, func(c *Config) { c.Runtime = r })
	want(t, compared(t, a), "")
	young.Created = time.Now().Add(-20 * time.Second)
	r.set(young, stopped)
	want(t, compared(t, a), "default/pod-young")
}

func TestAPodThatHasItsTapsAgainOrIsGoneIsForgotten(t *testing.T) {
	s := newScene(t)
	r := &runtimeStandIn{sandboxes: []cri.Sandbox{sandbox("c1", "veth: {}")}}
	a := s.comparing(r, nil)
	want(t, compared(t, a), "default/pod-c1")
	s.tap(s.pod, "c1", "default/pod-c1", "veth: {}")
	want(t, compared(t, a), "")
	r.set()
	want(t, compared(t, a), "")
	if c := &a.compared; len(c.seen)+len(c.host)+len(c.told)+len(c.lacks) > 0 {
		t.Errorf("of pods that are gone there is still %v %v %v %v", c.seen, c.host, c.told, c.lacks)
	}
}

func TestWhereTheTapsCannotBeReadNoPodIsAccused(t *testing.T) {
	r := &runtimeStandIn{sandboxes: []cri.Sandbox{sandbox("c1", "{device: far, vxlan: {vni: 1, remote: 198.18.0.9, placement: pod}}"), sandbox("c2", "veth: {}")}}
	taps := node.Taps{}
	a := newAgent(t, func(c *Config) {
		c.Runtime = r
		c.Inventory = func() (node.Taps, error) { return taps, errors.New("not permitted") }
	})
	one := node.Taps{Taps: []node.Tap{{ContainerID: "c2", Device: "mirror", Sink: tap.SinkVeth, Direction: tap.Both}}}
	for _, taps = range []node.Taps{{}, {}, one, one} {
		if err := a.compare(t.Context()); err == nil || !strings.Contains(err.Error(), "not permitted") {
			t.Errorf("error is %v", err)
		}
		if p := a.compared.untapped(); len(p) > 0 {
			t.Errorf("it accuses %+v", p)
		}
	}
	hangs := errors.New("it hangs")
	r.fail(hangs)
	if err := a.compare(t.Context()); !errors.Is(err, hangs) {
		t.Errorf("error is %v", err)
	}
}

// A pod with NET_ADMIN may write into its devices whatever it likes.
func TestADeviceThatAPodHasMarkedItselfIsNoTapOfAnotherKind(t *testing.T) {
	s := newScene(t)
	made := s.tap(s.pod, "c1", "default/pod-c1", "veth: {}")
	alias := s.pod.Link("mirror").Attrs()
	text, group := alias.Alias, int(alias.Group)
	s.node.Delete(made[0].Host.Name)
	lab.Cable(s.pod.Space, "mirror", s.pod.Space, "peer", 1500)
	l := s.pod.Link("mirror")
	if err := errors.Join(s.pod.Netlink.LinkSetAlias(l, text), s.pod.Netlink.LinkSetGroup(l, group)); err != nil {
		t.Fatal(err)
	}
	a := s.comparing(&runtimeStandIn{sandboxes: []cri.Sandbox{sandbox("c1", "veth: {}")}}, nil)
	want(t, compared(t, a), "default/pod-c1")
}

// A node where podtap was just installed: all of its pods are older.
func TestEachOfManyPodsGetsItsEvent(t *testing.T) {
	const many = 500
	r := &runtimeStandIn{}
	for i := range many {
		r.sandboxes = append(r.sandboxes, sandbox(fmt.Sprint("c", i), "veth: {}"))
	}
	a := newAgent(t, func(c *Config) { c.Runtime, c.Kube = r, kubeWith() })
	_ = compared(t, a)
	if list := settled(t, a, "done"); len(list) != many {
		t.Errorf("there are %d events of %d pods", len(list), many)
	}
}
