//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// part is one part of a story; its name is what it proves.
type part struct {
	name string
	do   func(*testing.T)
}

// tell runs the parts of a story in their order, and says on the terminal where it is.
// Where the first one fails, the others would say nothing.
func tell(t *testing.T, of string, story []part) {
	t.Helper()
	if lane != of {
		t.Skipf("this is for `scripts/e2e.sh %s`", of)
	}
	for i, p := range story {
		begin := time.Now()
		fmt.Fprintf(os.Stderr, "%s %s ...\n", begin.Format(time.TimeOnly), p.name)
		good := t.Run(p.name, p.do)
		fmt.Fprintf(os.Stderr, "%s %s: %.0f s, good: %v\n", time.Now().Format(time.TimeOnly), p.name, time.Since(begin).Seconds(), good)
		if !good && i == 0 {
			t.Fatal("without that the rest says nothing")
		}
	}
}

// overlay is podtap as the tests want it, uninstaller what takes it off.
var (
	overlay     = filepath.Join(root, "internal", "e2e", "testdata", "overlay")
	uninstaller = filepath.Join(root, "deploy", "kustomize", "uninstall")
)

// installed puts podtap on both nodes, by its manifest.
func installed(t *testing.T) {
	t.Helper()
	bare(t)
	must(t, "kubectl", "apply", "-k", overlay)
	ready(t, patience)
}

// bare remembers the nodes' own network configurations.
func bare(t *testing.T) {
	t.Helper()
	for _, node := range nodes {
		text, err := try("", "sh", node, "sh", "-c", conflist)
		if err != nil || strings.Contains(text, "podtap") {
			t.Fatalf("on %s podtap is chained already: %v %s", node, err, text)
		}
		pristine[node] = text
	}
}

// uninstalled takes podtap off both nodes, as the documentation says.
func uninstalled(t *testing.T) {
	t.Helper()
	must(t, "kubectl", "apply", "-k", uninstaller)
	if _, err := try("", "kubectl", "-n", system, "wait", "--for=condition=complete", "--timeout=150s", "job/podtap-uninstall"); err != nil {
		out, _ := try("", "kubectl", "-n", system, "logs", "job/podtap-uninstall")
		t.Errorf("%v\n%s", err, out)
	}
	must(t, "kubectl", "delete", "-k", uninstaller, "--timeout=60s")
	must(t, "kubectl", "delete", "-k", filepath.Join(root, "deploy", "kustomize", "base"), "--ignore-not-found", "--timeout=120s")
	for _, node := range nodes {
		if got := on(t, node, "sh", "-c", "cat /etc/cni/net.d/*; ls /opt/cni/bin"); strings.Contains(got, "podtap") {
			t.Errorf("on %s there still is podtap: %s", node, got)
		}
	}
}
