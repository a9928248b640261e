package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/podtap/podtap/api/node"
	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/cri"
)

func TestMain(m *testing.M) { lab.Main(m.Run, false) }

// runtimeStandIn is a container runtime as a test wants it.
type runtimeStandIn struct {
	mu        sync.Mutex
	sandboxes []cri.Sandbox
	host      map[string]bool
	err       error
	network   cri.Network
	asked     int // for the network of a sandbox
	listed    int
}

func (r *runtimeStandIn) set(sandboxes ...cri.Sandbox) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sandboxes = sandboxes
}

// fail makes it answer with an error.
func (r *runtimeStandIn) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
}

func (r *runtimeStandIn) Version(context.Context) (string, string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return "containerd", "2.2.9", r.err
}

func (r *runtimeStandIn) Sandboxes(context.Context) ([]cri.Sandbox, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.listed++
	return slices.Clone(r.sandboxes), r.err
}

func (r *runtimeStandIn) HostNetwork(_ context.Context, id string) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	host, known := r.host[id]
	if !known && r.host != nil {
		return false, fmt.Errorf("sandbox: %w", cri.ErrGone)
	}
	return host, r.err
}

func (r *runtimeStandIn) Network(context.Context) (cri.Network, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.network, r.network.Name != "", r.err
}

// sandbox is a pod's, ready and an hour old.
func sandbox(id, annotation string) cri.Sandbox {
	s := cri.Sandbox{ID: id, Namespace: "default", Name: "pod-" + id, UID: "uid-" + id, Ready: true, Created: time.Now().Add(-time.Hour)}
	if annotation != "" {
		s.Annotations = map[string]string{"podtap.io/taps": annotation}
	}
	return s
}

// config is one of an agent that has been chained for two hours, with nothing on its node.
func config() Config {
	return Config{
		Node: "worker1", Version: "v0.0.1",
		Inventory:    func() (node.Taps, error) { return node.Taps{}, nil },
		Install:      func() node.Install { return node.Install{State: node.StateReady} },
		Plugin:       func() node.Plugin { return node.Plugin{Path: "/opt/cni/bin/podtap"} },
		Kernel:       func() node.Kernel { return node.Kernel{Release: "6.18"} },
		ChainedSince: func() time.Time { return time.Now().Add(-2 * time.Hour) },
		Log:          slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
}

// newAgent makes an agent, with what a test changes in its configuration.
func newAgent(t *testing.T, change func(*Config)) *Agent {
	t.Helper()
	c := config()
	if change != nil {
		change(&c)
	}
	a, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.events.stop)
	return a
}

// patience bounds what a test waits for on a busy machine.
const patience = 30 * time.Second

// eventually waits until something is so.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came that %s", what)
		}
	}
}

// sockets is a folder for sockets, whose paths must be short.
func sockets(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/run", "agent-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestAnAgentNeedsItsFunctions(t *testing.T) {
	for what, drop := range map[string]func(*Config){
		"Inventory": func(c *Config) { c.Inventory = nil }, "Install": func(c *Config) { c.Install = nil },
		"Plugin": func(c *Config) { c.Plugin = nil }, "Kernel": func(c *Config) { c.Kernel = nil },
		"ChainedSince": func(c *Config) { c.ChainedSince = nil },
	} {
		c := config()
		drop(&c)
		if _, err := New(c); err == nil {
			t.Errorf("without %s there is an agent", what)
		}
	}
}

func TestAnAgentThatRunsServesAndSweepsUntilItsContextEnds(t *testing.T) {
	dir := sockets(t)
	r := &runtimeStandIn{sandboxes: []cri.Sandbox{sandbox("other", "")}}
	a := newAgent(t, func(c *Config) {
		c.AgentSocket, c.APIAddress, c.MetricsAddress, c.Runtime = filepath.Join(dir, "agent.sock"), "127.0.0.1:971", "127.0.0.1:9711", r
		c.Kube = kubeWith(pod("web", "web-0", "1-2", map[string]string{"podtap.io/taps": "veth: {}"}))
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	eventually(t, "the API answers", func() bool { return get(t, "http://127.0.0.1:971/healthz").code == 200 })
	eventually(t, "the metrics answer", func() bool { return get(t, "http://127.0.0.1:9711/metrics").code == 200 })
	if got := get(t, "http://127.0.0.1:9711/v1/taps"); got.code != 404 {
		t.Errorf("the metrics' address tells of taps: %d %s", got.code, got.body)
	}
	eventually(t, "the plugin has an answer", func() bool {
		got, err := ask(t, a.AgentSocket, "1-2")
		return err == nil && got["podtap.io/taps"] == "veth: {}"
	})
	eventually(t, "it sweeps", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.listed > 0
	})
	cancel()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(leave + patience):
		t.Fatal("Run goes on")
	}
	if got := get(t, "http://127.0.0.1:971/healthz"); got.err == nil {
		t.Error("the API answers after Run has ended")
	}
}

// Neither a runtime nor an API server: taps are served all the same.
func TestAnAgentWithoutRuntimeAndAPIServerSaysSo(t *testing.T) {
	a := newAgent(t, nil)
	if _, _, err := a.lookUp(t.Context(), question("web", "web-0", "1-2")); err == nil || !strings.Contains(err.Error(), "without an API server") {
		t.Errorf("a question has the answer %v", err)
	}
	a.NodeEvent("Warning", "Conflict", "nobody reads this")
	a.failed(failureOf("c1", 100, true))
	if r, err := a.askRuntime(); err != nil || !strings.Contains(r.Problem, "no runtime endpoint") {
		t.Errorf("the runtime is %+v, error %v", r, err)
	}
}

func TestAPartThatEndsIsBegunAgain(t *testing.T) {
	a := newAgent(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	times := 0
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.keep(ctx, "a part", func(context.Context) error {
			if times++; times == 2 {
				cancel()
			}
			if times == 1 {
				panic("odd data")
			}
			return errors.New("failed")
		})
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("it was not begun again")
	}
	if times != 2 {
		t.Errorf("it was begun %d times", times)
	}
}

func TestARoundThatFailsOrPanicsIsFollowedByTheNext(t *testing.T) {
	a := newAgent(t, nil)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	rounds := 0
	a.every(ctx, "task", 0, time.Millisecond, func(ctx context.Context) error {
		if _, bounded := ctx.Deadline(); !bounded {
			t.Error("a round has no deadline")
		}
		switch rounds++; rounds {
		case 1:
			panic("odd data")
		case 2:
			return errors.New("failed")
		}
		cancel()
		return nil
	})
	if rounds != 3 {
		t.Errorf("%d rounds", rounds)
	}
}

func TestALoopThatIsNotSeenForLongIsStuck(t *testing.T) {
	var h health
	h.beat("sweep")
	if s := h.stuck(time.Now()); len(s) > 0 {
		t.Errorf("at once %v is stuck", s)
	}
	if s := h.stuck(time.Now().Add(stuckAfter + time.Minute)); !slices.Equal(s, []string{"sweep"}) {
		t.Errorf("later %v is stuck", s)
	}
}
