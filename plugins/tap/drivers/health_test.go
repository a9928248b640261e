package drivers

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/cniconf"
)

// A failing STATUS makes the node NotReady.
func TestStatusTellsOfAMissingPluginUntilItIsBack(t *testing.T) {
	both(t, func(t *testing.T, name string) {
		n := newNode(t, name, network{})
		if err := n.status(); err != nil {
			t.Errorf("STATUS of a sound node: %v", err)
		}
		binary := filepath.Join(n.binDir, "podtap")
		if err := os.Remove(binary); err != nil {
			t.Fatal(err)
		}
		if err := n.status(); err == nil || !strings.Contains(err.Text, `"podtap"`) {
			t.Errorf("STATUS without the plugin: %v", err)
		}
		// As installers put it there.
		if err := os.Symlink(filepath.Join(lab.Plugins(), "podtap"), binary+".new"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(binary+".new", binary); err != nil {
			t.Fatal(err)
		}
		n.eventually("STATUS succeeds again", func() bool { return n.status() == nil })
		p, space := n.sandbox("web", n.far())
		n.add(p)
		n.pinged(space, n.copies)
		n.remove(p)
		n.nothingIsLeft(space)
	})
}

// In a user namespace of its own a runtime is not root, and its plugins may make nothing.
func TestStatusTellsOfANodeWhereTapsCannotWork(t *testing.T) {
	without := exec.Command("true")
	without.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER}
	if err := without.Run(); err != nil {
		t.Skipf("no user namespace to be without root in: %v", err)
	}
	both(t, func(t *testing.T, name string) {
		n := newNode(t, name, network{})
		n.runtime.kill()
		n.runtime = startRuntime(t, n.host.Space, name, n.confDir, n.binDir, unix.CLONE_NEWUSER)
		if err := n.status(); err == nil || err.Code != cniconf.CodeUnavailable || !strings.Contains(err.Text, "taps cannot work on this node") {
			t.Errorf("STATUS: %+v", err)
		}
	})
}

func TestCheckTellsOfATapThatIsGone(t *testing.T) {
	both(t, func(t *testing.T, name string) {
		n := newNode(t, name, network{})
		p, space := n.sandbox("web", n.two())
		plain, other := n.sandbox("plain", "")
		n.add(p)
		n.add(plain)
		for _, p := range []pod{p, plain} {
			if err := n.check(p); err != nil {
				t.Errorf("CHECK of %s: %v", p.Name, err)
			}
		}
		space.Delete("far")
		if err := n.check(p); err == nil || err.Code != cniconf.CodeDrift || !strings.Contains(err.Text, "far") {
			t.Errorf("CHECK of a pod without its device far: %+v", err)
		}
		if err := n.check(plain); err != nil {
			t.Errorf("CHECK of the other pod: %v", err)
		}
		n.remove(p)
		n.remove(plain)
		n.nothingIsLeft(space, other)
	})
}
