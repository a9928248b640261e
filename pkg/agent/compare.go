package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/podtap/podtap/api/node"
	"github.com/podtap/podtap/pkg/cri"
	"github.com/podtap/podtap/pkg/mirror"
)

// young is the age up to which a sandbox is left for the next comparison: its ADD may
// be at work for another network, or its report on the way.
const young = 15 * time.Second

// all stands for all taps of a pod, where their names do not matter or are unknown. No
// device can have the name.
const all = "all"

// comparison is what the comparisons remember of each other.
type comparison struct {
	// round is held by the comparison at work; what follows it is that one's.
	round sync.Mutex
	seen  map[string]map[string]bool // taps that were there, by the sandbox's ID and the tap's name
	host  map[string]bool            // is a sandbox on the node's network? By its ID
	told  map[string]map[string]bool // events that were written, by the pod
	lacks map[string][]string        // what was missing at the last comparison, by the sandbox's ID

	mu   sync.Mutex
	pods []node.Pod // what the last one found
}

// untapped are the pods that lack taps.
func (c *comparison) untapped() []node.Pod {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pods
}

// compare compares what running pods ask for with what the node has.
func (a *Agent) compare(ctx context.Context) error {
	c := &a.compared
	c.round.Lock()
	defer c.round.Unlock()
	now := time.Now()
	sandboxes, err := a.Runtime.Sandboxes(ctx) // before looking: its taps are there then
	if err != nil {
		return err
	}
	taps, failed := a.taps.get(ctx, 0)
	if failed == nil && len(taps.Errors) > 0 {
		failed = errors.New(strings.Join(taps.Errors, "; "))
	}
	if failed != nil && len(taps.Taps) == 0 {
		return failed // what is there is unknown, and so is what is not
	}
	there := present(taps.Taps, failed == nil)
	c.forget(sandboxes)
	a.failures.forget(ids(sandboxes), now)
	found := []node.Pod{}
	for _, s := range sandboxes {
		if !s.Ready || now.Sub(s.Created) < young {
			continue
		}
		pod, lacks, err := a.lacks(ctx, s, there)
		if ctx.Err() != nil {
			return ctx.Err() // the rest would say the same
		}
		if err != nil {
			failed = errors.Join(failed, fmt.Errorf("pod %s/%s: %w", s.Namespace, s.Name, err))
			continue
		}
		if lacks != "" {
			found = append(found, pod)
			c.tell(a.events, pod, lacks)
		}
	}
	slices.SortFunc(found, func(a, b node.Pod) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Name, b.Name), strings.Compare(a.UID, b.UID))
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pods = found
	return failed
}

// lacks says what a pod lacks, "" for nothing, and why.
func (a *Agent) lacks(ctx context.Context, s cri.Sandbox, there inventory) (pod node.Pod, lacks string, err error) {
	pod = node.Pod{Namespace: s.Namespace, Name: s.Name, UID: s.UID}
	want, mistake := wanted(s.Annotations)
	if len(want) == 0 && mistake == nil {
		return pod, "", nil
	}
	host, known := a.compared.host[s.ID]
	if !known {
		if host, err = a.Runtime.HostNetwork(ctx, s.ID); errors.Is(err, cri.ErrGone) {
			return pod, "", nil
		} else if err != nil {
			return pod, "", err
		}
		a.compared.host[s.ID] = host
	}
	if host {
		pod.Reason = node.ReasonHostNetwork
		pod.Message = "the pod is on the node's own network, which podtap does not tap; take its annotation podtap.io/taps away, or hostNetwork"
		return pod, all, nil
	}
	missing := []string{all}
	if mistake == nil {
		missing = a.compared.missing(s.ID, want, there)
	}
	if missing = a.compared.still(s.ID, missing); len(missing) == 0 {
		return pod, "", nil
	}
	pod.Reason, pod.Message = a.why(s, missing, mistake, there)
	return pod, strings.Join(missing, " "), nil
}

