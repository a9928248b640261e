package agent

import (
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/podtap/podtap/api/node"
	"github.com/podtap/podtap/pkg/tap"
)

// altered is a tap whose copies lose and gain all that they can.
func altered(pod, device string, sampledOut, cut, segments, capped, lost uint64) node.Tap {
	t := counted(pod, device, 10, 0)
	t.Directions[0].SampledOut = &node.Amount{Packets: sampledOut}
	t.Cut, t.SegmentsAdded = &node.Amount{Packets: cut}, &segments
	t.Capped, t.Lost = &node.Amount{Packets: capped}, &node.Amount{Packets: lost}
	return t
}

func TestTheMetricsTellWhatCopiesLoseAndGain(t *testing.T) {
	cut, capped := counted("web/cut", "mirror", 10, 0), counted("web/capped", "mirror", 10, 3)
	cut.Cut, cut.SegmentsAdded, cut.Lost = &node.Amount{Packets: 5}, new(uint64), &node.Amount{}
	capped.Capped, capped.Lost = &node.Amount{Packets: 3}, &node.Amount{Packets: 1}
	inPod := counted("default/forged", "mirror", 100, 10)
	inPod.Sink, inPod.Placement = tap.SinkVXLAN, tap.PlacementPod
	inPod.Capped, inPod.Lost = &node.Amount{Packets: 10}, &node.Amount{}
	inPod.Directions[0].SampledOut = &node.Amount{Packets: 70}
	a := newAgent(t, inventoryOf(node.Taps{Taps: []node.Tap{
		// One twice: a sandbox that is going, and its successor.
		altered("web/all", "mirror", 100, 20, 30, 40, 50), altered("web/all", "mirror", 1, 2, 3, 4, 5), cut, capped, inPod, counted("web/plain", "mirror", 10, 0)}}))
	exposes(t, a, `# HELP podtap_tap_sampled_out_packets_total Packets that a tap which samples left out.`+unit+`
# TYPE podtap_tap_sampled_out_packets_total counter
podtap_tap_sampled_out_packets_total{device="",direction="ingress",namespace="",pod="_other"} 70
podtap_tap_sampled_out_packets_total{device="mirror",direction="ingress",namespace="web",pod="all"} 101
# HELP podtap_tap_cut_packets_total Copies that were cut, to the tap's snapLength or to the path.
# TYPE podtap_tap_cut_packets_total counter
podtap_tap_cut_packets_total{device="mirror",namespace="web",pod="all"} 22
podtap_tap_cut_packets_total{device="mirror",namespace="web",pod="cut"} 5
# HELP podtap_tap_added_segments_total Copies more than packets, of TCP that was segmented to fit the path.
# TYPE podtap_tap_added_segments_total counter
podtap_tap_added_segments_total{device="mirror",namespace="web",pod="all"} 33
podtap_tap_added_segments_total{device="mirror",namespace="web",pod="cut"} 0
# HELP podtap_tap_capped_packets_total Copies that exceeded the tap's maxBitrate. podtap_tap_dropped_packets_total has them, too, as dropped by the mirror.
# TYPE podtap_tap_capped_packets_total counter
podtap_tap_capped_packets_total{device="",namespace="",pod="_other"} 10
podtap_tap_capped_packets_total{device="mirror",namespace="web",pod="all"} 44
podtap_tap_capped_packets_total{device="mirror",namespace="web",pod="capped"} 3
# HELP podtap_tap_lost_packets_total Copies that were lost between the tap's device, which took them, and the node.
# TYPE podtap_tap_lost_packets_total counter
podtap_tap_lost_packets_total{device="",namespace="",pod="_other"} 0
podtap_tap_lost_packets_total{device="mirror",namespace="web",pod="all"} 55
podtap_tap_lost_packets_total{device="mirror",namespace="web",pod="capped"} 1
podtap_tap_lost_packets_total{device="mirror",namespace="web",pod="cut"} 0
`, "podtap_tap_sampled_out_packets_total", "podtap_tap_cut_packets_total", "podtap_tap_added_segments_total", "podtap_tap_capped_packets_total", "podtap_tap_lost_packets_total")
}

