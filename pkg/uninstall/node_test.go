package uninstall

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/cri"
	"github.com/podtap/podtap/pkg/install"
	"github.com/podtap/podtap/pkg/mirror"
	"github.com/podtap/podtap/pkg/tap"
)

const chained = `{"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"bridge"},{"type":"podtap"}]}`

// runtimeStandIn is a runtime that says what it is, and has loaded the network
// without podtap.
type runtimeStandIn string

func (r runtimeStandIn) Version(context.Context) (string, string, error) { return string(r), "1", nil }
func (r runtimeStandIn) Network(context.Context) (cri.Network, bool, error) {
	return cri.Network{Name: "pods", Plugins: []string{"bridge"}}, true, nil
}

// behindMultus is containerd with Multus, whose network has the name of the one that it
// calls.
type behindMultus struct{ runtimeStandIn }

func (behindMultus) Network(context.Context) (cri.Network, bool, error) {
	return cri.Network{Name: "pods", Plugins: []string{"multus"}}, true, nil
}

// folders are those of a node on which podtap is installed.
func folders(t *testing.T) (c install.Config, cache string) {
	t.Helper()
	dir := t.TempDir()
	c = install.Config{BinDir: filepath.Join(dir, "bin"), ConfDir: filepath.Join(dir, "net.d"), RunDir: filepath.Join(dir, "run"),
		AgentSocket: filepath.Join(dir, "run", "agent.sock"), InFlight: time.Millisecond, Log: quiet}
	cache = filepath.Join(dir, "cache")
	for path, text := range map[string]string{filepath.Join(c.BinDir, "podtap"): "the plugin", filepath.Join(c.ConfDir, "10-pods.conflist"): chained} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return c, cache
}

func TestANodeIsAsItWasBeforePodtap(t *testing.T) {
	node := lab.NewNetwork(t, "", 1500).Host("node")
	pod := node.Pod("pod", 1450)
	before := node.Snapshot() + pod.Snapshot()
	taps, err := tap.Parse([]byte(`[{device: near, veth: {}}, {device: far, vxlan: {vni: 1, remote: 198.18.0.9}}, {device: wire, wire: {}}]`))
	if err == nil {
		err = tap.Complete(taps, "eth0", func(string) bool { return false })
	}
	if err != nil {
		t.Fatal(err)
	}
	c, cache := folders(t)
	node.Do(func() error {
		n, err := mirror.OpenNode()
		if err != nil {
			return err
		}
		defer n.Close()
		p, err := n.OpenPod(pod.Path())
		if err != nil {
			return err
		}
		defer p.Close()
		for _, tap := range taps {
			if _, err := p.Add(mirror.Owner{Source: mirror.SourceCNI, Network: "pods", ContainerID: "c1", IfName: "eth0"}, tap, "default/web"); err != nil {
				return err
			}
		}
		if node.Snapshot()+pod.Snapshot() == before {
			t.Error("there are no taps to remove")
		}
		return Node(t.Context(), c, runtimeStandIn("containerd"), cache, quiet)
	})
	if after := node.Snapshot() + pod.Snapshot(); after != before {
		t.Errorf("node and pod are\n%s\nwant\n%s", after, before)
	}
	if _, err := os.Stat(filepath.Join(c.BinDir, "podtap")); !os.IsNotExist(err) {
		t.Errorf("the plugin is still there: %v", err)
	}
	text, err := os.ReadFile(filepath.Join(c.ConfDir, "10-pods.conflist"))
	if want := strings.Replace(chained, `,{"type":"podtap"}`, "", 1); err != nil || string(text) != want {
		t.Errorf("the configuration is %s, %v", text, err)
	}
}

func TestThePluginStaysForPodsWhoseDeletionCallsIt(t *testing.T) {
	node := lab.NewNetwork(t, "", 1500).Host("node")
	for name, c := range map[string]struct {
		runtime Runtime
		network string
		stays   bool
	}{
		"containerd, of its own network": {runtimeStandIn("containerd"), "pods", false},
		"containerd, of Multus'":         {runtimeStandIn("containerd"), "wire", true},
		"Multus', under its name":        {behindMultus{"containerd"}, "pods", true},
		"CRI-O":                          {runtimeStandIn("cri-o"), "pods", true},
		"an unknown runtime":             {nil, "pods", true},
	} {
		t.Run(name, func(t *testing.T) {
			conf, cache := folders(t)
			text, err := json.Marshal(map[string]any{"containerId": "c1", "networkName": c.network, "config": []byte(chained)})
			if err == nil {
				err = os.MkdirAll(cache, 0o755)
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(cache, "result"), text, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			node.Do(func() error { return Node(t.Context(), conf, c.runtime, cache, quiet) })
			if _, err := os.Stat(filepath.Join(conf.BinDir, "podtap")); (err == nil) != c.stays {
				t.Errorf("the plugin: %v; it has to stay: %v", err, c.stays)
			}
		})
	}
}
