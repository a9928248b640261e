package agent

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// cached reads something at most once at a time, and shares what it has read with all
// who accept its age. A read that hangs costs one goroutine, however many wait for it.
type cached[T any] struct {
	read func() (T, error)

	mu     sync.Mutex
	latest *reading[T]
}

// reading is one read; value and err are there when done is closed.
type reading[T any] struct {
	began time.Time
	done  chan struct{}
	value T
	err   error
}

// get returns what a read found that began no longer than maxAge ago, or after the call.
func (c *cached[T]) get(ctx context.Context, maxAge time.Duration) (T, error) {
	oldest := time.Now().Add(-maxAge)
	for {
		r := c.join(oldest)
		select {
		case <-r.done:
		case <-ctx.Done():
			var none T
			return none, fmt.Errorf("it takes too long: %w", ctx.Err())
		}
		if !r.began.Before(oldest) {
			return r.value, r.err
		}
	}
}

// join returns the latest read, or a new one where that is done and too old.
func (c *cached[T]) join(oldest time.Time) *reading[T] {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.latest; r != nil {
		select {
		case <-r.done:
			if !r.began.Before(oldest) {
				return r
			}
		default:
			return r
		}
	}
	r := &reading[T]{began: time.Now(), done: make(chan struct{})}
	c.latest = r
	go func() {
		defer close(r.done)
		r.err = guarded(func() (err error) {
			r.value, err = c.read()
			return err
		})
	}()
	return r
}
