package mirror

import (
	"fmt"
	"slices"
)

// attach hangs a tap's rules at the pod's interface, one for each direction, and
// makes clsact there if nobody has. kind is that of the qdisc that it had; made
// says that it has clsact from here. In front of the rule of a tap with a filter
// comes one that counts what there is to filter.
func (n *namespace) attach(l *link, kind string, ofTap cookie, hooks []uint32, r rule, filtered bool) (made bool, err error) {
	r.index = l.index
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
	if ours {
		ofTap[5] |= ownClsact
	}
	for _, hook := range hooks {
		if hook == hookEgress && kind != "clsact" {
			return made, fmt.Errorf("%w: %s has an ingress qdisc, which somebody else made and which has no egress hook; "+
				"tap direction ingress, or let its owner use clsact instead", ErrUnsupported, l.name)
		}
		r.hook = hookAt(kind, hook, present)
		of := ofTap
		if hook == hookEgress {
			of[5] |= ofEgress
		}
		if filtered && r.mirred.counted != uncounted {
			all := rule{index: r.index, hook: r.hook, program: matchAll(), mirred: &mirred{cookie: of, counted: r.mirred.counted}}
			all.mirred.cookie[5] |= ofAll
			if r.mirred.counted, present, err = n.attachRule(l, all, present); err != nil {
				return made, err
			}
		}
		r.mirred.cookie = of
		// What the kernel refused for one rule it is not asked for the next.
		if r.mirred.counted, present, err = n.attachRule(l, r, present); err != nil {
			return made, err
		}
	}
	return made, nil
}

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
