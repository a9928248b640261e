//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// comers is how many pods come and go in each case.
const comers = 50

// churn lets pods come and go, tapped and talking, while something happens, and
// insists that each starts and that not a copy is missing.
func churn(t *testing.T, vni int, tapped bool, during func(over <-chan struct{})) {
	t.Helper()
	ns := space(t)
	to := server(t, ns, "n2").ip(t)
	at := collect(t, apart, vni)
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		during(over)
	}()
	p := pod{annotation: fmt.Sprintf("{vxlan: {vni: %d, remote: %s}}", vni, apartAddress), command: udpTo(to, 5)}
	if !tapped {
		p.annotation = ""
	}
	apply(t, fmt.Sprintf("apiVersion: batch/v1\nkind: Job\nmetadata: {name: work, namespace: %s}\nspec:\n  completions: %d\n  parallelism: 10\n  backoffLimit: 0\n  template:\n    metadata:\n      labels: {app: work}\n%s    spec:\n%s",
		ns, comers, p.annotations("      "), p.spec("      ")))
	_, err := try("", "kubectl", "-n", ns, "wait", "--for=condition=complete", "job/work", "--timeout=170s")
	close(over)
	<-ended
	if err != nil {
		t.Errorf("not all pods came and went: %v\n%s", err, kubectl(t, "-n", ns, "get", "events"))
	}
	if out := kubectl(t, "-n", ns, "get", "events", "--field-selector", "reason=FailedCreatePodSandBox", "-o", "jsonpath={range .items[*]}{.message}{\"\\n\"}{end}"); out != "" {
		t.Errorf("some pods could not start at once: %s", out)
	}
	if tapped {
		arrives(t, at, comers*5*2, func(flow) bool { return true })
	}
}

// often does something again and again until it is over.
func often(pause time.Duration, do func()) func(<-chan struct{}) {
	return func(over <-chan struct{}) {
		for {
			do()
			select {
			case <-over:
				return
			case <-time.After(pause):
			}
		}
	}
}

func signal(name string) func() {
	return func() {
		for _, node := range nodes {
			_, _ = try("", "sh", node, "pkill", "-"+name, "-x", "podtapd")
		}
	}
}

func testChurn(t *testing.T) {
	t.Run("SIGTERM", func(t *testing.T) { churn(t, 140, true, often(3*time.Second, signal("TERM"))) })
	t.Run("SIGKILL", func(t *testing.T) { churn(t, 141, true, often(3*time.Second, signal("KILL"))) })
	t.Run("an upgrade", func(t *testing.T) {
		image := kubectl(t, "-n", system, "get", "daemonset", "podtap", "-o", "jsonpath={.spec.template.spec.containers[0].image}")
		before := on(t, "n1", "sha256sum", "/opt/cni/bin/podtap")
		must(t, "load", filepath.Join(root, "dist", "next", "podtap-image.tar"))
		churn(t, 142, true, func(over <-chan struct{}) {
			_, _ = try("", "kubectl", "-n", system, "set", "image", "daemonset/podtap", "podtapd="+os.Getenv("NEXT_IMAGE"))
			_, _ = try("", "kubectl", "-n", system, "rollout", "status", "daemonset/podtap", "--timeout=120s")
			<-over
		})
		ready(t, patience)
		if after := on(t, "n1", "sha256sum", "/opt/cni/bin/podtap"); after == before {
			t.Error("the plugin is the old one")
		}
		kubectl(t, "-n", system, "set", "image", "daemonset/podtap", "podtapd="+image)
		ready(t, patience)
		if after := on(t, "n1", "sha256sum", "/opt/cni/bin/podtap"); after != before {
			t.Error("after going back the plugin is the new one")
		}
	})
	t.Run("no podtapd at all", func(t *testing.T) {
		absent(t)
		churn(t, 143, true, func(<-chan struct{}) {})
		present(t)
	})
	ready(t, patience)
}
