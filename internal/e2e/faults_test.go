//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestPodtapOnBadDays lets a node's daemons be killed, its power be cut and its disk run
// full while tapped pods come and go. After each, the nodes have what they had before.
func TestPodtapOnBadDays(t *testing.T) {
	tell(t, "faults", []part{
		{"podtap is on both nodes", installed},
		{"containerd is killed in the middle of ADD", testKilledInAdd},
		{"containerd is killed in the middle of DEL", testKilledInDel},
		{"containerd is killed again and again", testKilledOften("containerd", 162)},
		{"the kubelet is killed again and again", testKilledOften("kubelet", 163)},
		{"the power is cut", testPowerCut},
		{"the power is cut while podtapd is absent", testPowerCutWithoutPodtapd},
		{"the disk of the plugins and of their configuration is full", testFullInstallation},
		{"the disk of CNI's results is full", testFullResults},
		{"there is no room for locks", testFullLocks},
		{"podtap goes, and leaves nothing", uninstalled},
	})
}

// warm lets a pod come and go on each node, so that the network plugin has made what it
// keeps, and returns what the nodes have then.
func warm(t *testing.T, namespace string) map[string]string {
	t.Helper()
	for _, node := range nodes {
		p := pod{namespace: namespace, name: "warm-" + node, node: node, command: []string{"sleep", "600"}}.start(t)
		p.delete(t)
	}
	var before map[string]string
	eventually(t, patience, "the nodes are at rest", func() error {
		last := before
		before = holdings(t)
		for node, text := range before {
			if strings.Contains(text, "namespace: ") || strings.Contains(text, "CNI: ") || strings.Contains(text, "device: veth") {
				return fmt.Errorf("on %s there still are pods", node)
			}
			if text != last[node] { // seen while a pod was going
				return fmt.Errorf("%s changes", node)
			}
		}
		return nil
	})
	return before
}

// crew is a number of tapped pods that each say something to a server at their start.
type crew struct {
	namespace, node string // node "": any
	size, vni       int    // vni 0: not tapped
	server          pod
}

// say is how many datagrams each of them sends, and is answered.
const say = 5

func (c crew) pod(t *testing.T) pod {
	p := pod{node: c.node}
	if c.vni != 0 {
		p.annotation = fmt.Sprintf("{vxlan: {vni: %d, remote: %s}}", c.vni, apartAddress)
	}
	p.init = []string{"netutil", "udp", "-n", fmt.Sprint(say), "-echo", "20s", c.server.ip(t) + ":7000"}
	return p
}

// job starts them as a Job's pods, ten at a time.
func (c crew) job(t *testing.T) {
	t.Helper()
	p := c.pod(t)
	p.command = []string{"true"}
	apply(t, fmt.Sprintf("apiVersion: batch/v1\nkind: Job\nmetadata: {name: work, namespace: %s}\nspec:\n  completions: %d\n  parallelism: 10\n  backoffLimit: 20\n  template:\n    metadata:\n      labels: {app: work}\n%s    spec:\n%s",
		c.namespace, c.size, p.annotations("      "), p.spec("      ")))
}

// deployment starts them as pods that stay.
func (c crew) deployment(t *testing.T) {
	t.Helper()
	p := c.pod(t)
	p.command, p.restart = []string{"sleep", "3600"}, "always"
	apply(t, fmt.Sprintf("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: crew, namespace: %s}\nspec:\n  replicas: %d\n  selector: {matchLabels: {app: crew}}\n  template:\n    metadata:\n      labels: {app: crew}\n%s    spec:\n%s",
		c.namespace, c.size, p.annotations("      "), p.spec("      ")))
	c.available(t)
}

func (c crew) available(t *testing.T) {
	t.Helper()
	eventually(t, patience, "all pods are available", func() error {
		out, err := try("", "kubectl", "-n", c.namespace, "get", "deployment", "crew", "-o", "jsonpath={.status.availableReplicas}")
		if err == nil && out != fmt.Sprint(c.size) {
			err = fmt.Errorf("%s of %d", out, c.size)
		}
		return err
	})
}

// complete waits for a Job's end.
func (c crew) complete(t *testing.T) {
	t.Helper()
	if _, err := try("", "kubectl", "-n", c.namespace, "wait", "--for=condition=complete", "job/work", "--timeout=170s"); err != nil {
		t.Fatalf("not all pods came and went: %v\n%s", err, kubectl(t, "-n", c.namespace, "get", "pods,events"))
	}
}

