package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"github.com/podtap/podtap/api/node"
)

const (
	// apiAge is how old an answer of the API may be, so that asking often costs no
	// more than asking once a second.
	apiAge = time.Second
	// apiTimeout bounds what an answer waits for.
	apiTimeout = 20 * time.Second
	// Limits of the servers. Whoever can connect may hold a connection for no longer
	// than a request takes that is sent at once.
	headerTimeout  = time.Second
	requestTimeout = 2 * time.Second
	writeTimeout   = 30 * time.Second
	idleTimeout    = time.Minute
	maxHeader      = 16 << 10 // bytes
	maxConnections = 1024
	// maxScrapes is how many scrapes are served at once.
	maxScrapes = 4
)

// Handler serves the API and the metrics to root, and to podtapd's own user, on this
// node; /healthz and /readyz to everybody who can connect.
func (a *Agent) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", a.serveHealth)
	mux.HandleFunc("GET /readyz", a.serveReady)
	mux.Handle("GET "+node.PathTaps, a.rootOnly(a.serveTaps))
	mux.Handle("GET "+node.PathReport, a.rootOnly(a.serveReport))
	mux.Handle("GET /metrics", a.rootOnly(a.MetricsHandler().ServeHTTP))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Only root's connections are kept: others could use them all up.
		w.Header().Set("Connection", "close")
		mux.ServeHTTP(w, r)
	})
}

// MetricsHandler serves the metrics to everybody who can connect.
func (a *Agent) MetricsHandler() http.Handler {
	return promhttp.HandlerFor(a.metrics.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError,
		MaxRequestsInFlight: maxScrapes, Timeout: apiTimeout})
}

// errBind says that the API's address was another process's for too long.
var errBind = errors.New("podtapd cannot have its API's address")

// serveAPI serves the API until ctx ends. Where it cannot, for want of the address, it
// makes the agent fail.
func (a *Agent) serveAPI(ctx context.Context, fail context.CancelCauseFunc) error {
	for end := time.Now().Add(a.bindWithin); ; {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", a.APIAddress)
		if err == nil {
			return a.serveOn(ctx, l, a.Handler())
		}
		var mistaken *net.AddrError // then no time will help
		if ctx.Err() == nil && (time.Now().After(end) || errors.As(err, &mistaken)) {
			err = fmt.Errorf("%w: %w", errBind, err)
			fail(err)
		}
		if ctx.Err() != nil || !sleep(ctx, min(retryFirst, a.bindWithin)) {
			return err
		}
		a.Log.Warn("podtapd cannot serve the API yet, and tries again", "error", err)
	}
}

func (a *Agent) serveMetrics(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", a.MetricsHandler())
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", a.MetricsAddress)
	if err != nil {
		return err
	}
	return a.serveOn(ctx, l, mux)
}

// serveOn serves until ctx ends.
func (a *Agent) serveOn(ctx context.Context, l net.Listener, h http.Handler) error {
	s := &http.Server{Handler: h, ReadHeaderTimeout: headerTimeout, ReadTimeout: requestTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader}
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	return s.Serve(netutil.LimitListener(l, maxConnections))
}

// rootOnly keeps from others what is told of all pods. The API has no secret to show:
// who may read what is the kernel's to say, as with a file.
func (a *Agent) rootOnly(next http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := mayRead(r); err != nil {
			http.Error(w, fmt.Sprintf("%s is for root on this node: %v", r.URL.Path, err), http.StatusForbidden)
			return
		}
		w.Header().Del("Connection")
		next(w, r)
	})
}

func mayRead(r *http.Request) error {
	here, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return errors.New("the connection is unknown")
	}
	local, err := netip.ParseAddrPort(here.String())
	remote, errRemote := netip.ParseAddrPort(r.RemoteAddr)
	if err := errors.Join(err, errRemote); err != nil {
		return err
	}
	uid, err := peerUID(local, remote)
	if err == nil && uid != 0 && uid != os.Geteuid() {
		err = fmt.Errorf("the connection is user %d's", uid)
	}
	return err
}

func (a *Agent) serveHealth(w http.ResponseWriter, _ *http.Request) {
	if stuck := a.health.stuck(time.Now()); len(stuck) > 0 {
		http.Error(w, "stuck: "+strings.Join(stuck, ", "), http.StatusServiceUnavailable)
		return
	}
	_, _ = fmt.Fprintln(w, "ok")
}

func (a *Agent) serveReady(w http.ResponseWriter, _ *http.Request) {
	install := a.Install()
	if install.State != node.StateReady {
		http.Error(w, fmt.Sprintf("%s: %s", install.State, install.Message), http.StatusServiceUnavailable)
		return
	}
	_, _ = fmt.Fprintln(w, "ok")
}

func (a *Agent) serveTaps(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), apiTimeout)
	defer cancel()
	taps, err := a.taps.get(ctx, apiAge)
	if ctx.Err() != nil {
		http.Error(w, "the taps cannot be read: "+err.Error(), http.StatusServiceUnavailable)
		return
	}
	if err != nil && len(taps.Errors) == 0 {
		taps.Errors = strings.Split(err.Error(), "\n")
	}
	// Empty lists, for programs that go through them.
	if taps.Taps == nil {
		taps.Taps = []node.Tap{}
	}
	if taps.Senders == nil {
		taps.Senders = []node.Sender{}
	}
	writeJSON(w, taps)
}

func (a *Agent) serveReport(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), apiTimeout)
	defer cancel()
	report := node.Report{Node: a.Node, Podtapd: a.Version, Arch: runtime.GOARCH, Install: a.Install(), Plugin: a.Plugin(), Kernel: a.Kernel(), Pods: a.compared.untapped()}
	var err error
	if report.Runtime, err = a.runtime.get(ctx, apiAge); err != nil {
		report.Runtime.Problem = err.Error()
	}
	if report.Pods == nil {
		report.Pods = []node.Pod{}
	}
	writeJSON(w, report)
}

// askRuntime asks the container runtime what there is to report of it.
func (a *Agent) askRuntime() (node.Runtime, error) {
	if a.Runtime == nil {
		return node.Runtime{Problem: "podtapd was given no runtime endpoint"}, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), apiTimeout)
	defer cancel()
	name, version, err := a.Runtime.Version(ctx)
	if err != nil {
		return node.Runtime{}, err
	}
	out := node.Runtime{Name: name, Version: version}
	n, ok, err := a.Runtime.Network(ctx)
	out.Problem = n.Problem
	switch {
	case err != nil:
		out.Problem = err.Error()
	case ok:
		out.Network, out.Chain = n.Name, n.Plugins
	}
	return out, nil
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	_ = e.Encode(v) // who does not wait for it does not need it
}
