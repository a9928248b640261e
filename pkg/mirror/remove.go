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
// peers along: what the pod wrote into its own cannot delay them.
func (p *Pod) remove(r removal) error {
	links, failed := p.links()
	return errors.Join(failed,
		p.detach(links, r.rule),
		p.removeEmptyClsact(links, r.device),
		p.node.takeDown(r.device),
		p.takeDown(r.device))
}

// removeEmptyClsact removes a clsact that a tap was about to use, and that
// nothing uses.
func (p *Pod) removeEmptyClsact(links []*link, wanted func(*link) bool) error {
	for _, l := range links {
		m, ours := linkMark(l)
		if !ours || !m.Clsact || !wanted(l) {
			continue
		}
		tapped, err := p.linkByName(m.Interface)
		if err != nil {
			return err
		}
		if tapped == nil {
			continue
		}
		if err := p.removeIfEmpty(tapped.index); err != nil {
			return err
		}
		if m.ZeroQueue && tapped.queue != 0 {
			if err := p.clearQueueLength(tapped); err != nil {
				return err
			}
		}
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
// tap uses. The lock, which others wait for, is held while they are doomed, not
// while they are deleted.
func (n *Node) takeDown(wanted func(*link) bool) error {
	links, err := n.links()
	if err != nil {
		return err
	}
	plan := planOf(links, wanted)
	if !plan.shared {
		return n.deleteLinks(plan.gone, plan.alien)
	}
	err = n.withLock(func() error {
		links, err := n.links()
		if err != nil {
			return err
		}
		plan = planOf(links, wanted)
		return n.doom(plan.gone)
	})
	if errors.Is(err, ErrBusy) {
		return errors.Join(err, n.deleteLinks(plan.taps(), plan.alien))
	}
	return errors.Join(err, n.deleteLinks(plan.gone, plan.alien))
}

// plan is what is to be deleted on a node.
type plan struct {
	gone  []*link // taps' devices, then relays
	alien []*link // all others
	// shared says that relays are concerned, and so other pods' taps.
	shared bool
}

// planOf plans to delete the wanted devices, relays that are unused without them,
// relays whose making was cut short, and what somebody has doomed and not deleted.
// Of the last three, only a plan under the node's lock is certain.
func planOf(links []*link, wanted func(*link) bool) plan {
	var p plan
	used := map[string]bool{}
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
			p.shared = p.shared || isRelay || m.Relay != ""
		default:
			p.alien = append(p.alien, l)
			if isTap {
				used[m.Relay] = true
			}
		}
	}
	for _, l := range relays {
		if used[l.name] {
			p.alien = append(p.alien, l)
		} else if len(p.gone) < maxStale {
			p.gone = append(p.gone, l)
			p.shared = true
		}
	}
	return p
}

// taps are the devices of the plan that are no relays.
func (p plan) taps() []*link {
	var taps []*link
	for _, l := range p.gone {
		if _, isTap := linkMark(l); isTap {
			taps = append(taps, l)
		}
	}
	return taps
}
