package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/podtap/podtap/api/node"
	"github.com/podtap/podtap/pkg/tap"
)

// counted is a tap with counts of one direction.
func counted(pod, device string, matched, dropped uint64) node.Tap {
	namespace, name, _ := strings.Cut(pod, "/")
	t := node.Tap{Pod: pod, Namespace: namespace, Name: name, ContainerID: "c1", Device: device, Sink: tap.SinkVeth, Direction: tap.Ingress,
		Directions: []node.Counters{{Direction: tap.Ingress, Matched: node.Amount{Packets: matched}, Copied: node.Amount{Packets: matched - dropped}}}}
	if dropped > 0 {
		t.Directions[0].Dropped = map[string]node.Amount{"mirror": {Packets: dropped}}
	}
	return t
}

// exposes compares some of an agent's metrics with a text.
func exposes(t *testing.T, a *Agent, text string, names ...string) {
	t.Helper()
	if err := testutil.GatherAndCompare(a.metrics.registry, strings.NewReader(text), names...); err != nil {
		t.Error(err)
	}
}

func inventoryOf(taps node.Taps) func(*Config) {
	return func(c *Config) { c.Inventory = func() (node.Taps, error) { return taps, nil } }
}

func TestTheMetricsTellOfEachTapAndSender(t *testing.T) {
	inPod := counted("default/forged", "mirror", 100, 10)
	inPod.Sink, inPod.Placement = tap.SinkVXLAN, tap.PlacementPod
	left := counted("", "", 7, 7) // rules of a device that somebody deleted
	left.Sink, left.ContainerID = "", ""
	relayed := counted("web/web-0", "far", 20, 0)
	relayed.Sink, relayed.Placement = tap.SinkVXLAN, tap.PlacementNode
	a := newAgent(t, inventoryOf(node.Taps{
		// One twice: a sandbox that is going, and its successor.
		Taps: []node.Tap{counted("web/web-0", "mirror", 5, 2), counted("web/web-0", "mirror", 10, 0), relayed, inPod, left},
		Senders: []node.Sender{
			{Device: "podtap1", Destination: "198.18.0.9:4789/1", Sent: &node.Amount{Packets: 18}, Dropped: map[string]node.Amount{"down": {Packets: 2}}},
			{Device: "podtap2", Missing: true, Dropped: map[string]node.Amount{"down": {Packets: 4}}},
			{Device: "forged", Pod: "default/forged", Destination: "198.18.0.9:4789/7", Sent: &node.Amount{Packets: 90}},
		},
	}))
	// The help is not compared.
	exposes(t, a, `# HELP podtap_taps Taps on the node, by sink.
# TYPE podtap_taps gauge
podtap_taps{sink="veth"} 2
podtap_taps{sink="vxlan"} 2
podtap_taps{sink="wire"} 0
# HELP podtap_inventory_complete 1 where all taps of the node could be read for this scrape, 0 where something is left out.
# TYPE podtap_inventory_complete gauge
podtap_inventory_complete 1
# HELP podtap_tap_matched_packets_total Packets that a tap was to copy.`+unit+`
# TYPE podtap_tap_matched_packets_total counter
podtap_tap_matched_packets_total{device="",direction="ingress",namespace="",pod="_other"} 107
podtap_tap_matched_packets_total{device="far",direction="ingress",namespace="web",pod="web-0"} 20
podtap_tap_matched_packets_total{device="mirror",direction="ingress",namespace="web",pod="web-0"} 15
# HELP podtap_tap_copied_packets_total Packets that a tap's device took copies of.`+unit+`
# TYPE podtap_tap_copied_packets_total counter
podtap_tap_copied_packets_total{device="",direction="ingress",namespace="",pod="_other"} 90
podtap_tap_copied_packets_total{device="far",direction="ingress",namespace="web",pod="web-0"} 20
podtap_tap_copied_packets_total{device="mirror",direction="ingress",namespace="web",pod="web-0"} 13
# HELP podtap_tap_dropped_packets_total Packets whose copies a tap lost, by reason.`+unit+`
# TYPE podtap_tap_dropped_packets_total counter
podtap_tap_dropped_packets_total{device="",direction="ingress",namespace="",pod="_other",reason="mirror"} 17
podtap_tap_dropped_packets_total{device="mirror",direction="ingress",namespace="web",pod="web-0",reason="mirror"} 2
# HELP podtap_sender_sent_packets_total Copies that a VXLAN device has sent.
# TYPE podtap_sender_sent_packets_total counter
podtap_sender_sent_packets_total{destination="",device="_other"} 90
podtap_sender_sent_packets_total{destination="198.18.0.9:4789/1",device="podtap1"} 18
# HELP podtap_sender_dropped_packets_total Copies that were lost in or before a VXLAN device, by reason.
# TYPE podtap_sender_dropped_packets_total counter
podtap_sender_dropped_packets_total{destination="",device="podtap2",reason="down"} 4
podtap_sender_dropped_packets_total{destination="198.18.0.9:4789/1",device="podtap1",reason="down"} 2
`, "podtap_taps", "podtap_inventory_complete", "podtap_tap_matched_packets_total", "podtap_tap_copied_packets_total",
		"podtap_tap_dropped_packets_total", "podtap_sender_sent_packets_total", "podtap_sender_dropped_packets_total")
}

