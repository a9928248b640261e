package mirror

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// namedSpaces is where container runtimes keep the network namespaces of pods.
const namedSpaces = "/run/netns"

// maxStale bounds the owners, and the devices, that one run removes from one
// namespace: a pod can write as many as it likes into aliases of its own devices.
// The node's own namespace comes again with the next run.
const maxStale = 64

// Trace is what the alias of a tap's device tells of its owner, for those who judge
// whether that is dead.
type Trace struct {
	// Owner is as aliases have it, with network names and container IDs above 64
	// bytes hashed.
	Owner Owner
	// Made is when the tap was made; zero where an older podtap made it.
	Made time.Time
	// Pod is NAMESPACE/NAME. It is "" of a container that is no pod's, and where
	// the alias had no room for it.
	Pod string
}

// ShortID is a container ID as aliases have it: hashed where it is above 64 bytes.
func ShortID(containerID string) string { return word(containerID) }

// RemoveStale removes the taps that CNI made under a network's name and whose
// owner is not among the valid ones, as CNI's GC asks, and sweeps.
func (n *Node) RemoveStale(network string, valid []Owner) error {
	keep := map[Owner]bool{}
	for _, o := range valid {
		keep[o.shortened()] = true
	}
	_, err := n.Sweep(func(t Trace) bool {
		return t.Owner.Source == SourceCNI && t.Owner.Network == word(network) && !keep[t.Owner]
	})
	return err
}

// Sweep takes away what no DEL will come for: the taps of owners that are dead,
// devices whose making or deletion was cut short, and relays without users. It
// asks of every tap; one that is dead takes along what else its owner has. It
// returns the owners whose taps are gone. Whatever else there is stays. Sweep goes
// on past what it cannot remove.
func (n *Node) Sweep(dead func(Trace) bool) ([]Trace, error) {
	links, err := n.links()
	if err != nil {
		return nil, err
	}
	s := sweeper{dead: dead, atNode: map[Owner]judged{}}
	for _, l := range links {
		if t, isTap := traceOf(l); isTap {
			s.atNode[t.Owner] = judged{t, dead(t) || s.atNode[t.Owner].dead}
		}
	}
	// Pods first: where a namespace is still there, the rules in it must go too.
	failed := n.eachPod(s.sweepPod)
	if links, err = n.links(); err != nil {
		return s.removed, errors.Join(failed, err)
	}
	gone, err := removeEach(owners(links, dead), n.evict)
	s.add(gone)
	return s.removed, errors.Join(failed, err, removeHalves(links, n.takeDown),
		n.takeDown(func(*link) bool { return false }))
}

// sweeper is a sweep under way.
type sweeper struct {
	dead func(Trace) bool
	// atNode are the owners that the node's devices have, and whether they are dead.
	// Of them a pod's word counts for nothing.
	atNode  map[Owner]judged
	removed []Trace
}

type judged struct {
	Trace
	dead bool
}

// sweepPod takes from a pod what dead owners have. Owners that only the pod names may
// be its invention, and lose what they have in this pod.
func (s *sweeper) sweepPod(p *Pod) error {
	links, err := p.links()
	if err != nil {
		return err
	}
	known, errKnown := removeEach(owners(links, func(t Trace) bool { return s.atNode[t.Owner].dead }), p.Remove)
	for i, t := range known {
		known[i] = s.atNode[t.Owner].Trace
	}
	s.add(known)
	claimed, errClaimed := removeEach(owners(links, func(t Trace) bool {
		_, known := s.atNode[t.Owner]
		return !known && s.dead(t)
	}), p.removeHere)
	// A veth without an end on the node was no tap.
	s.add(slices.DeleteFunc(claimed, func(t Trace) bool {
		return !slices.ContainsFunc(links, func(l *link) bool {
			of, isTap := traceOf(l)
			return isTap && of.Owner == t.Owner && l.kind == "vxlan"
		})
	}))
	return errors.Join(errKnown, errClaimed, removeHalves(links, p.takeDown))
}

