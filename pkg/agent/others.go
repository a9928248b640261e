package agent

import (
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// forgetAfter is after how long a tap is forgotten that incomplete readings lack. One
// that comes back then counts as new.
const forgetAfter = time.Hour

// others sum up the taps and senders that have no series of their own. They come and go,
// and a counter must not go down: so it grows with each of them, and keeps what it has.
type others struct {
	mu   sync.Mutex
	seen map[string]*share
	sums map[*prometheus.Desc]map[string]*sum
}

// share is what one tap has of a sum.
type share struct {
	of        *sum
	last, now uint64    // at the last scrape, and at this one as far as it is read
	at        time.Time // of the last scrape that had it
}

// add takes note of a number of whose tap or sender that it is.
func (r *others) add(of *prometheus.Desc, whose string, n uint64, labels []string, at time.Time) {
	if r.seen == nil {
		r.seen, r.sums = map[string]*share{}, map[*prometheus.Desc]map[string]*sum{}
	}
	if r.sums[of] == nil {
		r.sums[of] = map[string]*sum{}
	}
	name := strings.Join(labels, "\x00")
	to := r.sums[of][name]
	if to == nil {
		to = &sum{labels: labels}
		r.sums[of][name] = to
	}
	key := of.String() + "\x00" + name + "\x00" + whose
	if r.seen[key] == nil {
		r.seen[key] = &share{of: to}
	}
	s := r.seen[key]
	s.now, s.at = s.now+n, at
}

// settle ends a scrape: sums grow by what their taps have grown. Taps that are gone are
// forgotten; those that a reading lacks which is not whole may be there.
func (r *others) settle(whole bool, at time.Time) {
	for key, s := range r.seen {
		switch {
		case s.at.Equal(at):
			s.of.n += max(s.now, s.last) - s.last
			s.last, s.now = s.now, 0
		case whole || at.Sub(s.at) > forgetAfter:
			delete(r.seen, key)
		}
	}
}
