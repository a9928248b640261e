package mirror

import (
	"errors"

	"github.com/vishvananda/netlink"

	"github.com/podtap/podtap/pkg/tap"
)

// Remove takes away all taps of an owner: rules, devices, and relays without
// other users. It succeeds where there are none. The caller holds the pod's lock.
func (p *Pod) Remove(owner Owner) error {
	return p.removeTaps(func(m mark) bool { return m.ownedBy(owner) }, newCookie(owner, "", 0).sameOwner)
}

// Remove takes away what an owner's taps have on the node; it is all that is
// left to do where the pod's namespace is gone. The caller holds the pod's lock.
func (n *Node) Remove(owner Owner) error {
	err := n.deleteDevices(func(m mark) bool { return m.ownedBy(owner) })
	return errors.Join(err, n.sweepRelays())
}

// removeTaps takes taps away: first the rules, so that no packet is copied to
// what is going, then clsact where podtap made it, then the devices, whose
// aliases tell what there is to do until it is done. Those of the node go first
// and take their peers along: what the pod wrote into its own cannot delay them.
func (p *Pod) removeTaps(wanted func(mark) bool, wantedCookie func(cookie) bool) error {
	return errors.Join(
		p.detach(wantedCookie),
		p.removeEmptyClsact(wanted),
		p.node.deleteDevices(wanted),
		p.deleteDevices(wanted),
		p.node.sweepRelays())
}

// removeEmptyClsact removes a clsact that a tap was about to use, and that
// nothing uses.
func (p *Pod) removeEmptyClsact(wanted func(mark) bool) error {
	links, err := p.links()
	if err != nil {
		return err
	}
	for _, l := range links {
		m, ours := linkMark(l)
		if !ours || !m.Clsact || !wanted(m) {
			continue
		}
		tapped, err := p.linkByName(m.Interface)
		if err != nil {
			return err
		}
		if tapped == nil {
			continue
		}
		if err := p.removeIfEmpty(tapped.Attrs().Index); err != nil {
			return err
		}
		if m.ZeroQueue && tapped.Attrs().TxQLen != 0 {
			if err := p.clearQueueLength(tapped); err != nil {
				return err
			}
		}
	}
	return nil
}

// deleteDevices deletes the devices of taps in one namespace. A veth takes its
// peer along, wherever that is. A pod can write as many aliases as it likes into
// its own devices; more than a pod can have taps are not deleted.
func (n *namespace) deleteDevices(wanted func(mark) bool) error {
	links, err := n.links()
	if err != nil {
		return err
	}
	deleted := 0
	for _, l := range links {
		if m, ours := linkMark(l); ours && wanted(m) && deleted < tap.MaxTaps {
			deleted++
			err = errors.Join(err, n.deleteLink(l.Attrs().Index, l.Attrs().Name))
		}
	}
	return err
}

// marks are those of all taps' devices in a namespace.
func (n *namespace) marks() (map[mark]netlink.Link, error) {
	links, err := n.links()
	if err != nil {
		return nil, err
	}
	out := map[mark]netlink.Link{}
	for _, l := range links {
		if m, ours := linkMark(l); ours {
			out[m] = l
		}
	}
	return out, nil
}
