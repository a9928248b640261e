//go:build e2e

package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

func testStartupTaint(t *testing.T) {
	kubectl(t, "taint", "node", "n2", "podtap.io/not-ready=:NoSchedule")
	t.Cleanup(func() { _, _ = try("", "kubectl", "taint", "node", "n2", "podtap.io/not-ready-") })
	must(t, "kubectl", "apply", "-k", filepath.Join(root, "internal", "e2e", "testdata", "taint"))
	ready(t, patience)
	eventually(t, patience, "the taint is gone", func() error {
		out, err := try("", "kubectl", "get", "node", "n2", "-o", "jsonpath={.spec.taints[*].key}")
		if err == nil && strings.Contains(out, "podtap.io/not-ready") {
			err = fmt.Errorf("the taints are %s", out)
		}
		return err
	})
	as := bearer(t, kubectl(t, "-n", system, "create", "token", "podtap", "--bound-object-kind=Pod", "--bound-object-name="+podtapd(t, "n1")))
	for what, args := range map[string][]string{
		"cordon its node":       {"patch", "node", "n1", "-p", `{"spec":{"unschedulable":true}}`},
		"label its node":        {"patch", "node", "n1", "-p", `{"metadata":{"labels":{"a":"b"}}}`},
		"taint its node":        {"patch", "node", "n1", "-p", `{"spec":{"taints":[{"key":"other","effect":"NoSchedule"}]}}`},
		"label another node":    {"patch", "node", "n2", "-p", `{"metadata":{"labels":{"a":"b"}}}`},
		"untaint another node":  {"patch", "node", "n2", "-p", `{"spec":{"taints":null}}`},
		"annotate another node": {"patch", "node", "n2", "-p", `{"metadata":{"annotations":{"a":"b"}}}`},
	} {
		if what == "untaint another node" {
			kubectl(t, "taint", "node", "n2", "podtap.io/not-ready=:NoSchedule")
		}
		if out, err := as("", args...); err == nil || !strings.Contains(strings.ToLower(out), "forbidden") {
			t.Errorf("podtapd may %s: %v %s", what, err, out)
		}
	}
	_, _ = try("", "kubectl", "taint", "node", "n2", "podtap.io/not-ready-")
	for _, kind := range []string{"validatingadmissionpolicybinding", "validatingadmissionpolicy"} {
		kubectl(t, "delete", kind, "podtap-nodes")
	}
	must(t, "kubectl", "apply", "-k", filepath.Join(root, "internal", "e2e", "testdata", "overlay"))
	ready(t, patience)
}
