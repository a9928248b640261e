//go:build e2e

package e2e

import (
	"strings"
	"testing"
	"time"
)

func testInstall(t *testing.T) {
	begin := time.Now()
	installed(t)
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("ready after %v", took)
	}
	t.Logf("ready on both nodes after %.1f s", time.Since(begin).Seconds())
	for _, node := range nodes {
		if got := on(t, node, "sh", "-c", "cat /etc/cni/net.d/*.conflist"); strings.Count(got, `"type":"podtap"`) != 1 {
			t.Errorf("on %s the configuration is %s", node, got)
		}
		on(t, node, "test", "-x", "/opt/cni/bin/podtap")
	}
}
