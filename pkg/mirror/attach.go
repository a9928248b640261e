package mirror

import (
	"fmt"
	"slices"
)

// attach hangs a tap's rules at the pod's interface, at each of some hooks, and makes
// clsact there if nobody has. kind is that of the qdisc that it had; made says that it has
// clsact from here.
func (n *namespace) attach(l *link, kind string, ofTap cookie, hooks []uint32, rules []rule) (made bool, err error) {
	if made, err = n.addClsact(l.index, l.name); err != nil {
		return made, err
	}
	var present []installed
	if made {
		kind = "clsact"
		if l.queue == 0 {
			err = n.clearQueueLength(l)
		}
	} else {
		kind, present, err = n.clearRemains(l.index, kind, ofTap)
	}
	if err != nil {
		return made, err
	}
	ours := made || ownsClsact(present)
	if !ours && len(present) == 0 {
		ours, err = n.isClaimed(l.name)
		if err != nil {
			return made, err
		}
	}
	by := byBlock
	for _, hook := range hooks {
		if hook == hookEgress && kind != "clsact" {
			return made, fmt.Errorf("%w: %s has an ingress qdisc, which somebody else made and which has no egress hook; "+
				"tap direction ingress, or let its owner use clsact instead", ErrUnsupported, l.name)
		}
		for _, r := range rules {
			// What the kernel refused for one rule it is not asked for the next.
			if r = r.at(l, hookAt(kind, hook, present), hook, ours, by); r.useless() {
				continue
			}
			if by, present, err = n.attachRule(l, r, present); err != nil {
				return made, err
			}
		}
	}
	return made, nil
}

// at is a tap's rule as it is at one place, below one hook.
func (r rule) at(l *link, place, hook uint32, ownsClsact bool, by counting) rule {
	m := *r.mirred
	if m.counted = by; ownsClsact {
		m.cookie = m.cookie.with(ownClsact)
	}
	if hook == hookEgress {
		m.cookie = m.cookie.with(ofEgress)
	}
	r.index, r.hook, r.mirred = l.index, place, &m
	return r
}

// useless says that a rule is there to count, and the kernel cannot.
func (r rule) useless() bool { return r.mirred.countsOnly() && r.mirred.counted == uncounted }

// attachRule hangs a rule at an interface with a priority that is free. It says how the
// kernel counts what the rule matches, and returns the rules that are present then.
func (n *namespace) attachRule(l *link, r rule, present []installed) (counting, []installed, error) {
	var err error
	if r.priority, err = freePriority(present); err != nil {
		return uncounted, present, fmt.Errorf("on %s: %w", l.name, err)
	}
	by, err := n.addCounted("attach the tap to "+l.name, r)
	return by, append(present, installed{rule: r}), err
}

// isClaimed says whether a tap's alias tells that an interface's clsact, which is
// empty, is podtap's: another network's ADD may have been cut short.
func (n *namespace) isClaimed(name string) (bool, error) {
	links, err := n.links()
	return slices.ContainsFunc(links, func(l *link) bool {
		m, isTap := linkMark(l)
		return isTap && m.Clsact && m.Interface == name
	}), err
}

// clearRemains deletes the rules that a tap has already, where somebody deleted
// its devices, and returns the others, and the kind of the qdisc if it was unknown.
func (n *namespace) clearRemains(index int, kind string, ofTap cookie) (string, []installed, error) {
	if kind == "" { // somebody has made one since we looked
		kinds, err := n.hookQdiscs()
		if err != nil {
			return "", nil, err
		}
		kind = kinds[index]
	}
	rules, err := n.allRules(index, kind)
	if err != nil {
		return "", nil, err
	}
	var others []installed
	for _, r := range rules {
		if !r.marked || r.mirred == nil || !r.mirred.cookie.sameTap(ofTap) {
			others = append(others, r)
		} else if err := n.deleteRule(r); err != nil {
			return "", nil, err
		}
	}
	return kind, others, nil
}

// hookAt is where a rule is to hang. Below an ingress qdisc any place is the
// same one, but tc shows all its rules under the name that the last one came
// with: so ours come with the name that theirs have.
func hookAt(qdisc string, hook uint32, present []installed) uint32 {
	switch {
	case qdisc == "clsact":
		return hook
	case len(present) > 0:
		return present[0].hook
	}
	return hookQdisc
}

// ownsClsact says whether one of podtap's rules tells that podtap made the clsact.
func ownsClsact(rules []installed) bool {
	for _, r := range rules {
		if r.marked && r.mirred != nil && r.mirred.cookie.flags()&ownClsact != 0 {
			return true
		}
	}
	return false
}

// freePriority finds a priority that no rule of either direction has: u32 rules
// of the same priority share tables across the directions.
func freePriority(present []installed) (uint16, error) {
	used := map[uint16]bool{}
	for _, r := range present {
		used[r.priority] = true
	}
	for p := uint16(firstPriority); p <= lastPriority; p++ {
		if !used[p] {
			return p, nil
		}
	}
	return 0, fmt.Errorf("no free priority from %d to %d", firstPriority, lastPriority)
}
