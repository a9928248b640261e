//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// pristine is the nodes' network configuration before podtap, by node.
var pristine = map[string]string{}

const conflist = "cat /etc/cni/net.d/*.conflist"

func testConflict(t *testing.T) {
	file := on(t, "n1", "sh", "-c", "ls /etc/cni/net.d/*.conflist")
	name := podtapd(t, "n1")
	condition := func() string {
		return kubectl(t, "-n", system, "get", "pod", name, "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
	}
	if got := condition(); got != "True" {
		t.Fatalf("before, podtapd's readiness is %s", got)
	}
	unready := false
	for range 20 {
		if _, err := try(pristine["n1"], "sh", "n1", "sh", "-c", "cat >"+file+".tmp && mv "+file+".tmp "+file); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2800 * time.Millisecond)
		unready = unready || condition() == "False"
	}
	if !unready {
		t.Error("podtapd on n1 was ready all the time")
	}
	event(t, "default", "Node", "n1", "PodtapConflict", "rewrites the network configuration")
	eventually(t, patience, "podtap is chained again", func() error {
		out, err := try("", "sh", "n1", "sh", "-c", conflist)
		if err == nil && !strings.Contains(out, `"type":"podtap"`) {
			err = fmt.Errorf("the configuration is %s", out)
		}
		return err
	})
	ready(t, patience)
	event(t, "default", "Node", "n1", "PodtapReady", "chained")
	if got := kubectl(t, "-n", system, "get", "pod", name, "-o", "jsonpath={.status.containerStatuses[0].restartCount}"); podtapd(t, "n1") != name {
		t.Errorf("podtapd was made anew; restarts %s", got)
	}
}