// copied insists that the collector has a copy of each datagram that the server got, and
// of each answer. A pod that is started twice says its words twice.
func (c crew) copied(t *testing.T, at *collector) {
	t.Helper()
	eventually(t, patience, "each pod has been heard, and each word copied", func() error {
		out, err := try("", "kubectl", "-n", c.namespace, "exec", c.server.name, "--", "netutil", "stats", "127.0.0.1:7000")
		if err != nil {
			return err
		}
		var heard struct {
			UDPDatagrams int `json:"udpDatagrams"`
		}
		if err := json.Unmarshal([]byte(out), &heard); err != nil {
			return err
		}
		to := at.sum("udp", func(f flow) bool { return f.to.Port() == 7000 }).packets
		from := at.sum("udp", func(f flow) bool { return f.from.Port() == 7000 }).packets
		if heard.UDPDatagrams < c.size*say || to != heard.UDPDatagrams || from != heard.UDPDatagrams {
			return fmt.Errorf("the server has heard %d datagrams, of %d at least; copied were %d and %d answers", heard.UDPDatagrams, c.size*say, to, from)
		}
		return nil
	})
}

// bad is the scene of a bad day: what the nodes had before, and a crew to come.
func bad(t *testing.T, vni, size int, node string) (crew, *collector, map[string]string) {
	t.Helper()
	namespace := space(t)
	before := warm(t, namespace)
	return crew{namespace, node, size, vni, server(t, namespace, "n2")}, collect(t, apart, vni), before
}

// gone deletes the crew and its server, and insists that the nodes have what they had.
func (c crew) gone(t *testing.T, before map[string]string) {
	t.Helper()
	kubectl(t, "-n", c.namespace, "delete", "deployment,job,pod", "--all", "--timeout=120s")
	asBefore(t, before, nodes...)
}

// holdLock has podtap's plugin wait on a node, in the middle of what it does, until it is
// released: it holds the lock of what pods share.
func holdLock(t *testing.T, node string) (release func()) {
	t.Helper()
	c := background(t, "sh", node, "sh", "-c", "mkdir -p /run/podtap/lock && exec flock /run/podtap/lock/node sleep 25")
	eventually(t, patience, "the lock is held", func() error {
		_, err := try("", "sh", node, "sh", "-c", "! flock -n /run/podtap/lock/node true")
		return err
	})
	return func() {
		_, _ = try("", "sh", node, "pkill", "-x", "-f", "sleep 25")
		_ = c.Wait()
	}
}

// working waits until the plugin is at a verb on a node.
func working(t *testing.T, node, verb string) {
	t.Helper()
	eventually(t, 20*time.Second, "the plugin is at "+verb, func() error {
		out, err := try("", "sh", node, "sh", "-c", `for p in $(pgrep -x podtap); do tr '\0' '\n' </proc/$p/environ | grep -x CNI_COMMAND=`+verb+`; done; true`)
		if err == nil && !strings.Contains(out, verb) {
			err = errors.New("it is not")
		}
		return err
	})
}

// killInTheMiddle kills containerd twice while the plugin is at a verb: once alone, as
// service managers do, and once with all plugins that it has started.
func killInTheMiddle(t *testing.T, node, verb string) {
	t.Helper()
	working(t, node, verb)
	must(t, "kill", node, "containerd")
	working(t, node, verb)
	must(t, "sh", node, "sh", "-c", `kill -KILL "$(cat /run/containerd.pid)"; pkill -KILL -x podtap; true`)
}

func testKilledInAdd(t *testing.T) {
	c, at, before := bad(t, 160, 20, "n1")
	release := holdLock(t, "n1")
	c.job(t)
	killInTheMiddle(t, "n1", "ADD")
	release()
	c.complete(t)
	c.copied(t, at)
	c.gone(t, before)
}

func testKilledInDel(t *testing.T) {
	c, at, before := bad(t, 161, 12, "n1")
	c.deployment(t)
	c.copied(t, at)
	release := holdLock(t, "n1")
	kubectl(t, "-n", c.namespace, "delete", "deployment", "crew", "--wait=false")
	killInTheMiddle(t, "n1", "DEL")
	release()
	c.gone(t, before)
}

// testKilledOften kills a daemon of both nodes every two seconds while pods come and go.
func testKilledOften(daemon string, vni int) func(*testing.T) {
	return func(t *testing.T) {
		c, at, before := bad(t, vni, 40, "")
		over, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			kills := 0
			often(2*time.Second, func() {
				for _, node := range nodes {
					if _, err := try("", "kill", node, daemon); err == nil {
						kills++
					}
				}
			})(over)
			if t.Logf("killed %d times", kills); kills < 10 {
				t.Error("that is not often")
			}
		}()
		c.job(t)
		time.Sleep(20 * time.Second) // kills enough; then the pods may come to their end
		close(over)
		<-ended
		c.complete(t)
		c.copied(t, at)
		c.gone(t, before)
	}
}
