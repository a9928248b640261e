package mirror

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// namedSpaces is where container runtimes keep the network namespaces of pods.
const namedSpaces = "/run/netns"

// maxStale bounds the owners that one run removes from one namespace: a pod can
// write as many as it likes into aliases of its own devices. The node's own
// namespace comes again with the next run.
const maxStale = 64

// RemoveStale removes the taps that CNI made under a network's name and whose
// owner is not among the valid ones, as CNI's GC asks. Taps of other networks
// stay. It goes on past what it cannot remove.
func (n *Node) RemoveStale(network string, valid []Owner) error {
	keep := map[Owner]bool{}
	for _, o := range valid {
		keep[o.shortened()] = true
	}
	stale := func(space *namespace) ([]Owner, error) {
		marks, err := space.marks()
		found := map[Owner]bool{}
		for m := range marks {
			if m.Source == SourceCNI && m.Network == word(network) && !keep[m.Owner] {
				found[m.Owner] = true
			}
		}
		owners := slices.Collect(maps.Keys(found))
		return owners[:min(len(owners), maxStale)], err
	}
	// Pods first: where a namespace is still there, the rules in it must go too.
	failed := n.eachPod(func(p *Pod) error {
		owners, err := stale(p.namespace)
		return errors.Join(err, removeEach(owners, p.Remove))
	})
	owners, err := stale(n.namespace)
	return errors.Join(failed, err, removeEach(owners, n.Remove), n.sweepRelays())
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

// eachPod visits the named network namespaces. One that vanishes meanwhile, or
// that is none, is passed over.
func (n *Node) eachPod(visit func(*Pod) error) error {
	entries, err := os.ReadDir(namedSpaces)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var failed error
	for _, e := range entries {
		p, err := n.OpenPod(filepath.Join(namedSpaces, e.Name()))
		if err != nil {
			continue
		}
		if !p.isNodes(n) { // somebody may have given the node's own one a name
			failed = errors.Join(failed, visit(p))
		}
		p.Close()
	}
	return errors.Join(err, failed)
}
