package mirror

import (
	"errors"

	"github.com/podtap/podtap/pkg/tap"
)

// removal says what is to be taken away.
type removal struct {
	device func(*link) bool
	rule   func(cookie) bool
}

// ofOwner is all that an owner has, and what was half made for its pod: whoever
// removes holds that pod's lock, so nobody is making it any more.
func ofOwner(o Owner) removal {
	return removal{
		func(l *link) bool {
			m, isTap := linkMark(l)
			return isTap && m.ownedBy(o) || l.halfMadeFor(o)
		},
		newCookie(o, "", 0).sameOwner,
	}
}

// ofTap is one tap of an owner's.
func ofTap(o Owner, device string) removal {
	return removal{
		func(l *link) bool {
			m, isTap := linkMark(l)
			return isTap && m.ownedBy(o) && m.Device == device || l.halfMadeFor(o)
		},
		newCookie(o, device, 0).sameTap,
	}
}

// Remove takes away all taps of an owner: rules, devices, and relays without
// other users. It succeeds where there are none. The caller holds the pod's lock.
func (p *Pod) Remove(owner Owner) error { return p.remove(ofOwner(owner)) }

// Remove takes away what an owner's taps have on the node; it is all that is
// left to do where the pod's namespace is gone. The caller holds the pod's lock.
func (n *Node) Remove(owner Owner) error { return n.takeDown(ofOwner(owner).device) }

// remove takes taps away: first the rules, so that no packet is copied to what is
// going, then clsact where podtap made it, then the devices, whose aliases tell
// what there is to do until it is done. Those of the node go first and take their
// peers along, whatever else the pod has; of what it wrote into aliases no more is
// believed before than it can have taps.
func (p *Pod) remove(r removal) error {
	links, failed := p.links()
	return errors.Join(failed,
		p.detach(links, r.rule),
		p.removeEmptyClsact(links, r.device),
		p.node.takeDown(r.device),
		p.takeDown(r.device))
}

// removeHere takes away what an owner has in the pod, and nothing on the node. The caller
// holds the pod's lock.
func (p *Pod) removeHere(owner Owner) error {
	r := ofOwner(owner)
	links, failed := p.links()
	return errors.Join(failed,
		p.detach(links, r.rule),
		p.removeEmptyClsact(links, r.device),
		p.takeDown(r.device))
}

// removeEmptyClsact removes a clsact that a tap was about to use, and that
// nothing uses.
func (p *Pod) removeEmptyClsact(links []*link, wanted func(*link) bool) error {
	type used struct {
		name      string
		zeroQueue bool
	}
	interfaces := map[used]bool{} // of no more taps than there can be
	for _, l := range links {
		if m, ours := linkMark(l); ours && m.Clsact && wanted(l) && len(interfaces) < tap.MaxTaps {
			interfaces[used{m.Interface, m.ZeroQueue}] = true
		}
	}
	for u := range interfaces {
		if err := p.removeClsact(u.name, u.zeroQueue); err != nil {
			return err
		}
	}
	return nil
}

// removeClsact removes the clsact of an interface, if it is empty, and gives the
// interface back its queue length of 0 where it had that.
func (p *Pod) removeClsact(name string, zeroQueue bool) error {
	l, err := p.linkByName(name)
	if err != nil || l == nil {
		return err
	}
	if err := p.removeIfEmpty(l.index); err != nil {
		return err
	}
	if zeroQueue && l.queue == raisedQueue {
		return p.clearQueueLength(l)
	}
	return nil
}

// takeDown deletes the devices of taps in the pod. A pod can write as many
// aliases as it likes into its own devices; no more are deleted than it can have
// taps.
func (p *Pod) takeDown(wanted func(*link) bool) error {
	links, err := p.links()
	if err != nil {
		return err
	}
	var taps, alien []*link
	for _, l := range links {
		if _, isRelay := relayMark(l); wanted(l) && !isRelay && len(taps) < tap.MaxTaps {
			taps = append(taps, l)
		} else {
			alien = append(alien, l)
		}
	}
	return p.deleteLinks(taps, alien)
}

// takeDown deletes the devices of taps on the node, and the relays that no other
// tap uses. A doomed tap uses none: of those that go at the same time, whoever
// looks last sees the relay unused. Only then is the lock needed that others wait
// for, to make sure that nobody begins to use it.
func (n *Node) takeDown(wanted func(*link) bool) error {
	links, err := n.links()
	if err != nil {
		return err
	}
	plan := planOf(links, wanted)
	if !plan.shared {
		return n.deleteLinks(plan.gone, plan.alien)
	}
	failed := n.doom(plan.gone)
	if links, err = n.links(); err != nil {
		return errors.Join(failed, err)
	}
	if plan = planOf(links, wanted); len(plan.relays) > 0 {
		err = n.withLock(func() error {
			if links, err = n.links(); err == nil {
				plan = planOf(links, wanted)
				err = n.doom(plan.relays)
			}
			return err
		})
		if err != nil {
			failed, plan.relays = errors.Join(failed, err), nil
		}
	}
	return errors.Join(failed, n.deleteLinks(append(plan.gone, plan.relays...), plan.alien))
}

// plan is what is to be deleted on a node.
type plan struct {
	gone   []*link         // taps' devices, and what somebody has doomed and not deleted
	relays []*link         // certain under the node's lock only
	alien  []*link         // all others
	used   map[string]bool // names of the relays that other taps use
	// shared says that relays are concerned, and so other pods' taps.
	shared bool
}

// uses says whether a tap that stays uses a relay.
func (p plan) uses(relay *link) bool { return p.used[relay.name] }

// planOf plans to delete the wanted devices, relays that are unused without them,
// relays whose making was cut short, and what is doomed.
func planOf(links []*link, wanted func(*link) bool) plan {
	p := plan{used: map[string]bool{}}
	var relays []*link
	for _, l := range links {
		m, isTap := linkMark(l)
		_, isRelay := relayMark(l)
		doomed := l.group == doomedGroup && (isTap || isRelay)
		switch {
		case isRelay && !doomed || l.isHalfRelay():
			relays = append(relays, l)
		case doomed || wanted(l):
			p.gone = append(p.gone, l)
			p.shared = p.shared || m.Relay != ""
		default:
			p.alien = append(p.alien, l)
			if isTap {
				p.used[m.Relay] = true
			}
		}
	}
	for _, l := range relays {
		if p.uses(l) || len(p.relays) == maxStale {
			p.alien = append(p.alien, l)
		} else {
			p.relays = append(p.relays, l)
			p.shared = true
		}
	}
	return p
}
