//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/podtap/podtap/api/node"
)

// TestPodtapWithContainerdAlone is the quick lane: real sandboxes of a real containerd,
// and podtapd beside it, without Kubernetes.
func TestPodtapWithContainerdAlone(t *testing.T) {
	if lane != "containerd" {
		t.Skip("this is for `scripts/e2e.sh containerd`")
	}
	const n = "n1"
	pristine[n] = must(t, "sh", n, "sh", "-c", conflist)
	settings := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(settings, []byte("policy: {rules: [{sinks: [veth, vxlan], destinations: [198.18.0.0/16]}]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	flags := []string{"--node-name=" + n, "--plugin=" + filepath.Join(root, "bin", "podtap"), "--config=" + settings}
	begin := time.Now()
	podtapd := background(t, append([]string{"sh", n, filepath.Join(root, "bin", "podtapd"), "run"}, flags...)...)
	t.Cleanup(func() { _, _ = try("", "sh", n, "pkill", "-KILL", "-x", "podtapd") })
	whenReady := func() {
		t.Helper()
		eventually(t, 30*time.Second, "podtapd is ready", func() error {
			answer, err := get(t, n, "/readyz")
			if err == nil && !strings.Contains(answer, " 200 ") {
				err = fmt.Errorf("%s", answer)
			}
			return err
		})
	}
	whenReady()
	t.Logf("ready after %.1f s", time.Since(begin).Seconds())

	at := collect(t, apart, 101)
	sandbox := strings.Fields(on(t, n, "crisb", "run", "web", "default", "podtap.io/taps={vxlan: {vni: 101, remote: "+apartAddress+"}}"))
	if len(sandbox) < 2 {
		t.Fatalf("the sandbox is %q", sandbox)
	}
	space := on(t, n, "sh", "-c", fmt.Sprintf(`for n in /run/netns/*; do ip -n "$(basename $n)" -o addr | grep -qF ' %s/' && basename $n; done; true`, sandbox[1]))
	// Nobody listens there: what is sent counts.
	on(t, n, "ip", "netns", "exec", space, "netutil", "udp", "-n", "50", "198.18.0.11:7001")
	arrives(t, at, 50, func(f flow) bool { return f.to.Port() == 7001 })
	taps := func() []node.Tap {
		t.Helper()
		var list node.Taps
		if err := json.Unmarshal([]byte(on(t, n, filepath.Join(root, "bin", "kubectl-podtap"), "list", "--node", "-o", "json")), &list); err != nil {
			t.Fatal(err)
		}
		return list.Taps
	}
	if list := taps(); len(list) != 1 || list[0].Pod != "default/web" || list[0].ContainerID != sandbox[0] {
		t.Errorf("the taps are %+v", list)
	}

	// A refused one fails, and a pod without any passes.
	if out, err := try("", "sh", n, "crisb", "run", "bad", "default", "podtap.io/taps={vxlan: {vni: 101, remote: 198.51.100.1}}"); err == nil || !strings.Contains(err.Error(), "is refused") {
		t.Errorf("a refused tap: %v %s", err, out)
	}
	plain := strings.Fields(on(t, n, "crisb", "run", "plain", "default"))

	// containerd restarts, podtapd is killed: both come back to what there was.
	must(t, "kill", n, "containerd")
	_, _ = try("", "sh", n, "pkill", "-KILL", "-x", "podtapd")
	_ = podtapd.Wait()
	background(t, append([]string{"sh", n, filepath.Join(root, "bin", "podtapd"), "run"}, flags...)...)
	whenReady()
	if list := taps(); len(list) != 1 {
		t.Errorf("after the restart the taps are %+v", list)
	}
	for _, id := range []string{sandbox[0], plain[0]} {
		on(t, n, "crisb", "rm", id)
	}
	if list := taps(); len(list) != 0 {
		t.Errorf("after the pods' end the taps are %+v", list)
	}

	_, _ = try("", "sh", n, "pkill", "-TERM", "-x", "podtapd")
	eventually(t, 20*time.Second, "podtapd has ended", func() error {
		if _, err := try("", "sh", n, "pgrep", "-x", "podtapd"); err == nil {
			return fmt.Errorf("it still runs")
		}
		return nil
	})
	on(t, n, append([]string{filepath.Join(root, "bin", "podtapd"), "uninstall"}, flags...)...)
	if got := must(t, "sh", n, "sh", "-c", conflist); got != pristine[n] {
		t.Errorf("after uninstalling the configuration is\n%s\nwant\n%s", got, pristine[n])
	}
	on(t, n, "test", "!", "-e", "/opt/cni/bin/podtap")
	on(t, n, "crisb", "rm", strings.Fields(on(t, n, "crisb", "run", "after", "default"))[0])
}

// background starts a command of the cluster's script; it ends with the test.
func background(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	c := exec.Command(script, args...)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var complaint strings.Builder
	c.Stderr = &complaint
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
		if t.Failed() {
			t.Logf("%s said\n%s", args[2], complaint.String())
		}
	})
	return c
}
