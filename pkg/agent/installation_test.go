package agent

import (
	"slices"
	"testing"

	"github.com/podtap/podtap/api/node"
)

func TestTheInstallationsTroubleIsToldOnceEachTimeItBegins(t *testing.T) {
	a := newAgent(t, func(c *Config) { c.Kube = kubeWith() })
	for _, s := range []node.Install{
		{State: node.StateStarting}, {State: node.StateReady, File: "10-pods.conflist"},
		{State: node.StateConflict, Message: "waits"}, {State: node.StateConflict, Message: "chained again, and waits"},
		{State: node.StateReady, File: "10-pods.conflist"}, {State: node.StateReady, File: "10-pods.conflist"},
		{State: node.StateFailing, Message: "read-only"}, {State: node.StateNoNetwork}, {State: node.StateUnsupported, Message: "too old"},
	} {
		a.InstallChanged(s)
	}
	var got []string
	for _, e := range settled(t, a, "the end") {
		got = append(got, e.Type+" "+e.Reason+" "+e.Message)
	}
	slices.Sort(got)
	want := []string{
		"Normal PodtapReady podtap is chained in 10-pods.conflist: pods that start from now on are tapped if they ask for it",
		"Warning PodtapConflict waits", "Warning PodtapFailing read-only", "Warning PodtapUnsupported too old",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the events are %q, want %q", got, want)
	}
}
