package agent

import (
	"runtime"
	"slices"
	"strconv"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/podtap/podtap/api/node"
	"github.com/podtap/podtap/pkg/cniconf"
)

// metrics are podtapd's, in a registry of their own.
type metrics struct {
	registry  *prometheus.Registry
	questions *prometheus.CounterVec
	errors    *prometheus.CounterVec
	swept     prometheus.Counter
}

// codes are those of ADD's errors; any other counts as other.
var codes = []uint{types.ErrInvalidEnvironmentVariables, types.ErrIOFailure, types.ErrDecodingFailure, types.ErrInvalidNetworkConfig,
	types.ErrInvalidNetNS, types.ErrTryAgainLater, cniconf.CodePolicy, cniconf.CodeInterface, cniconf.CodeMTU, cniconf.CodeUnsupported, cniconf.CodeAnnotation}

const otherCode = "other"

func newMetrics(a *Agent) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		questions: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "podtap_agent_questions_total",
			Help: "Questions of the plugin for a pod's annotations, by what became of them."}, []string{"result"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "podtap_errors_total",
			Help: "Taps that the plugin could not make or refused, as far as it could tell podtapd, by CNI error code."}, []string{"code"}),
		swept: prometheus.NewCounter(prometheus.CounterOpts{Name: "podtap_swept_total",
			Help: "Attachments of pods that were gone, whose taps podtapd took away."}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: "podtap_build_info", Help: "Always 1; the labels tell podtapd's version.",
		ConstLabels: prometheus.Labels{"version": label(a.Version), "goversion": runtime.Version()}})
	build.Set(1)
	// Series that are there from the start, so that a rate sees their first step.
	for _, r := range results {
		m.questions.WithLabelValues(r)
	}
	for _, c := range codes {
		m.errors.WithLabelValues(strconv.FormatUint(uint64(c), 10))
	}
	m.errors.WithLabelValues(otherCode)
	m.registry.MustRegister(build, m.questions, m.errors, m.swept, &stateCollector{a}, &tapCollector{a},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) failed(code uint) {
	label := otherCode
	if slices.Contains(codes, code) {
		label = strconv.FormatUint(uint64(code), 10)
	}
	m.errors.WithLabelValues(label).Inc()
}

var (
	states = []node.State{node.StateStarting, node.StateStandby, node.StateNoNetwork, node.StateUnsupported, node.StateFailing,
		node.StateConflict, node.StateReady}
	reasons = []node.Reason{node.ReasonHostNetwork, node.ReasonNotChained, node.ReasonRemoved, node.ReasonFailed, node.ReasonMissing}

	descState = prometheus.NewDesc("podtap_install_state",
		"How far the installation on the node has come: 1 for the state that it is in, 0 for the others.", []string{"state"}, nil)
	descRewrites = prometheus.NewDesc("podtap_install_rewrites_total",
		"How often podtapd has written its entry into the network configuration.", nil, nil)
	descUntapped = prometheus.NewDesc("podtap_pods_untapped",
		"Running pods whose taps are not what their annotation asks for, by reason.", []string{"reason"}, nil)
)

// stateCollector tells of the installation and of the last comparison.
type stateCollector struct{ agent *Agent }

// Describe implements prometheus.Collector.
func (c *stateCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- descState
	ch <- descRewrites
	ch <- descUntapped
}

// Collect implements prometheus.Collector.
func (c *stateCollector) Collect(ch chan<- prometheus.Metric) {
	install := c.agent.Install()
	for _, s := range states {
		is := 0.0
		if s == install.State {
			is = 1
		}
		ch <- prometheus.MustNewConstMetric(descState, prometheus.GaugeValue, is, string(s))
	}
	ch <- prometheus.MustNewConstMetric(descRewrites, prometheus.CounterValue, float64(install.Rewrites))
	n := map[node.Reason]int{}
	for _, p := range c.agent.compared.untapped() {
		n[p.Reason]++
	}
	for _, r := range reasons {
		ch <- prometheus.MustNewConstMetric(descUntapped, prometheus.GaugeValue, float64(n[r]), string(r))
	}
}
