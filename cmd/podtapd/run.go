package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	v1 "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/podtap/podtap/api/node"
	"github.com/podtap/podtap/internal/version"
	"github.com/podtap/podtap/pkg/agent"
	"github.com/podtap/podtap/pkg/install"
	"github.com/podtap/podtap/pkg/inventory"
	"github.com/podtap/podtap/pkg/mirror"
)

const exampleRun = `  podtapd run --node-name=worker1 --kubeconfig=$HOME/.kube/config
  podtapd run --cni-bin-dir=/var/lib/rancher/k3s/data/cni \
    --cni-conf-dir=/var/lib/rancher/k3s/agent/etc/cni/net.d \
    --runtime-endpoint=unix:///run/k3s/containerd/containerd.sock`

func runCommand() *cobra.Command {
	f := &nodeFlags{}
	c := &cobra.Command{
		Use: "run", Short: "Install podtap on this node, and keep it there", Long: about, Example: exampleRun,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			log, err := newLog(f.logLevel)
			if err != nil {
				return err
			}
			if err := f.check(); err != nil {
				return err
			}
			return run(c.Context(), f, log)
		},
	}
	f.add(c.Flags())
	return c
}

// run ends when ctx does, or with an error where a new process may do better.
func run(ctx context.Context, f *nodeFlags, log *slog.Logger) error {
	log.Info("podtapd", "version", version.String(), "node", f.nodeName)
	runtime, err := f.runtime()
	if err != nil {
		return err
	}
	conf := f.install(log, runtime)
	var installer *install.Installer
	agentConfig := agent.Config{
		Node: f.nodeName, Version: version.String(), PodUID: os.Getenv("POD_UID"),
		AgentSocket: f.agentSocket, APIAddress: f.apiAddress, MetricsAddress: f.metricsAddress,
		Inventory: inventory.Read, Kernel: remembered(kernel, time.Now), Log: log,
		Install:      func() node.Install { return installer.Status() },
		ChainedSince: func() time.Time { return installer.ChainedSince() },
		Plugin: func() node.Plugin {
			return node.Plugin{Path: filepath.Join(f.binDir, "podtap"), Digest: installer.Digest()}
		},
	}
	if runtime != nil {
		agentConfig.Runtime = runtime
	}
	taint, err := f.reachAPIServer(&agentConfig, log)
	if err != nil {
		return err
	}
	a, err := agent.New(agentConfig)
	if err != nil {
		return err
	}
	conf.Changed = func(s node.Install) {
		a.InstallChanged(s)
		if s.State == node.StateReady && taint != nil {
			taint.Remove(ctx)
		}
	}
	var working sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var failed error // the agent's; the kubelet shows what podtapd ends with
	// Another podtapd that is still at work has the sockets.
	conf.AtWork = func() {
		working.Go(func() {
			if failed = a.Run(ctx); failed != nil {
				cancel()
			}
		})
	}
	installer = install.New(conf)
	err = installer.Run(ctx)
	cancel()
	working.Wait()
	return errors.Join(failed, err)
}

// reachAPIServer gives the agent what it needs of the API server, where there is one, and
// makes the taint that is to be removed.
func (f *nodeFlags) reachAPIServer(c *agent.Config, log *slog.Logger) (*agent.Taint, error) {
	rest, err := restConfig(f.kubeconfig)
	if err != nil {
		log.Warn("there is no API server to talk to: the plugin's questions have no answer, and there are no events", "error", err)
		return nil, nil
	}
	if c.Kube, err = agent.NewKube(rest); err != nil {
		return nil, err
	}
	nodes, err := v1.NewForConfig(rest)
	if err != nil {
		return nil, err
	}
	return agent.NewTaint(nodes, f.nodeName, f.startupTaint, log), nil
}

// probeAgain is after how long a kernel is asked again that could not do it: it may
// have been for want of memory.
const probeAgain = time.Minute

// remembered asks for the kernel once, because a probe makes a network namespace; and
// again after a while where there was a problem.
func remembered(probe func() node.Kernel, now func() time.Time) func() node.Kernel {
	var mu sync.Mutex
	var known node.Kernel
	var at time.Time
	return func() node.Kernel {
		mu.Lock()
		defer mu.Unlock()
		if at.IsZero() || known.Problem != "" && now().Sub(at) >= probeAgain {
			known, at = probe(), now()
		}
		return known
	}
}

// kernel is what there is to say of the node's.
func kernel() node.Kernel {
	var k node.Kernel
	var name unix.Utsname
	if err := unix.Uname(&name); err == nil {
		release, _, _ := bytes.Cut(name.Release[:], []byte{0})
		k.Release = string(release)
	}
	if err := mirror.Probe(); err != nil {
		k.Problem = err.Error()
	}
	return k
}