// still are those of the missing taps that were missing at the last comparison, too. A
// pod that ends loses its taps a moment before the runtime calls it stopped.
func (c *comparison) still(id string, missing []string) []string {
	before := c.lacks[id]
	c.lacks[id] = missing
	var both []string
	for _, name := range missing {
		if slices.Contains(before, name) {
			both = append(both, name)
		}
	}
	return both
}

// missing are the names of the taps that are not there. Those that are are remembered.
func (c *comparison) missing(id string, want []expected, there inventory) []string {
	var names []string
	seen := c.seen[id]
	if seen == nil {
		seen = map[string]bool{}
		c.seen[id] = seen
	}
	for i, isThere := range there.match(mirror.ShortID(id), want) {
		if isThere {
			seen[want[i].name] = true
		} else {
			names = append(names, want[i].name)
		}
	}
	return names
}

// why says why taps are not there. Where several things can be said, the one that
// somebody knows for certain is.
func (a *Agent) why(s cri.Sandbox, missing []string, mistake error, there inventory) (node.Reason, string) {
	what := "its taps are missing"
	switch {
	case mistake != nil:
		what = "its taps are missing: " + mistake.Error()
	case len(missing) == 1:
		what = fmt.Sprintf("its tap %q is missing", missing[0])
	case len(missing) > 1:
		what = fmt.Sprintf("its taps %q are missing", missing)
	}
	seen := a.compared.seen[s.ID]
	since := a.ChainedSince()
	told := a.failures.message(s.ID)
	switch {
	case told != "":
		return node.ReasonFailed, cut("the pod started without: "+told, maxMessage)
	case slices.ContainsFunc(missing, func(name string) bool { return seen[name] }) || there.rulesLeft(mirror.ShortID(s.ID)):
		return node.ReasonRemoved, cut(what+"; somebody deleted it; recreate the pod to have its taps made anew", maxMessage)
	case since.IsZero() || s.Created.Before(since):
		return node.ReasonNotChained, cut(what+"; the pod started while podtap was not in the chain of the node's network; recreate the pod", maxMessage)
	}
	return node.ReasonMissing, cut(what+"; why is not known: the log of the container runtime may say; recreate the pod", maxMessage)
}

// tell writes an event of a pod, once for the same reason and taps.
func (c *comparison) tell(e *events, pod node.Pod, lacks string) {
	told := c.told[podKey(pod.Namespace, pod.Name, pod.UID)]
	key := string(pod.Reason) + " " + lacks
	if told[key] {
		return
	}
	if told == nil {
		told = map[string]bool{}
		c.told[podKey(pod.Namespace, pod.Name, pod.UID)] = told
	}
	told[key] = true
	e.ofPod(pod.Namespace, pod.Name, pod.UID, string(pod.Reason), pod.Message)
}

func podKey(namespace, name, uid string) string { return namespace + "/" + name + "/" + uid }

func ids(sandboxes []cri.Sandbox) map[string]bool {
	out := map[string]bool{}
	for _, s := range sandboxes {
		out[s.ID] = true
	}
	return out
}

// forget drops what is of sandboxes and pods that are gone.
func (c *comparison) forget(sandboxes []cri.Sandbox) {
	if c.seen == nil {
		c.seen, c.host, c.told = map[string]map[string]bool{}, map[string]bool{}, map[string]map[string]bool{}
		c.lacks = map[string][]string{}
	}
	there, alive := ids(sandboxes), map[string]bool{}
	for _, s := range sandboxes {
		alive[podKey(s.Namespace, s.Name, s.UID)] = true
	}
	forgetBut(c.seen, there)
	forgetBut(c.host, there)
	forgetBut(c.lacks, there)
	forgetBut(c.told, alive)
}

func forgetBut[V any](of map[string]V, keep map[string]bool) {
	for key := range of {
		if !keep[key] {
			delete(of, key)
		}
	}
}
