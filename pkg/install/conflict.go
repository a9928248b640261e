package install

import (
	"errors"
	"fmt"
	"time"
)

var errConflict = errors.New("somebody rewrites the network configuration without podtap again and again; two installers may be fighting over it, or its owner restarts all the time")

// conflictPace says when drift is a conflict, and what then.
type conflictPace struct {
	window   time.Duration
	rewrites int           // that are no conflict yet, within the window
	quiet    time.Duration // without a change, before the entry is written again
	slow     time.Duration // between two entries where it never gets quiet
}

// conflict remembers how often the entry had to be written again. To write it at
// once each time would be a fight that nobody wins, and keep the runtime loading.
type conflict struct {
	rewrites   []time.Time // those of the window
	total      int
	last       time.Time // the last time that the entry was written
	lastChange time.Time // the last time that anything changed in the folder
	open       bool
	tried      bool // it was written once after some quiet, and taken out all the same
}

// may says whether the entry may be written now.
func (c *conflict) may(now time.Time, p conflictPace) error {
	recent := c.rewrites[:0]
	for _, t := range c.rewrites {
		if now.Sub(t) < p.window {
			recent = append(recent, t)
		}
	}
	c.rewrites = recent
	if len(recent) >= p.rewrites {
		c.open = true
	}
	quiet := now.Sub(c.lastChange) >= p.quiet
	if !c.open || quiet && !c.tried || now.Sub(c.last) >= p.slow {
		c.tried = c.open
		return nil
	}
	return fmt.Errorf("%w; podtap waits, and tries again within %v", errConflict, p.slow)
}

// noticed is called when the entry is found missing. Where files cannot be watched
// that is when it went, as far as anybody knows.
func (c *conflict) noticed(now time.Time) {
	if c.lastChange.Before(c.last) {
		c.lastChange = now
	}
}

func (c *conflict) wrote(now time.Time, drifted bool) {
	c.last = now
	c.total++
	if drifted {
		c.rewrites = append(c.rewrites, now)
	}
}

// over ends a conflict when the entry has been there for long enough.
func (c *conflict) over(now time.Time, p conflictPace) error {
	if c.open && now.Sub(c.last) < p.slow {
		return fmt.Errorf("%w; podtap is chained again, and waits whether it stays so", errConflict)
	}
	if c.open {
		c.open, c.tried, c.rewrites = false, false, nil
	}
	return nil
}