func TestTheMetricsTellOfTheInstallationAndOfPods(t *testing.T) {
	a := newAgent(t, func(c *Config) {
		c.Install = func() node.Install { return node.Install{State: node.StateConflict, Rewrites: 7} }
	})
	a.compared.pods = []node.Pod{{Reason: node.ReasonFailed}, {Reason: node.ReasonFailed}, {Reason: node.ReasonHostNetwork}}
	a.failed(failureOf("c1", 100, false))
	a.failed(failureOf("c1", 4711, false))
	a.failed(failureOf("c1", 4712, true))
	exposes(t, a, `# HELP podtap_install_state How far the installation on the node has come: 1 for the state that it is in, 0 for the others.
# TYPE podtap_install_state gauge
podtap_install_state{state="Conflict"} 1
podtap_install_state{state="Failing"} 0
podtap_install_state{state="NoNetwork"} 0
podtap_install_state{state="Ready"} 0
podtap_install_state{state="Standby"} 0
podtap_install_state{state="Starting"} 0
podtap_install_state{state="Unsupported"} 0
# HELP podtap_install_rewrites_total How often podtapd has written its entry into the network configuration.
# TYPE podtap_install_rewrites_total counter
podtap_install_rewrites_total 7
# HELP podtap_pods_untapped Running pods whose taps are not what their annotation asks for, by reason.
# TYPE podtap_pods_untapped gauge
podtap_pods_untapped{reason="HostNetwork"} 1
podtap_pods_untapped{reason="NotChained"} 0
podtap_pods_untapped{reason="TapFailed"} 2
podtap_pods_untapped{reason="TapMissing"} 0
podtap_pods_untapped{reason="TapRemoved"} 0
`, "podtap_install_state", "podtap_install_rewrites_total", "podtap_pods_untapped")
	if refused, other := testutil.ToFloat64(a.metrics.errors.WithLabelValues("100")), testutil.ToFloat64(a.metrics.errors.WithLabelValues("other")); refused != 1 || other != 2 {
		t.Errorf("%v errors of code 100, %v of others", refused, other)
	}
}

// sumOf is the sum of all series of a metric, and how many there are.
func sumOf(t *testing.T, a *Agent, name string) (sum float64, series int) {
	t.Helper()
	families, err := a.metrics.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.Metric {
				sum += m.GetCounter().GetValue()
			}
			return sum, len(f.Metric)
		}
	}
	return 0, 0
}

func TestNoPacketVanishesWhereThereAreTooManyTaps(t *testing.T) {
	var taps node.Taps
	for i := range 2 * maxSeries {
		taps.Taps = append(taps.Taps, counted(fmt.Sprintf("web/web-%d", i), "mirror", 3, 1))
		taps.Senders = append(taps.Senders, node.Sender{Device: fmt.Sprint("podtap", i), Sent: &node.Amount{Packets: 3}})
	}
	a := newAgent(t, inventoryOf(taps))
	for name, each := range map[string]float64{"podtap_tap_matched_packets_total": 3, "podtap_tap_copied_packets_total": 2,
		"podtap_tap_dropped_packets_total": 1, "podtap_sender_sent_packets_total": 3} {
		if sum, series := sumOf(t, a, name); sum != 2*maxSeries*each || series != maxSeries+1 {
			t.Errorf("%s: %v in %d series", name, sum, series)
		}
	}
}

