package agent

import (
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/podtap/podtap/api/node"
	"github.com/podtap/podtap/pkg/tap"
)

const unit = " As the tapped interface counts them: what TCP's offload has left whole is one packet, on kernels before 6.8 without act_police as many as it has segments."

var (
	tapLabels    = []string{"namespace", "pod", "device"}
	eachLabels   = append(slices.Clone(tapLabels), "direction")
	descPassed   = prometheus.NewDesc("podtap_tap_passed_over_packets_total", "Packets that a tap with a filter was not to copy."+unit, eachLabels, nil)
	descSampled  = prometheus.NewDesc("podtap_tap_sampled_out_packets_total", "Packets that a tap which samples left out."+unit, eachLabels, nil)
	descMatched  = prometheus.NewDesc("podtap_tap_matched_packets_total", "Packets that a tap was to copy."+unit, eachLabels, nil)
	descCopied   = prometheus.NewDesc("podtap_tap_copied_packets_total", "Packets that a tap's device took copies of."+unit, eachLabels, nil)
	descDropped  = prometheus.NewDesc("podtap_tap_dropped_packets_total", "Packets whose copies a tap lost, by reason."+unit, append(slices.Clone(eachLabels), "reason"), nil)
	descCut      = prometheus.NewDesc("podtap_tap_cut_packets_total", "Copies that were cut, to the tap's snapLength or to the path.", tapLabels, nil)
	descSegments = prometheus.NewDesc("podtap_tap_added_segments_total", "Copies more than packets, of TCP that was segmented to fit the path.", tapLabels, nil)
	descCapped   = prometheus.NewDesc("podtap_tap_capped_packets_total",
		"Copies that exceeded the tap's maxBitrate. podtap_tap_dropped_packets_total has them, too, as dropped by the mirror.", tapLabels, nil)
	descTapLost = prometheus.NewDesc("podtap_tap_lost_packets_total", "Copies that were lost between the tap's device, which took them, and the node.", tapLabels, nil)
	descsOfTaps = []*prometheus.Desc{descPassed, descSampled, descMatched, descCopied, descDropped, descCut, descSegments, descCapped, descTapLost}
)

// tapSums are the metrics of taps at one scrape.
type tapSums struct {
	passed, sampledOut, matched, copied, dropped *sums // of a tap's directions
	cut, segments, capped, lost                  *sums // of taps
	read                                         scrape
}

func newTapSums(of func(*prometheus.Desc) *sums) *tapSums {
	return &tapSums{passed: of(descPassed), sampledOut: of(descSampled), matched: of(descMatched), copied: of(descCopied), dropped: of(descDropped),
		cut: of(descCut), segments: of(descSegments), capped: of(descCapped), lost: of(descTapLost)}
}

func (s *tapSums) all() []*sums {
	return []*sums{s.passed, s.sampledOut, s.matched, s.copied, s.dropped, s.cut, s.segments, s.capped, s.lost}
}

// add adds a tap. What its directions have copied and left out follows with steady, once
// all taps are there.
func (s *tapSums) add(t node.Tap) {
	labels, other := []string{label(t.Namespace), label(t.Name), label(t.Device)}, []string{"", otherPod, ""}
	if !trusted(t) {
		labels = other
	}
	whose := strings.Join([]string{t.Pod, t.ContainerID, t.Network, t.IfName, t.NetNS, t.Device, t.Interface}, "\x00")
	for _, d := range t.Directions {
		direction := label(string(d.Direction))
		labels, other := append(slices.Clone(labels), direction), append(slices.Clone(other), direction)
		s.matched.add(d.Matched.Packets, whose, labels, other)
		s.read.add(whose, d, labels, other)
		for reason, amount := range d.Dropped {
			s.dropped.add(amount.Packets, whose, append(slices.Clone(labels), label(reason)), append(slices.Clone(other), label(reason)))
		}
	}
	if t.SegmentsAdded != nil {
		s.segments.add(*t.SegmentsAdded, whose, labels, other)
	}
	for to, amount := range map[*sums]*node.Amount{s.cut: t.Cut, s.capped: t.Capped, s.lost: t.Lost} {
		if amount != nil {
			to.add(amount.Packets, whose, labels, other)
		}
	}
}

// steady adds the counters that are differences, without their falls.
func (s *tapSums) steady(rest *others, now time.Time) {
	for _, c := range s.read.all {
		s.copied.add(rest.steady(c.key, c.n, c.lost, now), c.whose, c.labels, c.other)
		if c.passed != nil {
			s.passed.add(rest.steady(c.key+"\x00passed", *c.passed, true, now), c.whose, c.labels, c.other)
		}
		if c.sampledOut != nil {
			s.sampledOut.add(rest.steady(c.key+"\x00sampled", *c.sampledOut, true, now), c.whose, c.labels, c.other)
		}
	}
}

// trusted says whether the node itself knows whose a tap is. Of a device of placement
// pod, and of rules whose device is gone, only the pod's own namespace tells, which the
// pod may write. What a tap's rules and its cap have counted is the pod's word in any case.
func trusted(t node.Tap) bool {
	return t.Device != "" && t.Name != "" && t.Placement != tap.PlacementPod
}
