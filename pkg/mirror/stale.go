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
	var removed []Trace
	// Pods first: where a namespace is still there, the rules in it must go too.
	failed := n.eachPod(func(p *Pod) error {
		links, err := p.links()
		if err != nil {
			return err
		}
		gone, err := removeEach(owners(links, dead), p.Remove)
		removed = append(removed, gone...)
		return errors.Join(err, removeHalves(links, p.takeDown))
	})
	links, err := n.links()
	if err != nil {
		return removed, errors.Join(failed, err)
	}
	gone, err := removeEach(owners(links, dead), n.evict)
	removed = append(removed, gone...)
	return removed, errors.Join(failed, err, removeHalves(links, n.takeDown),
		n.takeDown(func(*link) bool { return false }))
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

// owners are those of the taps that some devices belong to, as far as they are dead.
func owners(links []*link, dead func(Trace) bool) []Trace {
	var found []Trace
	for _, l := range links {
		m, isTap := linkMark(l)
		if !isTap || len(found) == maxStale || slices.ContainsFunc(found, func(t Trace) bool { return t.Owner == m.Owner }) {
			continue
		}
		if t := (Trace{Owner: m.Owner, Made: m.Since, Pod: m.Pod}); dead(t) {
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
