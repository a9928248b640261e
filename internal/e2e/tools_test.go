//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/podtap/podtap/api/node"
)

// podtap runs kubectl-podtap as the cluster's administrator; both outputs together.
func podtap(t *testing.T, args ...string) (string, error) {
	t.Helper()
	return podtapAs(t, must(t, "kubeconfig"), args...)
}

func podtapAs(t *testing.T, kubeconfig string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTimeout)
	defer cancel()
	c := exec.CommandContext(ctx, filepath.Join(root, "bin", "kubectl-podtap"), args...)
	c.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return out.String(), err
}

// listed insists that a pod's tap is in the list, and returns it and the list.
func listed(t *testing.T, namespace, name string) (node.Tap, node.Taps) {
	t.Helper()
	out, err := podtap(t, "list", "-n", namespace, "-o", "json")
	var list node.Taps
	if err == nil {
		err = json.Unmarshal([]byte(out), &list)
	}
	if err != nil {
		t.Fatalf("list: %v\n%s", err, out)
	}
	for _, tap := range list.Taps {
		if tap.Name == name {
			return tap, list
		}
	}
	t.Fatalf("the pod %s is not in the list\n%s", name, out)
	return node.Tap{}, node.Taps{}
}

func testCommandLine(t *testing.T) {
	ns := space(t)
	at := collect(t, apart, 130)
	to := server(t, ns, "n2").ip(t)
	for _, n := range nodes {
		pod{namespace: ns, name: "tapped-" + n, node: n, annotation: `{vxlan: {vni: 130, remote: 198.18.0.100}}`,
			init: udpTo(to, 10), command: []string{"sleep", "600"}}.start(t)
	}
	arrives(t, at, 10*2*2, func(flow) bool { return true })
	for _, n := range nodes {
		tap, _ := listed(t, ns, "tapped-"+n)
		if tap.Node != n || tap.Namespace != ns || tap.Destination != "198.18.0.100:4789/130" || len(tap.Directions) != 2 {
			t.Errorf("on %s the tap is %+v", n, tap)
		}
		for _, d := range tap.Directions {
			if d.Matched.Packets < 10 || d.Copied != d.Matched && d.Copied.Packets != d.Matched.Packets || len(d.Dropped) != 0 {
				t.Errorf("on %s the counters are %+v", n, d)
			}
		}
	}
	out, err := podtap(t, "list", "-A", "-o", "wide")
	if err != nil || !strings.Contains(out, "tapped-n1") || !strings.Contains(out, "tapped-n2") || !strings.Contains(out, "NODE") {
		t.Errorf("list -A -o wide: %v\n%s", err, out)
	}
	if out, err := podtap(t, "list", "-n", "default"); err != nil || strings.Contains(out, "tapped-") {
		t.Errorf("list -n default: %v\n%s", err, out)
	}
	eventually(t, patience, "doctor finds nothing", func() error {
		out, err := podtap(t, "doctor")
		if err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		return nil
	})
	out, err = podtap(t, "doctor")
	if err != nil || !strings.Contains(out, "n1") || !strings.Contains(out, "n2") || !strings.Contains(out, "podtap") {
		t.Errorf("doctor: %v\n%s", err, out)
	}
}

func testMetrics(t *testing.T) {
	ns := space(t)
	to := server(t, ns, "n1").ip(t)
	pod{namespace: ns, name: "counted", node: "n1", annotation: `{device: m0, direction: egress, veth: {}}`, init: udpTo(to, 40), command: []string{"sleep", "600"}}.start(t)
	eventually(t, patience, "the tap's counters are in the metrics", func() error {
		out, err := get(t, "n1", "/metrics")
		if err != nil {
			return err
		}
		for _, want := range []string{`podtap_install_state{state="Ready"} 1`, `podtap_install_state{state="Conflict"} 0`, `podtap_taps{sink="veth"} 1`, "podtap_errors_total", "podtap_build_info"} {
			if !strings.Contains(out, want) {
				return fmt.Errorf("%s is not in\n%s", want, out)
			}
		}
		for _, line := range strings.Split(out, "\n") {
			if strings.HasPrefix(line, "podtap_tap_copied_packets_total") && strings.Contains(line, `pod="counted"`) && strings.Contains(line, `namespace="`+ns+`"`) {
				var count float64
				if _, err := fmt.Sscan(line[strings.LastIndex(line, " ")+1:], &count); err != nil || count < 40 {
					return fmt.Errorf("the counter is %s", line)
				}
				return nil
			}
		}
		return fmt.Errorf("the tap is not in\n%s", out)
	})
	// To others than root the API says nothing.
	out, err := try("", "sh", "n1", "setpriv", "--reuid=65534", "--clear-groups", "bash", "-c",
		`exec 3<>/dev/tcp/127.0.0.1/971; printf "GET /v1/taps HTTP/1.0\r\n\r\n" >&3; cat <&3`)
	if err != nil || !strings.Contains(out, "403") || strings.Contains(out, "counted") {
		t.Errorf("to another user the API says %s", out)
	}
}