// add takes note of owners whose taps are gone, of each once.
func (s *sweeper) add(gone []Trace) {
	for _, t := range gone {
		if !slices.ContainsFunc(s.removed, func(r Trace) bool { return r.Owner == t.Owner }) {
			s.removed = append(s.removed, t)
		}
	}
}

// evict removes an owner's taps that are known from the node. Its pod had none
// when that was visited, or has no name: or they were made meanwhile, and have to
// go from there as well.
func (n *Node) evict(o Owner) error {
	found := false
	err := n.eachPod(func(p *Pod) error {
		links, err := p.links()
		if err != nil || !slices.ContainsFunc(links, ofOwner(o).device) {
			return err
		}
		found = true
		return p.Remove(o)
	})
	if found {
		return err
	}
	return errors.Join(err, n.Remove(o))
}

// traceOf is what a tap's device tells; ok is false for whatever is none.
func traceOf(l *link) (t Trace, ok bool) {
	m, ok := linkMark(l)
	return Trace{Owner: m.Owner, Made: m.Since, Pod: m.Pod}, ok
}

// owners are those of the taps that some devices belong to, as far as they are dead; a
// few of them, but all are asked of.
func owners(links []*link, dead func(Trace) bool) []Trace {
	var found []Trace
	for _, l := range links {
		t, isTap := traceOf(l)
		if !isTap || slices.ContainsFunc(found, func(f Trace) bool { return f.Owner == t.Owner }) {
			continue
		}
		if dead(t) && len(found) < maxStale {
			found = append(found, t)
		}
	}
	return found
}

// removeEach removes owners, each under the lock of its pod, and returns those that
// are gone.
func removeEach(owners []Trace, remove func(Owner) error) ([]Trace, error) {
	var failed error
	var gone []Trace
	for _, t := range owners {
		unlock, err := LockPod(t.Owner.ContainerID)
		if err == nil {
			err = remove(t.Owner)
			unlock()
		}
		if err == nil {
			gone = append(gone, t)
		}
		failed = errors.Join(failed, err)
	}
	return gone, failed
}

// removeHalves deletes devices that a process which was killed has left without
// an owner. Their address tells the pod; who has its lock knows that nobody is
// making them.
func removeHalves(links []*link, takeDown func(func(*link) bool) error) error {
	pods := map[string]bool{}
	for _, l := range links {
		if pod, ok := halfMade(l); ok && len(pods) < maxStale {
			pods[string(pod)] = true
		}
	}
	var failed error
	for pod := range pods {
		unlock, err := lock(podLock([]byte(pod)), "the pod "+hex.EncodeToString([]byte(pod)), lockWait)
		if err == nil {
			err = takeDown(func(l *link) bool {
				half, ok := halfMade(l)
				return ok && bytes.Equal(half, []byte(pod))
			})
			unlock()
		}
		failed = errors.Join(failed, err)
	}
	return failed
}

// eachPod visits the named network namespaces, each once, whatever the number of
// its names. One that vanishes meanwhile, or that is none, or the node's own, is
// passed over.
func (n *Node) eachPod(visit func(*Pod) error) error {
	entries, err := os.ReadDir(namedSpaces)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var failed error
	visited := map[uint64]bool{} // by inode; all are of one filesystem, the kernel's
	for _, e := range entries {
		p, err := n.OpenPod(filepath.Join(namedSpaces, e.Name()))
		if errors.Is(err, unix.EPERM) {
			return errors.Join(failed, err) // the others would say the same
		}
		if err != nil {
			if !IsGone(err) && !errors.Is(err, ErrForbidden) {
				failed = errors.Join(failed, err)
			}
			continue
		}
		var stat unix.Stat_t
		if err := unix.Fstat(int(p.space.Fd()), &stat); err == nil && !visited[stat.Ino] {
			visited[stat.Ino] = true
			failed = errors.Join(failed, visit(p))
		}
		p.Close()
	}
	return errors.Join(err, failed)
}
