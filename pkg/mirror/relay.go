package mirror

import (
	"errors"
	"fmt"
	"strings"
)

// nameAttempts bounds the search for a free name of a relay.
const nameAttempts = 16

// ensureRelay returns the VXLAN device in the node's namespace that sends to a
// collector, and makes it if there is none. The caller holds the node's lock. A
// relay has a name that follows from its collector, and is known by its alias,
// which is given last. It is never made anew while there, because others' copies
// go through it.
func (n *Node) ensureRelay(c collector) (*link, error) {
	for attempt := range nameAttempts {
		name := relayName(c, attempt)
		l, err := n.linkByName(name)
		if err != nil {
			return nil, err
		}
		if l == nil {
			return n.makeRelay(name, c)
		}
		found, isRelay := relayMark(l)
		switch {
		case isRelay && found == c && l.group != doomedGroup:
			return l, n.repairRelay(l, c)
		case isRelay && l.group == doomedGroup:
			// A process that was killed has left it; or somebody is about to
			// delete it, and will not find it.
			return n.replaceRelay(l, c)
		case l.isHalfRelay():
			links, err := n.links()
			if err != nil {
				return nil, err
			}
			if planOf(links, func(*link) bool { return false }).uses(l) {
				// Somebody has taken its alias away.
				return l, errors.Join(n.setAlias(l, c.alias()), n.repairRelay(l, c))
			}
			return n.replaceRelay(l, c)
		}
	}
	return nil, fmt.Errorf("the names podtap… that the relay to %s could have are %w", c.Remote, ErrConflict)
}

// isHalfRelay says whether a device is a relay whose making was cut short, or
// which is being made: under the node's lock, the first.
func (l *link) isHalfRelay() bool {
	return l.ours() && l.kind == "vxlan" && l.alias == "" && strings.HasPrefix(l.name, relayPrefix)
}

// replaceRelay makes a relay anew that nobody uses.
func (n *Node) replaceRelay(l *link, c collector) (*link, error) {
	if err := n.deleteLink(l.index, l.name); err != nil {
		return nil, err
	}
	return n.makeRelay(l.name, c)
}

func (n *Node) makeRelay(name string, c collector) (*link, error) {
	relay, err := n.makeVXLAN(end{name: name}, n.namespace, c)
	if err != nil {
		return nil, err
	}
	if err := n.setAlias(relay, c.alias()); err != nil {
		return nil, errors.Join(err, n.deleteLink(relay.index, name))
	}
	return relay, nil
}

// repairRelay makes a relay sound again that somebody has changed.
func (n *Node) repairRelay(relay *link, c collector) error {
	problems, err := n.relayProblems(relay, c)
	if err != nil || len(problems) == 0 {
		return err
	}
	if err := n.silence(relay, quietMTU); err != nil {
		return err
	}
	if err := n.setDestination(relay.index, c); err != nil {
		return err
	}
	return n.setUp(relay)
}
