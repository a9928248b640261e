package agent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/podtap/podtap/pkg/cri"
	"github.com/podtap/podtap/pkg/mirror"
)

// deadAfter is for how long a sandbox must be missing at every sweep. CRI lists one only
// when its whole network is there, which the kubelet gives 4 minutes, and a list may
// lack some while a runtime starts. The clock may be set meanwhile; this is by none.
const deadAfter = 10 * time.Minute

// suspects are the owners of taps whose sandbox is not there, with when that was first
// seen; all of them were seen at every sweep since.
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
	a.suspects.since = j.next // where nobody can say who is missing, the time begins anew
	n, err := mirror.OpenNode()
	if err != nil {
		return errors.Join(failed, err)
	}
	defer n.Close()
	removed, err := n.Sweep(func(t mirror.Trace) bool { return ctx.Err() == nil && j.dead(t) })
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
	live, kubelets := map[string]bool{}, false
	for _, s := range list {
		live[mirror.ShortID(s.ID)] = true
		kubelets = kubelets || a.provesKubelet(s)
	}
	if !kubelets {
		return nil, errors.New("no pod is taken for dead: the container runtime does not list podtapd's own pod; is it the one that the kubelet uses?")
	}
	return live, nil
}

// provesKubelet says whether a sandbox shows that its runtime is the kubelet's: podtapd
// itself is a pod. Where it does not know which, it takes any that runs.
func (a *Agent) provesKubelet(s cri.Sandbox) bool {
	if a.PodUID == "" {
		return s.Ready
	}
	return s.UID == a.PodUID
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
	since, known := j.known[t.Owner]
	if !known {
		since = j.now
	}
	j.next[t.Owner] = since
	// A tap from the future says that the clock was set back, and nothing of its age.
	young := !t.Made.IsZero() && !t.Made.After(j.now) && j.now.Sub(t.Made) <= deadAfter
	return !young && j.now.Sub(since) > deadAfter
}
