//go:build e2e

package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// small puts a small file system with the same files over a folder of n1, and fills it
// to its last byte and file; room makes room again.
func small(t *testing.T, folder, options string) (room func()) {
	t.Helper()
	on(t, "n1", "sh", "-ec", fmt.Sprintf(`
mkdir -p /run/small
mount -t tmpfs -o %[2]s tmpfs /run/small
cp -a --no-target-directory %[1]s /run/small
mount --bind /run/small %[1]s
umount /run/small`, folder, options))
	t.Cleanup(func() { _, _ = try("", "sh", "n1", "umount", "-l", folder) })
	on(t, "n1", "sh", "-c", fmt.Sprintf(`mkdir %[1]s/.full; dd if=/dev/zero of=%[1]s/.full/bytes bs=1k 2>/dev/null
for i in $(seq 50); do touch %[1]s/.full/$i 2>/dev/null || break; done; true`, folder))
	return func() { t.Helper(); on(t, "n1", "rm", "-r", filepath.Join(folder, ".full")) }
}

// afresh has containerd and podtapd of n1 see what is mounted now.
func afresh(t *testing.T) {
	t.Helper()
	must(t, "restart", "n1", "containerd")
	kubectl(t, "-n", system, "delete", "pod", podtapd(t, "n1"), "--timeout=60s")
	ready(t, patience)
}

func testFullInstallation(t *testing.T) {
	c, at, before := bad(t, 166, 4, "n1")
	t.Cleanup(func() { afresh(t) }) // after the file systems are gone
	small(t, "/opt/cni/bin", "size=80m")
	room := small(t, "/etc/cni/net.d", "size=64k")
	afresh(t)
	c.job(t)
	c.complete(t)
	c.copied(t, at)
	kubectl(t, "-n", c.namespace, "delete", "job", "work", "--timeout=60s")

	// The owner writes his configuration again. There is no room to chain podtap to it.
	file := on(t, "n1", "sh", "-c", "ls /etc/cni/net.d/*.conflist")
	if _, err := try(pristine["n1"], "sh", "n1", "sh", "-c", "cat >"+file); err != nil {
		t.Fatal(err)
	}
	event(t, "default", "Node", "n1", "PodtapFailing", "no space left on device")
	pod{namespace: c.namespace, name: "untapped", node: "n1", command: []string{"sleep", "600"}}.start(t)
	room()
	eventually(t, patience, "podtap is chained again", func() error {
		out, err := try("", "sh", "n1", "cat", file)
		if err == nil && strings.Count(out, `"type":"podtap"`) != 1 {
			err = fmt.Errorf("the configuration is %s", out)
		}
		return err
	})
	ready(t, patience)
	c.job(t)
	c.complete(t)
	c.size *= 2
	c.copied(t, at)
	c.gone(t, before)
}

// testFullResults has no room for the network plugin's leases and libcni's results: no
// pod can start, and none may leave a tap behind.
func testFullResults(t *testing.T) {
	c, at, before := bad(t, 167, 3, "n1")
	room := small(t, "/var/lib/cni", "size=256k")
	c.job(t)
	eventually(t, patience, "no pod can start", func() error {
		out, err := try("", "kubectl", "-n", c.namespace, "get", "events", "--field-selector", "reason=FailedCreatePodSandBox", "-o", "jsonpath={.items[*].message}")
		if err == nil && !strings.Contains(out, "no space left on device") {
			err = fmt.Errorf("the events are: %s", out)
		}
		return err
	})
	kubectl(t, "-n", c.namespace, "delete", "job", "work", "--timeout=60s")
	asBefore(t, before, "n1")
	room()
	c.job(t)
	c.complete(t)
	c.copied(t, at)
	c.gone(t, before)
}

// testFullLocks has no room for podtap's locks: pods without taps start, those with some
// are told why they cannot, and those that go are let go.
func testFullLocks(t *testing.T) {
	c, at, before := bad(t, 168, 3, "n1")
	c.deployment(t)
	c.copied(t, at)
	small(t, "/run/podtap/lock", "nr_inodes=8,size=64k")
	pod{namespace: c.namespace, name: "untapped", node: "n1", command: []string{"sleep", "600"}}.start(t)
	tapped := pod{namespace: c.namespace, name: "tapped", node: "n1", annotation: "{vxlan: {vni: 168, remote: " + apartAddress + "}}", command: []string{"sleep", "600"}}
	apply(t, tapped.manifest())
	event(t, c.namespace, "Pod", "tapped", "FailedCreatePodSandBox", "/run/podtap/lock", "no space left on device")
	kubectl(t, "-n", c.namespace, "delete", "deployment", "crew", "--timeout=60s")
	kubectl(t, "-n", c.namespace, "wait", "--for=delete", "pod", "-l", "app=crew", "--timeout=60s")
	on(t, "n1", "umount", "-l", "/run/podtap/lock")
	eventually(t, patience, "the tapped pod starts", func() error {
		phase, err := try("", "kubectl", "-n", c.namespace, "get", "pod", "tapped", "-o", "jsonpath={.status.phase}")
		if err == nil && phase != "Running" {
			err = fmt.Errorf("its phase is %s", phase)
		}
		return err
	})
	c.gone(t, before)
}
