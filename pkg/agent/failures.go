package agent

import (
	"slices"
	"strings"
	"sync"
	"time"

	api "github.com/podtap/podtap/api/agent"
	"github.com/podtap/podtap/pkg/cniconf"
	"github.com/podtap/podtap/pkg/tap"
)

const codePolicy = cniconf.CodePolicy

const (
	// maxFailed bounds the sandboxes whose failures are remembered; a node runs a few
	// hundred pods.
	maxFailed = 1000
	// failedFor is how long a failure is kept whose sandbox the runtime does not list:
	// its ADD may still be under way.
	failedFor = 10 * time.Minute
)

// failed takes what the plugin tells of a tap that is not there.
func (a *Agent) failed(f api.Failure) {
	err := guarded(func() error {
		a.metrics.failed(f.Code)
		a.Log.Warn("the plugin could not make a tap", "namespace", f.Namespace, "pod", f.Name, "container", f.ContainerID,
			"code", f.Code, "started", f.Started, "error", f.Message)
		message := f.Message
		if f.Started {
			a.failures.add(f, time.Now())
			message = "the pod starts without a tap: " + message
		}
		a.events.ofPod(f.Namespace, f.Name, f.UID, eventReason(f.Code), message)
		return nil
	})
	if err != nil {
		a.Log.Error("what the plugin told could not be taken", "error", err)
	}
}

// failures are what the plugin told of taps that pods started without.
type failures struct {
	mu sync.Mutex
	of map[string]*failure // by the sandbox's ID
}

type failure struct {
	messages []string
	at       time.Time
}

func (s *failures) add(f api.Failure, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.of == nil {
		s.of = map[string]*failure{}
	}
	known := s.of[f.ContainerID]
	if known == nil {
		if len(s.of) >= maxFailed {
			s.dropOldest()
		}
		known = &failure{}
		s.of[f.ContainerID] = known
	}
	known.at = now
	if len(known.messages) < tap.MaxTaps && !slices.Contains(known.messages, f.Message) {
		known.messages = append(known.messages, cut(f.Message, maxMessage))
	}
}

func (s *failures) dropOldest() {
	oldest, found := "", false
	for id, f := range s.of {
		if !found || f.at.Before(s.of[oldest].at) {
			oldest, found = id, true
		}
	}
	delete(s.of, oldest)
}

// message is what the plugin told of a sandbox, "" for nothing.
func (s *failures) message(id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	f := s.of[id]
	if f == nil {
		return ""
	}
	return strings.Join(f.messages, "; ")
}

// forget drops what is of sandboxes that are not there.
func (s *failures) forget(there map[string]bool, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, f := range s.of {
		if !there[id] && now.Sub(f.at) > failedFor {
			delete(s.of, id)
		}
	}
}
