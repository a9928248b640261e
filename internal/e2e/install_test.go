//go:build e2e

package e2e

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func testInstall(t *testing.T) {
	for _, node := range []string{"n1", "n2"} {
		text, err := try("", "sh", node, "sh", "-c", conflist)
		if err != nil || strings.Contains(text, "podtap") {
			t.Fatalf("on %s podtap is chained already: %v %s", node, err, text)
		}
		pristine[node] = text
	}
	begin := time.Now()
	must(t, "kubectl", "apply", "-k", filepath.Join(root, "internal", "e2e", "testdata", "overlay"))
	ready(t, 30*time.Second)
	t.Logf("ready on both nodes after %.1f s", time.Since(begin).Seconds())
	for _, node := range []string{"n1", "n2"} {
		if got := on(t, node, "sh", "-c", "cat /etc/cni/net.d/*.conflist"); strings.Count(got, `"type":"podtap"`) != 1 {
			t.Errorf("on %s the configuration is %s", node, got)
		}
		on(t, node, "test", "-x", "/opt/cni/bin/podtap")
	}
}
