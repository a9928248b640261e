//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// testPowerCut takes a node's power away while its tapped pods run. Its disk has their
// results still when it boots; their namespaces, devices and filters are gone.
func testPowerCut(t *testing.T) {
	c, at, before := bad(t, 164, 6, "n1")
	c.deployment(t)
	c.copied(t, at)
	powerCut(t, c)
	backWithTaps(t, c, at)
	c.gone(t, before)
}

// testPowerCutWithoutPodtapd is the same where nobody but the plugin is there: what a
// boot needs is on the disk.
func testPowerCutWithoutPodtapd(t *testing.T) {
	c, at, before := bad(t, 165, 6, "n1")
	c.deployment(t)
	c.copied(t, at)
	begin := time.Now()
	absent(t)
	powerCut(t, c)
	backWithTaps(t, c, at)
	// And pods come and go as long as it is away.
	c.job(t)
	c.complete(t)
	c.size *= 2
	c.copied(t, at)
	time.Sleep(max(0, 2*time.Minute-time.Since(begin)))
	t.Logf("podtapd was absent for %.0f s", time.Since(begin).Seconds())
	present(t)
	c.gone(t, before)
}

// powerCut crashes n1 and boots it again. Until the kubelet has looked, the API server
// still believes what it last heard.
func powerCut(t *testing.T, c crew) {
	t.Helper()
	was := sandboxes(t, c)
	must(t, "crash", "n1")
	must(t, "up", "2")
	eventually(t, patience, "the pods of n1 have been started again", func() error {
		if now := sandboxes(t, c); len(now) < c.size || now[0] == was[0] {
			return fmt.Errorf("their addresses are %v, and were %v", now, was)
		}
		out, err := try("", "kubectl", "-n", c.namespace, "get", "pods", "-l", "app=crew", "-o", "jsonpath={.items[*].status.containerStatuses[0].restartCount}")
		if err == nil && strings.Trim(out, "1 ") != "" {
			err = fmt.Errorf("they were restarted %s times", out)
		}
		return err
	})
	c.available(t)
}

// sandboxes are when the crew's containers were started last.
func sandboxes(t *testing.T, c crew) []string {
	t.Helper()
	out, err := try("", "kubectl", "-n", c.namespace, "get", "pods", "-l", "app=crew", "-o", "jsonpath={.items[*].status.containerStatuses[0].state.running.startedAt}")
	if err != nil {
		return nil
	}
	return strings.Fields(out)
}

// backWithTaps insists that each pod of the crew said its words once more, that there is
// a copy of each, and that each has its tap, and nobody else.
func backWithTaps(t *testing.T, c crew, at *collector) {
	t.Helper()
	again := c
	again.size *= 2
	again.copied(t, at)
	devices := on(t, "n1", "sh", "-c", "ip -o -d link | grep -c 'alias podtap/1 cni'; ip -o -d link | grep -c 'alias podtap/1 relay'; ls /run/netns | wc -l")
	if want := fmt.Sprintf("%d\n1\n%d", c.size, c.size); devices != want {
		t.Errorf("taps, relays and network namespaces on n1 are %q, want %q", devices, want)
	}
}

// absent takes podtapd, and podtapd alone, off all nodes.
func absent(t *testing.T) {
	t.Helper()
	kubectl(t, "-n", system, "patch", "daemonset", "podtap", "-p", `{"spec":{"template":{"spec":{"nodeSelector":{"no-such":"node"}}}}}`)
	eventually(t, patience, "podtapd is gone", func() error {
		out, err := try("", "kubectl", "-n", system, "get", "pods", "-l", "app.kubernetes.io/name=podtap", "-o", "name")
		if err == nil && strings.TrimSpace(out) != "" {
			err = fmt.Errorf("there is %s", out)
		}
		return err
	})
}

// present brings it back.
func present(t *testing.T) {
	t.Helper()
	kubectl(t, "-n", system, "patch", "daemonset", "podtap", "--type=json", "-p", `[{"op":"remove","path":"/spec/template/spec/nodeSelector/no-such"}]`)
	ready(t, patience)
}
