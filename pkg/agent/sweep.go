package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/podtap/podtap/pkg/mirror"
)

// addAtMost is how long after a tap's making its sandbox may be unknown to CRI, which
// lists one only when its whole network is there. The kubelet gives up after 4 minutes.
const addAtMost = 5 * time.Minute

// suspects are the owners of taps of unknown age whose sandbox is not there, with when
// that was first seen; all of them were seen at every sweep since.
type suspects struct {
	mu    sync.Mutex
	since map[mirror.Owner]time.Time
}

// sweep takes away what no DEL will come for. Without a word of the runtime nothing is
// dead, and only what was cut short and relays without users go.
func (a *Agent) sweep(ctx context.Context) error {
	a.suspects.mu.Lock()
	defer a.suspects.mu.Unlock()
	// Before looking: what is made meanwhile is young.
	live, failed := a.living(ctx)
	j := judge{live: live, now: time.Now(), known: a.suspects.since, next: map[mirror.Owner]time.Time{}}
	n, err := mirror.OpenNode()
	if err != nil {
		return errors.Join(failed, err)
	}
	defer n.Close()
	removed, err := n.Sweep(func(t mirror.Trace) bool { return ctx.Err() == nil && j.dead(t) })
	if live != nil {
		a.suspects.since = j.next
	}
	for _, t := range removed {
		a.Log.Info("took away the taps of a pod that is gone", "pod", t.Pod, "network", t.Owner.Network,
			"container", t.Owner.ContainerID, "ifname", t.Owner.IfName, "made", t.Made)
	}
	a.metrics.swept.Add(float64(len(removed)))
	return errors.Join(failed, err)
}

// living are the sandboxes that the runtime has, ready or not: of one that is stopped,
// DEL is still to come, or has been. They are nil where nobody can say.
func (a *Agent) living(ctx context.Context) (map[string]bool, error) {
	if a.Runtime == nil {
		return nil, nil
	}
	list, err := a.Runtime.Sandboxes(ctx)
	if err != nil {
		return nil, fmt.Errorf("no pod is taken for dead: %w", err)
	}
	live, ready := map[string]bool{}, false
	for _, s := range list {
		live[mirror.ShortID(s.ID)] = true
		ready = ready || s.Ready
	}
	if !ready {
		// podtapd itself is a pod: this is another runtime than the pods'.
		return nil, errors.New("no pod is taken for dead: the container runtime has no running pod at all; is it the one that the kubelet uses?")
	}
	return live, nil
}

// judge says which owners are dead.
type judge struct {
	live        map[string]bool // IDs as aliases have them; nil: nobody is dead
	now         time.Time
	known, next map[mirror.Owner]time.Time // suspects, before and after
}

// dead is true of an owner whose sandbox is gone for certain. Containers that are not
// Kubernetes' own name no pod, and no CRI lists them.
func (j judge) dead(t mirror.Trace) bool {
	if j.live == nil || t.Owner.Source != mirror.SourceCNI || t.Pod == "" || j.live[t.Owner.ContainerID] {
		return false
	}
	if !t.Made.IsZero() && !t.Made.After(j.now) {
		return j.now.Sub(t.Made) > addAtMost
	}
	// Of unknown age, or from the future: the clock was set back.
	since, known := j.known[t.Owner]
	if !known {
		since = j.now
	}
	j.next[t.Owner] = since
	return j.now.Sub(since) > addAtMost
}
