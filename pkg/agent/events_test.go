package agent

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	api "github.com/podtap/podtap/api/agent"
)

func failureOf(id string, code uint, started bool) api.Failure {
	return api.Failure{Namespace: "default", Name: "pod-" + id, UID: "uid-" + id, ContainerID: id, Code: code, Message: "tap 1 is refused", Started: started}
}

// eventsOf are the events that an agent has written, once there are so many.
func eventsOf(t *testing.T, kube *Kube, n int) []corev1.Event {
	t.Helper()
	var list []corev1.Event
	eventually(t, "there are the events", func() bool {
		l, err := kube.Events.Events("").List(context.Background(), metav1.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		list = l.Items
		return len(list) >= n
	})
	return list
}

// settled are the events when no more are on their way: one that comes after them, of
// the node, is there.
func settled(t *testing.T, a *Agent, marker string) []corev1.Event {
	t.Helper()
	a.NodeEvent(corev1.EventTypeWarning, "Settled", marker)
	var list []corev1.Event
	eventually(t, "the last event is there", func() bool {
		list = eventsOf(t, a.Kube, 0)
		return slices.ContainsFunc(list, func(e corev1.Event) bool { return e.Message == marker })
	})
	return slices.DeleteFunc(list, func(e corev1.Event) bool { return e.Reason == "Settled" })
}

func TestWhatThePluginTellsBecomesAnEventOfThePod(t *testing.T) {
	for _, c := range []struct {
		code            uint
		started         bool
		reason, message string
	}{
		{100, false, "TapRefused", "tap 1 is refused"},
		{101, false, "TapFailed", "tap 1 is refused"},
		{100, true, "TapRefused", "the pod starts without a tap: tap 1 is refused"},
		{5, true, "TapFailed", "the pod starts without a tap: tap 1 is refused"},
	} {
		a := newAgent(t, func(conf *Config) { conf.Kube = kubeWith() })
		a.failed(failureOf("c1", c.code, c.started))
		list := settled(t, a, "done")
		if len(list) != 1 {
			t.Fatalf("events are %+v", list)
		}
		e := list[0]
		want := corev1.ObjectReference{Kind: "Pod", APIVersion: "v1", Namespace: "default", Name: "pod-c1", UID: "uid-c1"}
		if e.InvolvedObject != want || e.Namespace != "default" || e.Type != "Warning" || e.Reason != c.reason || e.Message != c.message ||
			e.Source.Component != "podtapd" || e.Source.Host != "worker1" {
			t.Errorf("code %d, started %t: event is %+v", c.code, c.started, e)
		}
	}
}

func TestAnEventOfTheNodeIsAboutThisNode(t *testing.T) {
	a := newAgent(t, func(c *Config) { c.Kube = kubeWith() })
	a.NodeEvent(corev1.EventTypeWarning, "Conflict", "somebody takes the entry out")
	e := eventsOf(t, a.Kube, 1)[0]
	if e.InvolvedObject.Kind != "Node" || e.InvolvedObject.Name != "worker1" || e.InvolvedObject.UID != "worker1" || e.Reason != "Conflict" ||
		e.Message != "somebody takes the entry out" || e.Source.Host != "worker1" || e.Namespace != "default" {
		t.Errorf("event is %+v", e)
	}
}

func TestAnEventsMessageIsCutWhereTheAPIServerWouldRefuseIt(t *testing.T) {
	a := newAgent(t, func(c *Config) { c.Kube = kubeWith() })
	f := failureOf("c1", 100, false)
	f.Message = strings.Repeat("ä", 2000)
	a.failed(f)
	e := eventsOf(t, a.Kube, 1)[0]
	if len(e.Message) > 1024 || len(e.Message) < 1000 || !utf8.ValidString(e.Message) || !strings.HasSuffix(e.Message, "…") {
		t.Errorf("the message has %d bytes: %q", len(e.Message), e.Message)
	}
}

func TestOfAContainerThatIsNoPodThereIsNoEvent(t *testing.T) {
	a := newAgent(t, func(c *Config) { c.Kube = kubeWith() })
	a.failed(api.Failure{ContainerID: "c1", Code: 100, Message: "no"})
	if list := settled(t, a, "done"); len(list) > 0 {
		t.Errorf("events are %+v", list)
	}
	if n := testutil.ToFloat64(a.metrics.errors.WithLabelValues("100")); n != 1 {
		t.Errorf("%v errors of code 100", n)
	}
}

func TestFailuresAreRememberedForAsLongAsTheirSandboxIs(t *testing.T) {
	var s failures
	now := time.Now()
	s.add(failureOf("there", 100, true), now)
	s.add(failureOf("there", 100, true), now)
	second := failureOf("there", 101, true)
	second.Message = "no eth7"
	s.add(second, now)
	s.add(failureOf("coming", 100, true), now)
	s.add(failureOf("gone", 100, true), now.Add(-time.Hour))
	s.forget(map[string]bool{"there": true}, now)
	for id, want := range map[string]string{"there": "tap 1 is refused; no eth7", "coming": "tap 1 is refused", "gone": ""} {
		if got := s.message(id); got != want {
			t.Errorf("of %s it is remembered that %q, want %q", id, got, want)
		}
	}
	s.forget(map[string]bool{"there": true}, now.Add(time.Hour))
	if s.message("coming") != "" || s.message("there") == "" {
		t.Error("an hour later not only the sandbox that is there is remembered")
	}
}

func TestFailuresAreBounded(t *testing.T) {
	var s failures
	now := time.Now()
	for i := range maxFailed + 10 {
		f := failureOf(strings.Repeat("x", i), 100, true)
		s.add(f, now.Add(time.Duration(i)))
		for n := range 40 {
			f.Message = strings.Repeat("m", 3000+n)
			s.add(f, now.Add(time.Duration(i)))
		}
		if len(s.of) > maxFailed {
			t.Fatalf("%d sandboxes are remembered", len(s.of))
		}
	}
	if s.of[""] != nil || len(s.message(strings.Repeat("x", maxFailed+9))) > 17*1024 {
		t.Error("the oldest is still there, or there is too much of the newest")
	}
}
