package install

import (
	"testing"
	"time"

	"github.com/podtap/podtap/api/node"
)

func TestAConflictIsReportedWhileItLastsAndThenPodtapIsChainedAgain(t *testing.T) {
	s := newScene(t)
	s.network("10-pods.conflist", primary)
	i, _ := s.ready()
	// Somebody rewrites it each time that podtap is in it, or so.
	sawConflict := false
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
		s.network("10-pods.conflist", primary)
		sawConflict = sawConflict || i.Status().State == node.StateConflict
	}
	if !sawConflict {
		t.Errorf("the state never was Conflict; it is %+v", i.Status())
	}
	// One to install it, those that are no conflict yet, and about one in each slow period.
	if got, most := i.Status().Rewrites, 1+fastPace().conflict.rewrites+2; got > most {
		t.Errorf("the entry was written %d times, want at most %d", got, most)
	}
	s.eventually("it is chained again", func() bool { return s.types("10-pods.conflist") == "bridge portmap podtap" })
	s.becomes(i, node.StateReady)
}

func TestAFewRewritesAreNoConflict(t *testing.T) {
	s := newScene(t)
	s.network("10-pods.conflist", primary)
	i, _ := s.start()
	for range fastPace().conflict.rewrites {
		s.becomes(i, node.StateReady)
		s.eventually("it is chained", func() bool { return s.types("10-pods.conflist") == "bridge portmap podtap" })
		s.network("10-pods.conflist", primary)
	}
	s.eventually("it is chained", func() bool { return s.types("10-pods.conflist") == "bridge portmap podtap" })
	s.becomes(i, node.StateReady)
}

func TestAConflictWithoutAnyPauseStillGetsSlowAttempts(t *testing.T) {
	p := conflictPace{window: time.Minute, rewrites: 2, quiet: 10 * time.Second, slow: 30 * time.Second}
	var c conflict
	now := time.Now()
	wrote := 0
	for range 300 { // a rewrite each second
		c.lastChange = now
		if c.may(now, p) == nil {
			c.wrote(now, true)
			wrote++
		}
		now = now.Add(time.Second)
	}
	if wrote < 9 || wrote > 14 {
		t.Errorf("in 300 s the entry was written %d times; want the first few, then one in 30 s", wrote)
	}
}