func TestAllMetricsOfTapsAreDescribed(t *testing.T) {
	strict := prometheus.NewPedanticRegistry()
	lossy := altered("web/all", "mirror", 1, 2, 3, 4, 5)
	lossy.Directions[0].PassedOver, lossy.Directions[0].Dropped = &node.Amount{}, map[string]node.Amount{"mirror": {Packets: 4}}
	strict.MustRegister(&tapCollector{newAgent(t, inventoryOf(node.Taps{Taps: []node.Tap{lossy}, Senders: []node.Sender{
		{Device: "podtap1", Sent: &node.Amount{}, Dropped: map[string]node.Amount{"down": {Packets: 2}}}}}))})
	if families, err := strict.Gather(); err != nil || len(families) != 13 {
		t.Errorf("%d metrics, error %v", len(families), err)
	}
}

func TestNothingOfCopiesVanishesWhereThereAreTooManyTaps(t *testing.T) {
	var taps node.Taps
	for i := range 2 * maxSeries {
		taps.Taps = append(taps.Taps, altered(fmt.Sprintf("web/web-%d", i), "mirror", 1, 2, 3, 4, 5))
	}
	a := newAgent(t, inventoryOf(taps))
	for name, each := range map[string]float64{"podtap_tap_sampled_out_packets_total": 1, "podtap_tap_cut_packets_total": 2, "podtap_tap_added_segments_total": 3,
		"podtap_tap_capped_packets_total": 4, "podtap_tap_lost_packets_total": 5} {
		if sum, series := sumOf(t, a, name); sum != 2*maxSeries*each || series != maxSeries+1 {
			t.Errorf("%s: %v in %d series", name, sum, series)
		}
	}
}

// What a filter matched and what the tap was to copy are read one after the other.
func TestWhatIsSampledOutNeverGoesDown(t *testing.T) {
	a, set := changing(t)
	for i, c := range []struct{ sampledOut, want uint64 }{{100, 100}, {99, 100}, {140, 140}, {7, 7}} {
		if i == 3 { // its rules were made anew, long ago
			a.others.read = nil
		}
		tap := counted("web/a", "m", 10, 0)
		tap.Directions[0].SampledOut = &node.Amount{Packets: c.sampledOut}
		tap.Directions[0].PassedOver = &node.Amount{Packets: 1000} // falls apart from it
		set(nil, tap, counted("web/b", "m", 10, 0))
		if got, series := sumOf(t, a, "podtap_tap_sampled_out_packets_total"); got != float64(c.want) || series != 1 {
			t.Errorf("scrape %d: %v packets in %v series, want %d in one", i, got, series, c.want)
		}
		if got, _ := sumOf(t, a, "podtap_tap_passed_over_packets_total"); got != 1000 {
			t.Errorf("scrape %d: %v packets are passed over", i, got)
		}
	}
}

// The other taps' sum is of counters that begin again with each tap, and must not.
func TestTheSumOfWhatPodsTellOfTheirCapsNeverGoesDown(t *testing.T) {
	a, set := changing(t)
	of := func(pod string, capped, lost uint64) node.Tap {
		tap := inPod(pod, 10)
		tap.Capped, tap.Lost = &node.Amount{Packets: capped}, &node.Amount{Packets: lost}
		return tap
	}
	for i, c := range []struct {
		taps         []node.Tap
		capped, lost float64
	}{
		{[]node.Tap{of("web/a", 5, 1), of("web/b", 7, 2)}, 12, 3},
		{[]node.Tap{of("web/a", 6, 1)}, 13, 3},
		{[]node.Tap{of("web/a", 2, 1)}, 13, 3},
		{nil, 13, 3},
	} {
		set(nil, c.taps...)
		capped, _ := sumOf(t, a, "podtap_tap_capped_packets_total")
		lost, _ := sumOf(t, a, "podtap_tap_lost_packets_total")
		if capped != c.capped || lost != c.lost {
			t.Errorf("scrape %d: %v are capped and %v lost, want %v and %v", i, capped, lost, c.capped, c.lost)
		}
	}
}
