package agent

import (
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/podtap/podtap/api/node"
	"github.com/podtap/podtap/pkg/mirror"
)

// forgetAfter is after how long a tap is forgotten that incomplete readings lack. One
// that comes back then counts as new.
const forgetAfter = time.Hour

// others sum up the taps and senders that have no series of their own. They come and go,
// and a counter must not go down: so it grows with each of them, and keeps what it has.
type others struct {
	mu   sync.Mutex
	seen map[string]*share
	read map[string]*lastRead // of counters that are a difference
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

// copies are those of one direction of a tap at one scrape, or of all taps that nothing
// tells apart: rules whose devices are gone.
type copies struct {
	whose, key    string // the key has the direction, too
	labels, other []string
	n             uint64
	lost          bool    // some were
	passed        *uint64 // by filters; nil where there is none
	sampledOut    *uint64 // nil where all are copied
}

// scrape has the copies of each, in the order in which they came.
type scrape struct {
	all  []*copies
	each map[string]*copies
}

func (s *scrape) add(whose string, d node.Counters, labels, other []string) {
	key := whose + "\x00" + string(d.Direction)
	if s.each == nil {
		s.each = map[string]*copies{}
	}
	if s.each[key] == nil {
		s.each[key] = &copies{whose: whose, key: key, labels: labels, other: other}
		s.all = append(s.all, s.each[key])
	}
	s.each[key].n += d.Copied.Packets
	s.each[key].lost = s.each[key].lost || len(d.Dropped) > 0
	s.each[key].passed = plus(s.each[key].passed, d.PassedOver)
	s.each[key].sampledOut = plus(s.each[key].sampledOut, d.SampledOut)
}

// plus is a sum with an amount more, which may be unknown.
func plus(sum *uint64, a *node.Amount) *uint64 {
	if a == nil {
		return sum
	}
	if sum == nil {
		sum = new(uint64)
	}
	*sum += a.Packets
	return sum
}

// lastRead is what a counter was at the last scrape.
type lastRead struct {
	n  uint64
	at time.Time
}

// steady is a counter without its falls, if it is the difference of two that are not read at
// one moment: as that of copies is where some were lost, and those of packets that were
// passed over or sampled out.
// What has come between them looks like more until the next reading, and Prometheus would
// take its going for a new beginning. A larger fall is one.
func (r *others) steady(whose string, n uint64, difference bool, at time.Time) uint64 {
	if r.read == nil {
		r.read = map[string]*lastRead{}
	}
	last := r.read[whose]
	if difference && last != nil && n < last.n && last.n-n < mirror.BetweenReadings {
		n = last.n
	}
	r.read[whose] = &lastRead{n, at}
	return n
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
	for whose, last := range r.read {
		if !last.at.Equal(at) && (whole || at.Sub(last.at) > forgetAfter) {
			delete(r.read, whose)
		}
	}
}