// Names come from aliases: not one of them may make the whole scrape fail.
func TestAnOddNameDoesNotSpoilTheMetrics(t *testing.T) {
	odd := []node.Tap{counted("a\xff/b\x1b[31m", "m\n", 1, 0), counted(strings.Repeat("n", 1000)+"/"+strings.Repeat("ä", 1000), strings.Repeat("d", 1000), 1, 0)}
	odd[0].Directions[0].Direction = "\xfe"
	odd[1].Directions[0].Dropped = map[string]node.Amount{"r\xff": {Packets: 1}}
	a := newAgent(t, inventoryOf(node.Taps{Taps: odd}))
	if sum, series := sumOf(t, a, "podtap_tap_matched_packets_total"); sum != 2 || series != 2 {
		t.Errorf("%v in %d series", sum, series)
	}
	families, _ := a.metrics.registry.Gather()
	for _, f := range families {
		for _, m := range f.Metric {
			for _, l := range m.Label {
				if v := l.GetValue(); len(v) > 253 || strings.ContainsAny(v, "\x1b\n") {
					t.Errorf("%s has the label %q", f.GetName(), v)
				}
			}
		}
	}
}

func TestScrapesAtTheSameTimeShareOneReading(t *testing.T) {
	var reads atomic.Int64
	a := newAgent(t, func(c *Config) {
		c.Inventory = func() (node.Taps, error) {
			reads.Add(1)
			time.Sleep(50 * time.Millisecond)
			return node.Taps{Errors: []string{"one pod"}}, nil
		}
	})
	var scrapes sync.WaitGroup
	for range 10 {
		scrapes.Go(func() {
			exposes(t, a, "# HELP podtap_inventory_complete 1 where all taps of the node could be read for this scrape, 0 where something is left out.\n"+
				"# TYPE podtap_inventory_complete gauge\npodtap_inventory_complete 0\n", "podtap_inventory_complete")
		})
	}
	scrapes.Wait()
	// One more where the machine was busy for longer than a reading is shared.
	if n := reads.Load(); n > 3 {
		t.Errorf("10 scrapes read the kernel %d times", n)
	}
	for age, want := range map[time.Duration]int64{time.Second: 0, time.Minute: 1} {
		done := make(chan struct{})
		close(done)
		a.taps.latest = &reading[node.Taps]{began: time.Now().Add(-age), done: done}
		reads.Store(0)
		_, _ = sumOf(t, a, "podtap_taps")
		if n := reads.Load(); n != want {
			t.Errorf("where there is a reading %v old, a scrape reads %d times, want %d", age, n, want)
		}
	}
}

func TestACachedReadingIsAsYoungAsItWasAskedFor(t *testing.T) {
	reads := 0
	c := &cached[int]{read: func() (int, error) { reads++; return reads, nil }}
	for i, age := range []time.Duration{time.Hour, time.Hour, 0, time.Hour} {
		if n, err := c.get(t.Context(), age); err != nil || n != []int{1, 1, 2, 2}[i] {
			t.Errorf("get %d: %d, error %v", i, n, err)
		}
	}
}

// What hangs costs one goroutine and the deadline of each who waits; a panic is an error.
func TestAReadingThatHangsOrPanicsHoldsUpNobodyForEver(t *testing.T) {
	release, reads := make(chan struct{}), atomic.Int64{}
	c := &cached[int]{read: func() (int, error) {
		if reads.Add(1) > 1 {
			panic("odd data")
		}
		<-release
		return 1, errors.New("late")
	}}
	ctx := t.Context()
	for range 5 {
		short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		if _, err := c.get(short, 0); err == nil || !strings.Contains(err.Error(), "too long") {
			t.Errorf("error is %v", err)
		}
		cancel()
	}
	if n := reads.Load(); n != 1 {
		t.Errorf("%d readings are under way", n)
	}
	close(release)
	if _, err := c.get(ctx, 0); err == nil || !strings.Contains(err.Error(), "odd data") {
		t.Errorf("error is %v", err)
	}
}
