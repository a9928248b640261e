//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const account = "system:serviceaccount:podtap-system:podtap"

// testPermissions asks the API server itself, in podtapd's name.
func testPermissions(t *testing.T) {
	t.Run("the list of what it may do", func(t *testing.T) {
		var got []string
		for _, line := range strings.Split(kubectl(t, "auth", "can-i", "--list", "--no-headers", "--as", account, "--as-group", "system:serviceaccounts", "--as-group", "system:authenticated"), "\n") {
			// What every account may: ask about itself, and read the API's own paths.
			if strings.Contains(line, "selfsubject") || strings.HasPrefix(strings.TrimSpace(line), "[/") {
				continue
			}
			if line = strings.Join(strings.Fields(line), " "); line != "" {
				got = append(got, line)
			}
		}
		slices.Sort(got)
		want := []string{"events [] [] [create patch]", "pods [] [] [get]"}
		if !slices.Equal(got, want) {
			t.Errorf("podtapd may\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
	// With the very token that podtapd on n1 has: bound to its pod, and so to its node.
	as := bearer(t, kubectl(t, "-n", system, "create", "token", "podtap", "--bound-object-kind=Pod", "--bound-object-name="+podtapd(t, "n1")))
	unbound := bearer(t, kubectl(t, "-n", system, "create", "token", "podtap"))
	space := space(t)
	pod{namespace: space, name: "some", command: []string{"sleep", "600"}}.start(t)
	for _, c := range []struct {
		what    string
		allowed bool
		stdin   string
		args    []string
	}{
		{"read a pod", true, "", []string{"-n", space, "get", "pod", "some"}},
		{"list pods", false, "", []string{"-n", space, "get", "pods"}},
		{"delete a pod", false, "", []string{"-n", space, "delete", "pod", "some", "--wait=false"}},
		{"read a secret", false, "", []string{"-n", system, "get", "secrets"}},
		{"read a node", false, "", []string{"get", "node", "n1"}},
		{"read its settings", false, "", []string{"-n", system, "get", "configmap", "podtap"}},
		{"change its DaemonSet", false, "", []string{"-n", system, "delete", "daemonset", "podtap", "--wait=false"}},
		{"tell of a pod", true, eventOf(space, "Pod", "some", "podtapd", "n1"), []string{"create", "-f", "-"}},
		{"tell of its node", true, eventOf("default", "Node", "n1", "podtapd", "n1"), []string{"create", "-f", "-"}},
		{"tell of another node", false, eventOf("default", "Node", "n2", "podtapd", "n1"), []string{"create", "-f", "-"}},
		{"tell in the name of another node", false, eventOf(space, "Pod", "some", "podtapd", "n2"), []string{"create", "-f", "-"}},
		{"tell in the kubelet's name", false, eventOf(space, "Pod", "some", "kubelet", "n1"), []string{"create", "-f", "-"}},
	} {
		out, err := as(c.stdin, c.args...)
		if (err == nil) != c.allowed || err != nil && !strings.Contains(strings.ToLower(out), "forbidden") {
			t.Errorf("%s: allowed must be %v; %v %s", c.what, c.allowed, err, out)
		}
	}
	if out, err := unbound(eventOf(space, "Pod", "some", "podtapd", "n1"), "create", "-f", "-"); err == nil || !strings.Contains(out, "names no node") {
		t.Errorf("a token that is bound to no node: %v %s", err, out)
	}
	t.Run("users need only what list says", func(t *testing.T) {
		reader := bearer(t, kubectl(t, "-n", space, "create", "token", "default"))
		if _, err := reader("", "get", "pods", "-n", system); err == nil {
			t.Fatal("an ordinary account may read podtap's pods")
		}
		out, err := podtapAs(t, kubeconfigOf(t, kubectl(t, "-n", space, "create", "token", "default")), "list", "-A")
		if err == nil || !strings.Contains(out, "pods/portforward") {
			t.Errorf("list without permission: %v\n%s", err, out)
		}
	})
}

func eventOf(namespace, kind, name, component, host string) string {
	of := ""
	if kind == "Pod" {
		of = "namespace: " + namespace + ", "
	}
	return fmt.Sprintf(`apiVersion: v1
kind: Event
metadata: {generateName: test-, namespace: %s}
involvedObject: {apiVersion: v1, kind: %s, %sname: %s}
source: {component: %s, host: %s}
reason: Test
message: a test
type: Normal
`, namespace, kind, of, name, component, host)
}

// kubeconfigOf is a file for somebody with a token, and with nothing else.
func kubeconfigOf(t *testing.T, token string) string {
	t.Helper()
	config := func(path string) string {
		return kubectl(t, "config", "view", "--raw", "--minify", "--flatten", "-o", "jsonpath={"+path+"}")
	}
	file := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: %q, certificate-authority-data: %s}}]
users: [{name: u, user: {token: %s}}]
contexts: [{name: c, context: {cluster: c, user: u}}]
current-context: c
`, config(".clusters[0].cluster.server"), config(".clusters[0].cluster.certificate-authority-data"), token)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// bearer is kubectl for somebody with a token.
func bearer(t *testing.T, token string) func(stdin string, args ...string) (string, error) {
	t.Helper()
	file := kubeconfigOf(t, token)
	return func(stdin string, args ...string) (string, error) {
		c := exec.Command(script, append([]string{"kubectl", "--kubeconfig", file, "--request-timeout=20s"}, args...)...)
		c.Stdin = strings.NewReader(stdin)
		out, err := c.CombinedOutput()
		return string(out), err
	}
}
