package agent

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"
)

const (
	// retryFirst and retryMost are the pauses after which a part that ended is begun
	// anew; each is twice the one before.
	retryFirst = time.Second
	retryMost  = 30 * time.Second
	// stuckAfter is how long a round may be under way, or late, before podtapd calls
	// itself stuck. The kernel's and the locks' own deadlines are far below.
	stuckAfter = 10 * time.Minute
)

// guarded is f, with a panic made an error: one pod's odd data must not keep podtapd
// from the others.
func guarded(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("a fault in podtapd: %v\n%s", r, debug.Stack())
		}
	}()
	return f()
}

// keep keeps a part at work until ctx ends.
func (a *Agent) keep(ctx context.Context, what string, part func(context.Context) error) {
	for pause := retryFirst; ; pause = min(2*pause, retryMost) {
		begin := time.Now()
		err := guarded(func() error { return part(ctx) })
		if ctx.Err() != nil {
			return
		}
		if time.Since(begin) > retryMost {
			pause = retryFirst
		}
		a.Log.Error("podtapd cannot serve "+what+", and tries again", "error", err, "in", pause)
		if !sleep(ctx, pause) {
			return
		}
	}
}

// every does a task again and again until ctx ends, with a pause between.
func (a *Agent) every(ctx context.Context, what string, first, pause time.Duration, task func(context.Context) error) {
	a.health.beat(what)
	for wait := first; sleep(ctx, wait); wait = pause {
		err := guarded(func() error {
			ctx, cancel := context.WithTimeout(ctx, roundTimeout)
			defer cancel()
			return task(ctx)
		})
		a.health.beat(what)
		if err != nil && ctx.Err() == nil {
			a.Log.Warn(what+" was not complete; the next one goes on", "error", err)
		}
	}
}

// sleep waits; it is false where ctx ends before.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// health remembers when loops were last seen alive.
type health struct {
	mu   sync.Mutex
	last map[string]time.Time
}

func (h *health) beat(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.last == nil {
		h.last = map[string]time.Time{}
	}
	h.last[what] = time.Now()
}

// stuck are the loops that have not been seen for too long.
func (h *health) stuck(now time.Time) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []string
	for what, last := range h.last {
		if now.Sub(last) > stuckAfter {
			out = append(out, what)
		}
	}
	slices.Sort(out)
	return out
}
