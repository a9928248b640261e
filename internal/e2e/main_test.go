//go:build e2e

// Package e2e proves podtap in a real cluster: etcd, API server, kubelets and
// containerd on this machine, as scripts/cluster starts them. `make e2e` builds all
// that it needs and runs it; it takes no part in the other tests.
package e2e

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// root of the repository.
var root = func() string {
	dir, err := filepath.Abs("../..")
	if err != nil {
		panic(err)
	}
	return dir
}()

// script of the cluster.
var script = filepath.Join(root, "scripts", "cluster", "cluster.sh")

// cluster is its name, with which its links and network namespaces begin.
var cluster = cmp.Or(os.Getenv("NAME"), "lab")

// lane is which of the tests are wanted, as scripts/e2e.sh names them: each needs another
// cluster, or containerd alone.
var lane = os.Getenv("PODTAP_E2E")

func TestMain(m *testing.M) {
	out, err := exec.Command(script, "status").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "n1 runs") || lane != "containerd" && !strings.Contains(string(out), "n2 runs") {
		fmt.Fprintf(os.Stderr, "there is no cluster; `make e2e` starts one: %v\n%s", err, out)
		os.Exit(1)
	}
	version, err := exec.Command(script, "sh", "n1", "containerd", "--version").CombinedOutput()
	fmt.Fprintf(os.Stderr, "%s", version)
	if err != nil {
		os.Exit(1)
	}
	remove, err := makeApart()
	code := 1
	if err == nil {
		code = m.Run()
	} else {
		fmt.Fprintln(os.Stderr, err)
	}
	remove()
	os.Exit(code)
}

// TestPodtapInACluster is one story: each part finds podtap installed, and leaves it
// so; the last one takes it off.
func TestPodtapInACluster(t *testing.T) {
	tell(t, "cluster", []part{
		{"one manifest makes both nodes ready", testInstall},
		{"what a pod sends and receives arrives on the other node", testCopies},
		{"what a filter passes over is not copied", testFilters},
		{"a tap takes less: sampled, cut and capped", testTrimmed},
		{"pods of every kind are tapped", testKinds},
		{"a mistake is told, and mended", testMistakes},
		{"the settings are followed", testSettings},
		{"pods that cannot be tapped are told of", testUntapped},
		{"the plugin asks podtapd where the runtime is silent", testQuestion},
		{"list and doctor see the whole cluster", testCommandLine},
		{"metrics tell what is copied", testMetrics},
		{"podtapd may do what it needs, and nothing else", testPermissions},
		{"pods start whatever happens to podtapd", testChurn},
		{"a fight over the configuration is a conflict", testConflict},
		{"nodes with the startup taint wait for podtap", testStartupTaint},
		{"uninstalling leaves nothing", testUninstall},
	})
}
