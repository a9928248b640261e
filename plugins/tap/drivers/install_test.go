package drivers

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	podtapd "github.com/podtap/podtap/api/node"
	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/install"
	"github.com/podtap/podtap/pkg/mirror"
)

// installation is where podtapd puts podtap on the node.
func (n *node) installation() install.Config {
	n.t.Helper()
	dir := n.t.TempDir()
	settings := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(settings, []byte("policy: {rules: [{sinks: [veth, vxlan], destinations: [198.18.0.0/24]}]}\n"), 0o600); err != nil {
		n.t.Fatal(err)
	}
	return install.Config{Plugin: filepath.Join(lab.Plugins(), "podtap"), BinDir: n.binDir, ConfDir: n.confDir, Settings: settings,
		AgentSocket: filepath.Join(dir, "agent.sock"), RunDir: filepath.Join(dir, "run"), InFlight: 1, Log: slog.New(slog.DiscardHandler)}
}

// newPods waits until new pods that ask for taps get them, or do not. Each pod in
// between has to start, and to end, as well.
func (n *node) newPods(tapped bool, prefix string) {
	n.t.Helper()
	n.load()
	number := 0
	n.eventually(fmt.Sprintf("new pods are tapped: %t", tapped), func() bool {
		number++
		p, space := n.sandbox(fmt.Sprintf("%s%d", prefix, number), n.two())
		defer space.Destroy()
		n.add(p)
		defer n.remove(p)
		return space.Has("far") == tapped
	})
}

// uninstall is what podtapd does in the end, where it knows the runtime: of containerd's
// own network nobody will need the plugin.
func (n *node) uninstall(conf install.Config) {
	n.t.Helper()
	var today []string
	if n.name == "containerd" {
		today = []string{"pods"}
	}
	err := install.Uninstall(context.Background(), conf, func(context.Context) (keepPlugin bool, err error) {
		n.sweep(func(mirror.Trace) bool { return true })
		needed, err := install.StillNeeded(cache, today...)
		return needed > 0, err
	})
	if err != nil {
		n.t.Fatalf("uninstall podtap: %v", err)
	}
}

// ocicni's watch sees podtapd's renames in the folder; of containerd's the tests in a
// cluster tell, here it is told to load.
func TestPodsAreTappedOncePodtapIsInstalledAndUntilItIsUninstalled(t *testing.T) {
	both(t, func(t *testing.T, name string) {
		for _, file := range []string{listName, "10-pods.conf"} {
			t.Run(file, func(t *testing.T) {
				n := bareNode(t, name)
				text := network{bare: true}.text(n.leases)
				if file != listName { // a network of one plugin
					text = `{"cniVersion":"1.0.0","name":"pods",` + bridge(0, n.leases) + "}\n"
				}
				n.write(file, text)
				n.begin()
				before, first := n.sandbox("before", n.two())
				n.add(before)
				n.untouched(first)

				conf := n.installation()
				installer := install.New(conf)
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				done := make(chan error, 1)
				go func() { done <- installer.Run(ctx) }()
				n.eventually("podtap is installed", func() bool { return installer.Status().State == podtapd.StateReady })
				n.newPods(true, "chained")
				during, second := n.sandbox("during", n.two())
				n.add(during)
				n.pinged(second, n.copies)
				n.untouched(first)
				cancel()
				if err := <-done; err != nil {
					t.Errorf("the installer ended with %v", err)
				}

				n.uninstall(conf)
				if got, err := os.ReadFile(filepath.Join(n.confDir, file)); err != nil || string(got) != text {
					t.Errorf("the configuration is %q, %v; it was %q", got, err, text)
				}
				n.untouched(second)
				n.newPods(false, "unchained")
				// CRI-O calls the plugin to delete a pod that was added with it.
				if _, err := os.Stat(filepath.Join(n.binDir, "podtap")); (err == nil) != (name == "CRI-O") {
					t.Errorf("of the plugin in the runtime's folder: %v", err)
				}
				n.remove(before)
				n.remove(during)
				n.nothingIsLeft(first, second)
			})
		}
	})
}
