package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/podtap/podtap/api/node"
	"github.com/podtap/podtap/cmd/kubectl-podtap/cluster/apitest"
	"github.com/podtap/podtap/cmd/kubectl-podtap/doctor"
)

func TestDoctorFindsNothingWrongWithACleanCluster(t *testing.T) {
	s := apitest.New(t)
	s.AddNode("worker1", apitest.Podtapd(node.Taps{}, ready("worker1")))
	got := ask(t, s, "doctor")
	const want = `NODE STATE PODTAPD PLUGIN KERNEL RUNTIME CHAIN
worker1 Ready v1 abababababab 6.12.0 containerd 2.1.0 ptp,podtap

No problems found.
`
	if got.err != nil || cells(got.out) != want || got.notes != "" {
		t.Errorf("%v\n%s%s\nwant\n%s", got.err, cells(got.out), got.notes, want)
	}
	var d diagnosis
	if err := json.Unmarshal([]byte(ask(t, s, "doctor -o json").out), &d); err != nil || len(d.Nodes) != 1 || d.Nodes[0].Report.Podtapd != "v1" || d.Findings == nil || len(d.Findings) != 0 {
		t.Errorf("%v: %+v", err, d)
	}
}

func TestDoctorTellsWhatWhereAndWhatToDo(t *testing.T) {
	s := twoNodes(t)
	s.AddNode("worker3", nil).Status.Phase = corev1.PodPending
	s.AddNode("worker4", nil)
	s.Pods = s.Pods[:3] // worker4 has no podtapd
	got := ask(t, s, "doctor")
	var code exitCode
	if !errors.As(got.err, &code) || code != 1 || got.notes != "" {
		t.Errorf("%v, %s", got.err, got.notes)
	}
	const want = `NODE STATE PODTAPD PLUGIN KERNEL RUNTIME CHAIN
worker1 Ready v1 abababababab 6.12.0 containerd 2.1.0 ptp,podtap
worker2 Ready v1 abababababab 6.12.0 containerd 2.1.0 ptp,podtap
worker3 NoAnswer - - 6.12.0 containerd 2.1.0 -
worker4 NoPodtapd - - 6.12.0 containerd 2.1.0 -

4 problems, 2 warnings

problem: PodtapdSilent, node worker3
podtapd does not run: Pending
Do: see ` + "`kubectl -n podtap-system describe pod podtap-worker3`" + `.

problem: PodtapdMissing, node worker4
`
	// The runtime's name and version are one cell.
	if !strings.HasPrefix(cells(got.out), want) {
		t.Errorf("%s\nwant\n%s", cells(got.out), want)
	}
	if last := "warning: SenderLosesCopies, node worker2\n  the sender podtap3 to 198.18.0.8:4789/7, of 1 tap, lost 5 copies (down)\n  Do: on the node, `ip link set dev podtap3 up`, and find who set it down.\n"; !strings.HasSuffix(got.out, last) {
		t.Errorf("%s\nends otherwise than\n%s", got.out, last)
	}
	if !strings.Contains(got.out, "problem: PodNotTapped, pod default/bad, node worker2\n  TapFailed: vni: too large\n") {
		t.Error(got.out)
	}
}

func TestWarningsAloneAreNoFailure(t *testing.T) {
	s := apitest.New(t)
	old := ready("worker1")
	old.Runtime.Version = "1.4.0"
	s.AddNode("worker1", apitest.Podtapd(node.Taps{}, old))
	if got := ask(t, s, "doctor"); got.err != nil || !strings.Contains(got.out, "0 problems, 1 warning\n") {
		t.Errorf("%+v", got)
	}
	if got := ask(t, s, "doctor -o json"); got.err != nil || !strings.Contains(got.out, `"check": "RuntimeOld"`) {
		t.Errorf("%+v", got)
	}
	s.Forbidden = []string{"nodes"}
	if got := ask(t, s, "doctor"); got.err != nil || !strings.Contains(got.out, "info: NodesUnknown\n  nodes without podtapd are not found: nodes is forbidden") || !strings.Contains(got.out, "worker1") {
		t.Errorf("%+v", got)
	}
	s.Forbidden = []string{"portforward"}
	if got := ask(t, s, "doctor"); got.err == nil || got.out != "" || !strings.Contains(got.err.Error(), "`create` on `pods/portforward`") {
		t.Errorf("%+v", got)
	}
}

func TestDoctorOfAClusterWithoutPodtap(t *testing.T) {
	s := apitest.New(t)
	s.AddNode("worker1", nil)
	s.Pods = nil
	got := ask(t, s, "doctor")
	var code exitCode
	if !errors.As(got.err, &code) || !strings.Contains(got.out, "NotInstalled") || !strings.Contains(got.out, "NoPodtapd") || !strings.Contains(got.out, "kubectl apply -k") {
		t.Errorf("%+v", got)
	}
}

func TestOfManyFindingsAlikeAFewAreShown(t *testing.T) {
	var found []doctor.Finding
	for i := range 33 {
		found = append(found, doctor.Finding{Severity: doctor.Problem, Check: "PodNotTapped", Pod: fmt.Sprint("d/p", i), Message: "m", Fix: "f"})
	}
	found = append(found, doctor.Finding{Severity: doctor.Warning, Check: "Last", Message: "m", Fix: "f", Nodes: []string{"1", "2", "3", "4", "5", "6", "7"}})
	text := findings(found)
	if strings.Count(text, "PodNotTapped, pod") != 20 || strings.Count(text, "... and 13 more of PodNotTapped; `kubectl podtap doctor -o json` has all.\n") != 1 ||
		!strings.HasPrefix(text, "33 problems, 1 warning\n") || !strings.Contains(text, "warning: Last, nodes 1, 2, 3, 4, 5 and 2 more\n") {
		t.Error(text)
	}
}
