package agent

import (
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/podtap/podtap/api/node"
	"github.com/podtap/podtap/pkg/tap"
)

// changing is an agent whose taps a test sets, and which reads them at each scrape.
func changing(t *testing.T) (*Agent, func(error, ...node.Tap)) {
	t.Helper()
	var mu sync.Mutex
	var taps node.Taps
	var failed error
	a := newAgent(t, func(c *Config) {
		c.Inventory = func() (node.Taps, error) {
			mu.Lock()
			defer mu.Unlock()
			return taps, failed
		}
	})
	return a, func(err error, list ...node.Tap) {
		mu.Lock()
		defer mu.Unlock()
		taps.Taps, failed = list, err
		a.taps.mu.Lock()
		defer a.taps.mu.Unlock()
		a.taps.latest = nil
	}
}

// inPod is a tap whose pod alone tells of it.
func inPod(pod string, matched uint64) node.Tap {
	t := counted(pod, "mirror", matched, 1)
	t.Sink, t.Placement = tap.SinkVXLAN, tap.PlacementPod
	return t
}

func TestTheSumOfWhatHasNoSeriesNeverGoesDown(t *testing.T) {
	a, set := changing(t)
	for i, c := range []struct {
		err  error
		taps []node.Tap
		want float64
	}{
		{nil, []node.Tap{inPod("web/a", 10), inPod("web/b", 20)}, 30},
		{nil, []node.Tap{inPod("web/a", 15), inPod("web/b", 20)}, 35},
		{nil, []node.Tap{inPod("web/a", 15)}, 35},                                // one has ended
		{nil, []node.Tap{inPod("web/a", 3)}, 35},                                 // its counts began again
		{nil, []node.Tap{inPod("web/a", 5)}, 37},                                 //
		{errors.New("one pod's namespace"), nil, 37},                             // not known to be gone
		{nil, []node.Tap{inPod("web/a", 6)}, 38},                                 //
		{nil, nil, 38},                                                           // all gone
		{nil, []node.Tap{inPod("web/a", 2)}, 40},                                 // a new one of the same name
		{nil, []node.Tap{inPod("web/a", 2), counted("", "", 4, 1)}, 44},          // rules without a device
		{nil, []node.Tap{inPod("web/a", 2), counted("web/c", "m", 100, 0)}, 144}, // one with a series of its own
	} {
		set(c.err, c.taps...)
		for range 2 { // again the same
			if sum, _ := sumOf(t, a, "podtap_tap_matched_packets_total"); sum != c.want {
				t.Errorf("scrape %d: %v, want %v", i, sum, c.want)
			}
		}
	}
	set(nil)
	if _, _ = sumOf(t, a, "podtap_taps"); len(a.others.seen) > 0 {
		t.Errorf("taps that are gone are remembered: %v", a.others.seen)
	}
}

// Matched and dropped are read one after the other.
func TestCopiesOfABrokenMirrorNeverGoDown(t *testing.T) {
	a, set := changing(t)
	for i, c := range []struct {
		copied, dropped, want uint64
	}{
		{100, 0, 100}, {140, 5, 140}, {101, 90, 140}, {100, 200, 140}, {150, 200, 150}, // broken, mended
		{7, 0, 7},                       // its rule was made anew
		{1<<32 - 10, 1, 1<<32 - 10},     // about to begin again
		{5, 1, 5}, {4, 3, 5}, {6, 3, 6}, // and has
	} {
		tap := counted("web/a", "m", c.copied, c.dropped)
		tap.Directions[0].Copied.Packets = c.copied
		set(nil, tap)
		if got, _ := sumOf(t, a, "podtap_tap_copied_packets_total"); got != float64(c.want) {
			t.Errorf("scrape %d: %v copies, want %d", i, got, c.want)
		}
	}
	set(nil)
	if _, _ = sumOf(t, a, "podtap_taps"); len(a.others.read) > 0 {
		t.Errorf("taps that are gone are remembered: %v", a.others.read)
	}
}

// What came to a filter and what it matched are read one after the other.
func TestWhatFiltersPassOverNeverGoesDown(t *testing.T) {
	a, set := changing(t)
	for i, c := range []struct{ passed, want uint64 }{{100, 100}, {99, 100}, {140, 140}, {7, 7}} {
		tap, plain := counted("web/a", "m", 10, 0), counted("web/b", "m", 10, 0)
		tap.Directions[0].PassedOver = &node.Amount{Packets: c.passed}
		if i == 3 { // its rules were made anew, long ago
			a.others.read = nil
		}
		set(nil, tap, plain)
		if got, series := sumOf(t, a, "podtap_tap_passed_over_packets_total"); got != float64(c.want) || series != 1 {
			t.Errorf("scrape %d: %v packets in %v series, want %d in one", i, got, series, c.want)
		}
	}
}

// Of rules whose devices are gone nothing tells whose they were, nor which of them is
// listed first.
func TestCopiesOfRulesThatNothingTellsApartAreAddedUp(t *testing.T) {
	a, set := changing(t)
	of := func(copied uint64) node.Tap {
		tap := counted("", "", copied+1, 1)
		tap.Directions[0].Copied.Packets = copied
		return tap
	}
	for i, taps := range [][]node.Tap{{of(1000), of(5)}, {of(5), of(1000)}, {of(1000), of(5)}} {
		set(nil, taps...)
		if got, _ := sumOf(t, a, "podtap_tap_copied_packets_total"); got != 1005 {
			t.Errorf("scrape %d: %v copies, want 1005", i, got)
		}
	}
}

func TestATapThatIncompleteReadingsLackIsForgottenInTime(t *testing.T) {
	var o others
	now := time.Now()
	o.add(descMatched, "a", 1, nil, now)
	o.settle(true, now)
	for i, after := range []time.Duration{forgetAfter, forgetAfter + time.Second} {
		if o.settle(false, now.Add(after)); len(o.seen) != 1-i {
			t.Errorf("after %v there are %d taps", after, len(o.seen))
		}
	}
}

func TestScrapesAtTheSameTimeCountOnce(t *testing.T) {
	a, set := changing(t)
	set(nil, inPod("web/a", 10))
	var scrapes sync.WaitGroup
	for range 10 {
		scrapes.Go(func() { _, _ = sumOf(t, a, "podtap_taps") })
	}
	scrapes.Wait()
	if sum, _ := sumOf(t, a, "podtap_tap_matched_packets_total"); sum != 10 {
		t.Errorf("the sum is %v", sum)
	}
}
