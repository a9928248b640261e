//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"

	api "github.com/podtap/podtap/api/node"
)

const (
	// commandTimeout bounds each command, patience whatever is waited for.
	commandTimeout = 3 * time.Minute
	patience       = 2 * time.Minute
	system         = "podtap-system"
)

// try runs a command of the cluster's script.
func try(stdin string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	c := exec.CommandContext(ctx, script, args...)
	c.Stdin = strings.NewReader(stdin)
	c.WaitDelay = time.Second
	var out, complaint bytes.Buffer
	c.Stdout, c.Stderr = &out, &complaint
	if err := c.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w: %s%s", strings.Join(args, " "), err, out.String(), complaint.String())
	}
	return out.String(), nil
}

func must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := try("", args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

// kubectl runs as the cluster's administrator.
func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	return must(t, append([]string{"kubectl"}, args...)...)
}

// on runs a command inside a node.
func on(t *testing.T, node string, args ...string) string {
	t.Helper()
	return must(t, append([]string{"sh", node}, args...)...)
}

// eventually insists that something comes true.
func eventually(t *testing.T, within time.Duration, what string, is func() error) {
	t.Helper()
	for end := time.Now().Add(within); ; time.Sleep(300 * time.Millisecond) {
		err := is()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("within %v not: %s: %v", within, what, err)
		}
	}
}

var spaces atomic.Int32

// space is a namespace of its own for a part of the story.
func space(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("e2e-%d", spaces.Add(1))
	kubectl(t, "create", "namespace", name)
	t.Cleanup(func() { _, _ = try("", "kubectl", "delete", "namespace", name, "--timeout=60s") })
	eventually(t, patience, "the namespace has its account", func() error {
		_, err := try("", "kubectl", "-n", name, "get", "serviceaccount", "default")
		return err
	})
	return name
}

func apply(t *testing.T, manifest string) {
	t.Helper()
	if _, err := try(manifest, "kubectl", "apply", "-f", "-"); err != nil {
		t.Fatalf("%v\n%s", err, manifest)
	}
}

// pod describes a pod of one container.
type pod struct {
	namespace, name, node string
	annotation            string // podtap.io/taps; "" for none
	annotated             string // more annotations, `KEY: VALUE, ...`
	command               []string
	init                  []string // command of an init container, if any
	ports                 string   // of its container, `{...}, ...`
	more                  string   // fields of the pod's spec
	restart               string   // default Never
}

const podSpec = `%[1]senableServiceLinks: false
%[1]sdnsPolicy: Default
%[1]sterminationGracePeriodSeconds: 0
%[1]sautomountServiceAccountToken: false
`

// spec is that of the pod, indented, with what all test pods have.
func (p pod) spec(indent string) string {
	var b strings.Builder
	fmt.Fprintf(&b, podSpec, indent)
	if p.node != "" {
		fmt.Fprintf(&b, "%snodeSelector: {kubernetes.io/hostname: %s}\n", indent, p.node)
	}
	if p.restart != "always" {
		fmt.Fprintf(&b, "%srestartPolicy: Never\n", indent)
	}
	if p.more != "" {
		fmt.Fprintf(&b, "%s%s\n", indent, p.more)
	}
	container := func(list, name string, command []string, ports string) {
		fmt.Fprintf(&b, "%s%s:\n%s- {name: %s, image: \"lab.local/netutil:1\", imagePullPolicy: Never, command: [%s], ports: [%s]}\n", indent, list, indent, name, quoted(command), ports)
	}
	if p.init != nil {
		container("initContainers", "first", p.init, "")
	}
	container("containers", "main", p.command, p.ports)
	return b.String()
}

// annotations is the metadata's line for the taps, and for what else the pod has.
func (p pod) annotations(indent string) string {
	var all []string
	if p.annotation != "" {
		all = append(all, fmt.Sprintf("podtap.io/taps: '%s'", p.annotation))
	}
	if p.annotated != "" {
		all = append(all, p.annotated)
	}
	if len(all) == 0 {
		return ""
	}
	return fmt.Sprintf("%sannotations: {%s}\n", indent, strings.Join(all, ", "))
}

func (p pod) manifest() string {
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata:\n  name: %s\n  namespace: %s\n%sspec:\n%s", p.name, p.namespace, p.annotations("  "), p.spec("  "))
}

func quoted(words []string) string {
	var out []string
	for _, w := range words {
		out = append(out, fmt.Sprintf("%q", w))
	}
	return strings.Join(out, ", ")
}

