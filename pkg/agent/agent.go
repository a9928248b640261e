// Package agent is what podtapd does with pods: it answers the plugin's questions,
// takes away what no DEL will come for, compares what pods asked for with what the
// kernel has, and tells of it all in metrics, events and a small API. What it needs of
// the node it is given as functions; it keeps nothing that a restart would miss.
package agent

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	api "github.com/podtap/podtap/api/agent"
	"github.com/podtap/podtap/api/node"
	"github.com/podtap/podtap/pkg/cniconf"
	"github.com/podtap/podtap/pkg/cri"
)

const (
	// sweepEvery and compareEvery are the pauses between two sweeps, and comparisons.
	sweepEvery   = time.Minute
	compareEvery = 30 * time.Second
	// firstComparison leaves the installation a moment to say since when podtap is chained.
	firstComparison = 5 * time.Second
	// roundTimeout bounds one sweep or comparison, as far as it can be stopped.
	roundTimeout = 2 * time.Minute
	// leave is how long Run waits for its loops to end. What they do may be cut short
	// at any step.
	leave = 5 * time.Second
	// bindWithin is how long another process may have the API's address: an earlier
	// podtapd that is about to end, say.
	bindWithin = time.Minute
)

// Runtime is the node's container runtime; cri.Client is one.
type Runtime interface {
	Version(ctx context.Context) (name, version string, err error)
	Sandboxes(ctx context.Context) ([]cri.Sandbox, error)
	HostNetwork(ctx context.Context, id string) (bool, error)
	Network(ctx context.Context) (n cri.Network, ok bool, err error)
}

// Config is what an Agent works with. The functions may be called at the same time.
type Config struct {
	Node    string // its name
	Version string // podtapd's
	PodUID  string // of podtapd's own pod, to know its runtime by; "" where it is unknown

	AgentSocket    string // where the plugin asks; default cniconf.DefaultAgentSocket
	APIAddress     string // of the HTTP API; default node.DefaultAddress
	MetricsAddress string // where metrics are open to whoever can connect; "" = nowhere

	Runtime Runtime // nil: nothing of an owner that DEL forgot is swept, nothing compared
	Kube    *Kube   // nil: questions have no answer, and there are no events

	Inventory func() (node.Taps, error) // the taps of the node; may return both
	Install   func() node.Install
	Plugin    func() node.Plugin
	Kernel    func() node.Kernel
	// ChainedSince is since when podtap is in the network's chain without a gap; zero
	// where it is not.
	ChainedSince func() time.Time

	Log *slog.Logger
}

// Agent is podtapd's part that has to do with pods.
type Agent struct {
	Config
	taps     *cached[node.Taps]
	runtime  *cached[node.Runtime]
	failures failures
	events   *events
	metrics  *metrics
	health   health
	suspects suspects
	compared comparison

	installation installation
	others       others

	bindWithin time.Duration
}

// New makes an agent. It does nothing yet but to take up events; Run has to follow.
func New(c Config) (*Agent, error) {
	if c.Inventory == nil || c.Install == nil || c.Plugin == nil || c.Kernel == nil || c.ChainedSince == nil {
		return nil, errors.New("an agent needs Inventory, Install, Plugin, Kernel and ChainedSince")
	}
	if c.AgentSocket == "" {
		c.AgentSocket = cniconf.DefaultAgentSocket
	}
	if c.APIAddress == "" {
		c.APIAddress = node.DefaultAddress
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	a := &Agent{Config: c, events: newEvents(c.Node, c.Kube), bindWithin: bindWithin}
	a.taps = &cached[node.Taps]{read: c.Inventory}
	a.runtime = &cached[node.Runtime]{read: a.askRuntime}
	a.metrics = newMetrics(a)
	return a, nil
}

// Run does the agent's work until ctx ends. A part of it that fails is logged and
// begun anew. There is an error only where the API's address is another's: the kubelet
// would ask that one for podtapd's health.
func (a *Agent) Run(ctx context.Context) error {
	defer a.events.stop()
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var parts sync.WaitGroup
	parts.Go(func() { a.keep(ctx, "the plugin's socket", a.servePlugin) })
	parts.Go(func() { a.keep(ctx, "the API", func(ctx context.Context) error { return a.serveAPI(ctx, fail) }) })
	if a.MetricsAddress != "" {
		parts.Go(func() { a.keep(ctx, "the metrics' address", a.serveMetrics) })
	}
	parts.Go(func() { a.every(ctx, "sweep", 0, sweepEvery, a.sweep) })
	parts.Go(func() { a.keep(ctx, "the paths to collectors", a.followPaths) })
	if a.Runtime != nil {
		parts.Go(func() { a.every(ctx, "comparison", firstComparison, compareEvery, a.compare) })
	}
	<-ctx.Done()
	ended := make(chan struct{})
	go func() {
		parts.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-time.After(leave):
	}
	if cause := context.Cause(ctx); errors.Is(cause, errBind) {
		return cause
	}
	return nil
}

// servePlugin answers the plugin until ctx ends.
func (a *Agent) servePlugin(ctx context.Context) error {
	l, err := api.Listen(a.AgentSocket)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	return api.Serve(l, a.answer, a.failed)
}

// NodeEvent tells of something about the node, as an event of it: of kind Normal or Warning. The same reason and
// message are told again only where the event is forgotten meanwhile.
func (a *Agent) NodeEvent(kind, reason, message string) { a.events.ofNode(kind, reason, message) }
