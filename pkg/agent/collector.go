package agent

import (
	"context"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/podtap/podtap/pkg/tap"
)

const (
	// scrapeAge is how old the counts of a scrape may be, so that several scrapers
	// cost no more than one.
	scrapeAge = 5 * time.Second
	// scrapeTimeout bounds the reading of the kernel for a scrape; Prometheus waits
	// for 10 s by default.
	scrapeTimeout = 8 * time.Second
	// maxSeries bounds the series of each kind; what is beyond is summed up.
	maxSeries = 1000
	// otherPod is the pod of the sum of what has no series of its own.
	otherPod = "_other"
	// maxLabel is the longest label in bytes: Kubernetes' longest name.
	maxLabel = 253
)

var (
	descTaps  = prometheus.NewDesc("podtap_taps", "Taps on the node, by sink.", []string{"sink"}, nil)
	descWhole = prometheus.NewDesc("podtap_inventory_complete",
		"1 where all taps of the node could be read for this scrape, 0 where something is left out.", nil, nil)
	descSent       = prometheus.NewDesc("podtap_sender_sent_packets_total", "Copies that a VXLAN device has sent.", []string{"device", "destination"}, nil)
	descSenderLost = prometheus.NewDesc("podtap_sender_dropped_packets_total", "Copies that were lost in or before a VXLAN device, by reason.",
		[]string{"device", "destination", "reason"}, nil)
)

// tapCollector reads the node's taps at each scrape.
type tapCollector struct{ agent *Agent }

// Describe implements prometheus.Collector.
func (c *tapCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range append([]*prometheus.Desc{descTaps, descWhole, descSent, descSenderLost}, descsOfTaps...) {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *tapCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	// One scrape after the other: what a later one has read is newer.
	rest := &c.agent.others
	rest.mu.Lock()
	defer rest.mu.Unlock()
	taps, err := c.agent.taps.get(ctx, scrapeAge)
	now := time.Now()
	whole := 1.0
	if err != nil || len(taps.Errors) > 0 {
		whole = 0
	}
	ch <- prometheus.MustNewConstMetric(descWhole, prometheus.GaugeValue, whole)
	sinks := map[tap.Sink]int{tap.SinkVeth: 0, tap.SinkVXLAN: 0, tap.SinkWire: 0}
	of := func(d *prometheus.Desc) *sums { return &sums{d, map[string]*sum{}, rest, now} }
	read := newTapSums(of)
	for _, t := range taps.Taps {
		if _, known := sinks[t.Sink]; known {
			sinks[t.Sink]++
		}
		read.add(t)
	}
	read.steady(rest, now)
	sent, lost := of(descSent), of(descSenderLost)
	for _, s := range taps.Senders {
		labels := []string{label(s.Device), label(s.Destination)}
		other := []string{otherPod, ""}
		if s.Pod != "" { // a pod's own device, of which the pod says what it likes
			labels = other
		}
		whose := s.Pod + "\x00" + s.Device + "\x00" + s.Destination
		if s.Sent != nil {
			sent.add(s.Sent.Packets, whose, labels, other)
		}
		for reason, amount := range s.Dropped {
			lost.add(amount.Packets, whose, append(slices.Clone(labels), label(reason)), append(slices.Clone(other), label(reason)))
		}
	}
	for sink, n := range sinks {
		ch <- prometheus.MustNewConstMetric(descTaps, prometheus.GaugeValue, float64(n), string(sink))
	}
	rest.settle(whole == 1, now)
	for _, s := range append(read.all(), sent, lost) {
		s.collect(ch)
	}
}

// sums are the series of one metric, each once.
type sums struct {
	desc *prometheus.Desc
	of   map[string]*sum
	rest *others
	now  time.Time
}

type sum struct {
	labels []string
	n      uint64
}

// add adds to the series with labels or, where that is the other's, or where there are
// too many, to the rest.
func (s *sums) add(n uint64, whose string, labels, other []string) {
	key := strings.Join(labels, "\x00")
	if s.of[key] == nil && (len(s.of) >= maxSeries || slices.Equal(labels, other)) {
		s.rest.add(s.desc, whose, n, other, s.now)
		return
	}
	if s.of[key] == nil {
		s.of[key] = &sum{labels: labels}
	}
	s.of[key].n += n
}

func (s *sums) collect(ch chan<- prometheus.Metric) {
	for _, all := range []map[string]*sum{s.of, s.rest.sums[s.desc]} {
		for _, at := range all {
			ch <- prometheus.MustNewConstMetric(s.desc, prometheus.CounterValue, float64(at.n), at.labels...)
		}
	}
}

// label is a text fit for a label. What is no UTF-8 becomes U+FFFD in passing.
func label(text string) string {
	return cut(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '_'
	}, text), maxLabel)
}