// start starts a pod and waits until it runs, or has ended well.
func (p pod) start(t *testing.T) pod {
	t.Helper()
	apply(t, p.manifest())
	eventually(t, patience, "the pod "+p.name+" runs", func() error {
		phase, err := try("", "kubectl", "-n", p.namespace, "get", "pod", p.name, "-o", "jsonpath={.status.phase}")
		if err == nil && phase != "Running" && phase != "Succeeded" {
			err = fmt.Errorf("its phase is %s", phase)
		}
		return err
	})
	return p
}

func (p pod) get(t *testing.T, path string) string {
	t.Helper()
	return kubectl(t, "-n", p.namespace, "get", "pod", p.name, "-o", "jsonpath={"+path+"}")
}

func (p pod) ip(t *testing.T) string { t.Helper(); return p.get(t, ".status.podIP") }

// phase waits for the pod's end.
func (p pod) ends(t *testing.T, want string) {
	t.Helper()
	eventually(t, patience, "the pod "+p.name+" ends as "+want, func() error {
		phase, err := try("", "kubectl", "-n", p.namespace, "get", "pod", p.name, "-o", "jsonpath={.status.phase}")
		if err == nil && phase != want {
			err = fmt.Errorf("its phase is %s", phase)
		}
		return err
	})
}

func (p pod) delete(t *testing.T) {
	t.Helper()
	kubectl(t, "-n", p.namespace, "delete", "pod", p.name, "--timeout=60s")
}

// server is an echo server, for TCP and UDP.
func server(t *testing.T, namespace, node string) pod {
	t.Helper()
	p := pod{namespace: namespace, name: "server-" + node, node: node, command: []string{"netutil", "serve", ":7000"}}.start(t)
	eventually(t, patience, "the server answers", func() error {
		_, err := try("", "kubectl", "-n", namespace, "exec", p.name, "--", "netutil", "tcp", "-bytes", "10", "127.0.0.1:7000")
		return err
	})
	return p
}

// event waits for an event of an object with some words in its message.
func event(t *testing.T, namespace, kind, name, reason string, words ...string) {
	t.Helper()
	eventually(t, patience, fmt.Sprintf("an event %s of the %s %s with %q", reason, kind, name, words), func() error {
		out, err := try("", "kubectl", "-n", namespace, "get", "events", "--field-selector", "involvedObject.kind="+kind+",involvedObject.name="+name,
			"-o", "jsonpath={range .items[*]}{.reason}: {.message}{\"\\n\"}{end}")
		if err != nil {
			return err
		}
	lines:
		for _, line := range strings.Split(out, "\n") {
			for _, word := range append(words, reason+": ") {
				if !strings.Contains(line, word) {
					continue lines
				}
			}
			return nil
		}
		return fmt.Errorf("there are\n%s", out)
	})
}

// podtapd is the name of podtapd's pod of a node.
func podtapd(t *testing.T, node string) string {
	t.Helper()
	return kubectl(t, "-n", system, "get", "pods", "-l", "app.kubernetes.io/name=podtap", "--field-selector", "spec.nodeName="+node,
		"-o", "jsonpath={.items[0].metadata.name}")
}

// ready waits until podtapd is ready on all nodes.
func ready(t *testing.T, within time.Duration) {
	t.Helper()
	eventually(t, within, "podtapd is ready on both nodes", func() error {
		out, err := try("", "kubectl", "-n", system, "get", "daemonset", "podtap", "-o",
			"jsonpath={.metadata.generation} {.status.observedGeneration} {.status.desiredNumberScheduled} {.status.updatedNumberScheduled} {.status.numberReady}")
		if f := strings.Fields(out); err == nil && (len(f) != 5 || f[0] != f[1] || f[2] != "2" || f[3] != "2" || f[4] != "2") {
			err = fmt.Errorf("generation, observed, desired, updated, ready: %s", out)
		}
		return err
	})
}

// get asks podtapd's API on a node, as root of that node.
func get(t *testing.T, node, path string) (answer string, err error) {
	t.Helper()
	err = ns.WithNetNSPath("/run/netns/"+networkOf(node), func(ns.NetNS) error {
		conn, err := net.DialTimeout("tcp", api.DefaultAddress, 5*time.Second)
		if err != nil {
			return err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.0\r\n\r\n", path); err != nil {
			return err
		}
		text, err := io.ReadAll(conn)
		answer = string(text)
		return err
	})
	return answer, err
}
