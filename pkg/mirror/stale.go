package mirror

import (
	"bytes"
	"encoding/hex"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// namedSpaces is where container runtimes keep the network namespaces of pods.
const namedSpaces = "/run/netns"

// maxStale bounds the owners, and the devices, that one run removes from one
// namespace: a pod can write as many as it likes into aliases of its own devices.
// The node's own namespace comes again with the next run.
const maxStale = 64

// RemoveStale removes the taps that CNI made under a network's name and whose
// owner is not among the valid ones, as CNI's GC asks, and sweeps.
func (n *Node) RemoveStale(network string, valid []Owner) error {
	keep := map[Owner]bool{}
	for _, o := range valid {
		keep[o.shortened()] = true
	}
	return n.Sweep(func(o Owner) bool {
		return o.Source == SourceCNI && o.Network == word(network) && !keep[o]
	})
}

// Sweep takes away what no DEL will come for: the taps of owners that are dead,
// devices whose making or deletion was cut short, and relays without users. An
// owner comes as aliases have it, with network names and container IDs above 64
// bytes hashed. Whatever else there is stays. Sweep goes on past what it cannot
// remove.
func (n *Node) Sweep(dead func(Owner) bool) error {
	// Pods first: where a namespace is still there, the rules in it must go too.
	failed := n.eachPod(func(p *Pod) error {
		links, err := p.links()
		if err != nil {
			return err
		}
		return errors.Join(removeEach(owners(links, dead), p.Remove), removeHalves(links, p.takeDown))
	})
	links, err := n.links()
	if err != nil {
		return errors.Join(failed, err)
	}
	return errors.Join(failed, removeEach(owners(links, dead), n.evict), removeHalves(links, n.takeDown),
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
func owners(links []*link, dead func(Owner) bool) []Owner {
	found := map[Owner]bool{}
	for _, l := range links {
		if m, isTap := linkMark(l); isTap && len(found) < maxStale && dead(m.Owner) {
			found[m.Owner] = true
		}
	}
	return slices.Collect(maps.Keys(found))
}

// removeEach removes owners, each under the lock of its pod.
func removeEach(owners []Owner, remove func(Owner) error) error {
	var failed error
	for _, o := range owners {
		unlock, err := LockPod(o.ContainerID)
		if err == nil {
			err = remove(o)
			unlock()
		}
		failed = errors.Join(failed, err)
	}
	return failed
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
