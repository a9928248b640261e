package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"

	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/podtap/podtap/api/node"
	"github.com/podtap/podtap/pkg/cniconf"
	"github.com/podtap/podtap/pkg/cri"
	"github.com/podtap/podtap/pkg/install"
)

// runDir is podtap's own folder on the node: locks, the agent's socket.
const runDir = "/run/podtap"

// nodeFlags are those of everything that podtapd does on a node. Uninstalling takes
// the same as running, so that one DaemonSet can be turned into the other.
type nodeFlags struct {
	binDir, confDir, plugin, settings string
	endpoint, agentSocket             string
	apiAddress, metricsAddress        string
	startupTaint, nodeName            string
	kubeconfig, logLevel              string
}

func (f *nodeFlags) add(s *pflag.FlagSet) {
	s.StringVar(&f.binDir, "cni-bin-dir", "/opt/cni/bin", "the `folder` that the runtime has network plugins in")
	s.StringVar(&f.confDir, "cni-conf-dir", "/etc/cni/net.d", "the `folder` that the runtime has network configurations in")
	s.StringVar(&f.plugin, "plugin", "/podtap", "the plugin's `file`, to be installed")
	s.StringVar(&f.settings, "config", "/etc/podtap/config.yaml", "the `file` that has policy, failurePolicy, taps and log for all nodes; it is followed")
	s.StringVar(&f.endpoint, "runtime-endpoint", "unix:///run/containerd/containerd.sock", "the runtime's CRI `socket`; \"\" for none, which leaves its part out")
	s.StringVar(&f.agentSocket, "agent-socket", cniconf.DefaultAgentSocket, "the `socket` on which the plugin asks")
	s.StringVar(&f.apiAddress, "api-address", node.DefaultAddress, "the `address` of probes, and of the API, which answers root's connections only")
	s.StringVar(&f.metricsAddress, "metrics-address", "", "an `address` on which metrics are open to everybody who reaches it; without, they are part of the API")
	s.StringVar(&f.startupTaint, "startup-taint", "", "the `key` of a taint to remove from the node once podtap is ready")
	s.StringVar(&f.nodeName, "node-name", os.Getenv("NODE_NAME"), "the node's `name`; default $NODE_NAME")
	s.StringVar(&f.kubeconfig, "kubeconfig", "", "a kubeconfig `file`; by default the pod's own account")
	s.StringVar(&f.logLevel, "log-level", "info", "`level`: debug, info, warn or error")
}

// restConfig is how the API server is reached.
func restConfig(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" {
		return rest.InClusterConfig()
	}
	return clientcmd.BuildConfigFromFlags("", kubeconfig)
}

// install is what the installer needs.
func (f *nodeFlags) install(log *slog.Logger, runtime *cri.Client) install.Config {
	c := install.Config{
		Plugin: f.plugin, BinDir: f.binDir, ConfDir: f.confDir, Settings: f.settings,
		AgentSocket: f.agentSocket, RunDir: runDir, Log: log,
	}
	if runtime != nil {
		c.Loaded = func(ctx context.Context) (install.Loaded, error) {
			n, known, err := runtime.Network(ctx)
			l := install.Loaded{Known: known, Network: n.Name, Chain: n.Plugins}
			if len(n.Configs) > 0 && n.Configs[0] != "" {
				l.First = []byte(n.Configs[0])
			}
			if at := slices.Index(n.Plugins, "podtap"); at >= 0 && n.Configs[at] != "" {
				l.Entry = []byte(n.Configs[at])
			}
			return l, err
		}
	}
	return c
}

// runtime is the client for the runtime; nil where there is to be none.
func (f *nodeFlags) runtime() (*cri.Client, error) {
	if f.endpoint == "" {
		return nil, nil
	}
	c, err := cri.Open(f.endpoint)
	if err != nil {
		return nil, fmt.Errorf("--runtime-endpoint: %w", err)
	}
	return c, nil
}

func (f *nodeFlags) check() error {
	if f.nodeName == "" {
		return errors.New("the node's name is unknown: set NODE_NAME, or --node-name")
	}
	return nil
}
