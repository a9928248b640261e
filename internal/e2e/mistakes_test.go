//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func testMistakes(t *testing.T) {
	ns := space(t)
	for name, c := range map[string]struct{ annotation, message string }{
		"mistaken":  {`{vxlan: {vnl: 100, remote: 198.18.0.12}}`, "vxlan.vnl"},
		"refused":   {`{vxlan: {vni: 100, remote: 198.51.100.1}}`, "is refused"},
		"too large": {`{vxlan: {vni: 17777216, remote: 198.18.0.12}}`, "vxlan.vni"},
		"filtered":  {`{filter: tcp port htp, vxlan: {vni: 100, remote: 198.18.0.12}}`, "tcp port »htp«"},
	} {
		name = strings.ReplaceAll(name, " ", "-")
		apply(t, pod{namespace: ns, name: name, annotation: c.annotation, command: []string{"sleep", "600"}}.manifest())
		event(t, ns, "Pod", name, "FailedCreatePodSandBox", c.message)
		reason := "TapFailed"
		if name == "refused" {
			reason = "TapRefused"
		}
		event(t, ns, "Pod", name, reason, c.message)
	}
	deployment := func(annotation string) string {
		p := pod{annotation: annotation, restart: "always", command: []string{"sleep", "600"}}
		return "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: app, namespace: " + ns + "}\nspec:\n  replicas: 2\n  selector: {matchLabels: {app: app}}\n" +
			"  template:\n    metadata:\n      labels: {app: app}\n" + p.annotations("      ") + "    spec:\n" + p.spec("      ")
	}
	apply(t, deployment(`{vxlan: {}}`))
	time.Sleep(2 * time.Second)
	if out := kubectl(t, "-n", ns, "get", "deployment", "app", "-o", "jsonpath={.status.readyReplicas}"); out != "" && out != "0" {
		t.Errorf("with a mistake %s replicas are ready", out)
	}
	apply(t, deployment(`{vxlan: {vni: 100, remote: 198.18.0.12}}`))
	kubectl(t, "-n", ns, "rollout", "status", "deployment/app", "--timeout=120s")
}

// settings replaces podtap's settings; the test's own come back after it.
func settings(t *testing.T, text string) {
	t.Helper()
	before := kubectl(t, "-n", system, "get", "configmap", "podtap", "-o", `jsonpath={.data.config\.yaml}`)
	set := func(text string) {
		t.Helper()
		kubectl(t, "-n", system, "patch", "configmap", "podtap", "--type=json", "-p", fmt.Sprintf(`[{"op":"replace","path":"/data/config.yaml","value":%q}]`, text))
	}
	set(text)
	t.Cleanup(func() { set(before); chainHas(t, `"vnis":["100-199"]`) })
}

// chainHas waits until the nodes' configuration has some words.
func chainHas(t *testing.T, words string) {
	t.Helper()
	for _, node := range nodes {
		// The kubelet refreshes mounted ConfigMaps each minute or so.
		eventually(t, 3*time.Minute, "the configuration of "+node+" has "+words, func() error {
			out, err := try("", "sh", node, "sh", "-c", "cat /etc/cni/net.d/*.conflist")
			if err == nil && !strings.Contains(out, words) {
				err = fmt.Errorf("it is %s", out)
			}
			return err
		})
	}
}

func testSettings(t *testing.T) {
	ns := space(t)
	before := kubectl(t, "-n", system, "get", "pods", "-l", "app.kubernetes.io/name=podtap", "-o", "jsonpath={.items[*].metadata.uid} {.items[*].status.containerStatuses[0].restartCount}")
	settings(t, "failurePolicy: Ignore\n")
	chainHas(t, `"failurePolicy":"Ignore"`)
	// What is refused starts without its tap now, and is told all the same.
	p := pod{namespace: ns, name: "lenient", annotation: `{vxlan: {vni: 100, remote: 198.18.0.12}}`, command: []string{"sleep", "600"}}.start(t)
	event(t, ns, "Pod", p.name, "TapRefused", "is refused")
	kubectl(t, "-n", system, "patch", "configmap", "podtap", "--type=json", "-p", `[{"op":"replace","path":"/data/config.yaml","value":"polices: {}\n"}]`)
	event(t, "default", "Node", "n1", "PodtapFailing", `"polices" is unknown`)
	chainHas(t, `"failurePolicy":"Ignore"`)
	if after := kubectl(t, "-n", system, "get", "pods", "-l", "app.kubernetes.io/name=podtap", "-o", "jsonpath={.items[*].metadata.uid} {.items[*].status.containerStatuses[0].restartCount}"); after != before {
		t.Errorf("podtapd's pods were %s, and are %s", before, after)
	}
}
