package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/containernetworking/plugins/pkg/ns"
)

// The plugins' names, which are those of their programs.
const (
	podtap    = "podtap"
	bandwidth = "bandwidth"
	reference = "reference"
)

// callTimeout bounds one call of a plugin.
const callTimeout = time.Minute

// caller calls single plugins through libcni, as a container runtime does for
// each plugin of a chain, and times their processes.
type caller struct {
	cni   *libcni.CNIConfig
	watch *stopwatch
}

func newCaller(bin string) *caller {
	w := &stopwatch{RawExec: &invoke.RawExec{}} // what plugins log goes nowhere
	// The cache is in the lab's own /run, so that it goes with this program.
	return &caller{watch: w, cni: libcni.NewCNIConfigWithCacheDir([]string{bin}, filepath.Join("/run", "cni-cache"), w)}
}

// stopwatch runs plugins as libcni does by default, and takes the time. So
// libcni's own work, JSON and its cache, is not in it.
type stopwatch struct {
	*invoke.RawExec
	version.PluginDecoder
	took time.Duration
}

// ExecPlugin is libcni's way to run a plugin.
func (w *stopwatch) ExecPlugin(ctx context.Context, path string, stdin []byte, environment []string) ([]byte, error) {
	begin := time.Now()
	out, err := w.RawExec.ExecPlugin(ctx, path, stdin, environment)
	w.took = time.Since(begin)
	return out, err
}

// call does one verb of a case and returns how long its process took.
func (c *caller) call(k *trial, verb string) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	c.watch.took = 0
	err := k.at.inNode(func() error { return c.do(ctx, k, verb) })
	if err == nil && c.watch.took == 0 {
		err = errors.New("libcni ran no plugin")
	}
	if err != nil {
		return 0, fmt.Errorf("%s of the case %q: %w", verb, k.Name, err)
	}
	return c.watch.took, nil
}

func (c *caller) do(ctx context.Context, k *trial, verb string) error {
	switch verb {
	case "VERSION":
		_, err := c.cni.GetVersionInfo(ctx, k.plugin)
		return err
	case "ADD":
		return c.add(ctx, k)
	case "CHECK":
		return c.cni.CheckNetwork(ctx, k.config, k.runtime)
	case "DEL":
		return c.cni.DelNetwork(ctx, k.config, k.runtime)
	}
	return errors.New("no such verb")
}

// add calls ADD and looks whether the result tells of all the node's devices.
func (c *caller) add(ctx context.Context, k *trial) error {
	answer, err := c.cni.AddNetwork(ctx, k.config, k.runtime)
	if err != nil {
		return err
	}
	result, err := current.GetResult(answer)
	if err != nil {
		return err
	}
	if got := len(result.Interfaces) - bridgeInterfaces; got != k.want.result {
		return fmt.Errorf("the result has %d devices more than the bridge's, not %d", got, k.want.result)
	}
	return nil
}

// inNode runs a function on a thread in the node's network namespace, which the
// plugins' processes inherit.
func (p *place) inNode(f func() error) error {
	if p == nil {
		return f()
	}
	return p.node.NetNS.Do(func(ns.NetNS) error { return f() })
}

// program is the lab's T outside of a test. What the lab builds ends with this
// program, so there is nothing to clean up, and a failure may end it at once.
type program struct{}

func (program) Helper() {}

func (program) Fatalf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: "+format+"\n", args...)
	os.Exit(1)
}

func (program) Logf(format string, args ...any) { progress(format, args...) }

func (program) Cleanup(func()) {}

func (program) TempDir() string { return "/run" }
