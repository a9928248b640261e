package mirror

import (
	"errors"
	"fmt"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/pkg/tap"
)

const (
	// nameAttempts bounds the search for a free name of a relay.
	nameAttempts = 16
	// sweepAtOnce bounds how many relays one sweep deletes, at about 30 ms each.
	sweepAtOnce = 16
)

// ensureRelay returns the VXLAN device in the node's namespace that sends to a
// collector, and makes it if there is none. The caller holds the node's lock. A
// relay is known by its alias, which is given last: one without was left half
// made. It is never made anew while there, because others' copies go through it.
func (n *Node) ensureRelay(c collector) (netlink.Link, error) {
	links, err := n.links()
	if err != nil {
		return nil, err
	}
	taken := map[string]bool{}
	for _, l := range links {
		if found, ok := relayMark(l); ok && found == c {
			return l, n.repairRelay(l, c)
		}
		taken[l.Attrs().Name] = true
	}
	for attempt := range nameAttempts {
		if name := relayName(c, attempt); !taken[name] {
			return n.makeRelay(name, c)
		}
	}
	return nil, fmt.Errorf("the names podtap… that the relay to %s could have are %w", c.Remote, ErrConflict)
}

func (n *Node) makeRelay(name string, c collector) (netlink.Link, error) {
	relay, err := n.makeVXLAN(name, n.namespace, c)
	if err != nil {
		return nil, err
	}
	if err := n.setAlias(relay, c.alias()); err != nil {
		return nil, errors.Join(err, n.deleteLink(relay.Attrs().Index, name))
	}
	return relay, nil
}

// repairRelay makes a relay sound again that somebody has changed.
func (n *Node) repairRelay(relay netlink.Link, c collector) error {
	problems, err := n.relayProblems(relay, c)
	if err != nil || len(problems) == 0 {
		return err
	}
	if err := n.silence(relay); err != nil {
		return err
	}
	if err := n.setDestination(relay.Attrs().Index, c); err != nil {
		return err
	}
	return n.setUp(relay)
}

// sweepRelays deletes relays that no tap uses, each under a lock of its own, so
// that nobody has to wait for more than one.
func (n *Node) sweepRelays() error {
	for range sweepAtOnce {
		unused, err := n.unusedRelays()
		if err != nil || len(unused) == 0 {
			return err
		}
		err = n.withLock(func() error {
			// Somebody may have begun to use one meanwhile.
			unused, err := n.unusedRelays()
			if err != nil || len(unused) == 0 {
				return err
			}
			return n.deleteLink(unused[0].Attrs().Index, unused[0].Attrs().Name)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (n *Node) unusedRelays() ([]netlink.Link, error) {
	links, err := n.links()
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for _, l := range links {
		if m, ours := linkMark(l); ours {
			used[m.Relay] = true
		}
	}
	var unused []netlink.Link
	for _, l := range links {
		a := l.Attrs()
		_, finished := relayMark(l)
		// Without an alias it is one whose making was cut short; under the lock
		// that is certain, before it a reason to look again.
		half := l.Type() == "vxlan" && a.Group == deviceGroup && a.Alias == "" && strings.HasPrefix(a.Name, "podtap")
		if (finished || half) && !used[a.Name] {
			unused = append(unused, l)
		}
	}
	return unused, nil
}

// overhead is what VXLAN adds to a packet, in bytes: the inner Ethernet header
// (14), VXLAN (8), UDP (8), and the outer IP header (20 or 40).
func overhead(v *tap.VXLAN) int {
	if v.Remote.Is4() {
		return 50
	}
	return 70
}

// checkPath looks at the path to the collector: whether it leads to one host, and
// whether it takes the pod's packets with VXLAN's overhead.
func (b *builder) checkPath() error {
	v := b.tap.VXLAN
	inner, need := b.tapped.Attrs().MTU, b.tapped.Attrs().MTU+overhead(v)
	path, err := b.node.pathMTU(v)
	switch {
	case errors.Is(err, ErrForbidden):
		return err
	case err != nil && v.Oversize == tap.Refuse:
		return fmt.Errorf("vxlan.oversize: refuse cannot be kept: the path to %s has no known MTU: %w: %w", v.Remote, ErrMTU, err)
	case err != nil:
		b.warnings = append(b.warnings, fmt.Sprintf("the node has no route to the collector %s now: %v", v.Remote, err))
	case need <= path:
	case v.Oversize == tap.Refuse:
		return fmt.Errorf("vxlan.oversize: a copy %w: %s has MTU %d, which with %d bytes of VXLAN is %d, and the path to %s takes %d; "+
			"lower the pod's MTU, raise the underlay's, or use placement node with oversize fragment",
			ErrMTU, b.tap.Interface, inner, overhead(v), need, v.Remote, path)
	case v.Remote.Is6():
		b.warnings = append(b.warnings, fmt.Sprintf("copies of packets above %d bytes will be lost: over IPv6 the kernel does not fragment VXLAN, and the path to %s takes %d",
			path-overhead(v), v.Remote, path))
	}
	return nil
}

// pathMTU is the most that one packet to the collector may have, in bytes. It
// wraps ErrForbidden for an address that the node's routes know for many hosts'.
func (n *Node) pathMTU(v *tap.VXLAN) (int, error) {
	routes, err := n.handle.RouteGet(v.Remote.AsSlice())
	if err != nil {
		return 0, err
	}
	if len(routes) == 0 {
		return 0, errors.New("no route")
	}
	switch routes[0].Type {
	case unix.RTN_BROADCAST, unix.RTN_MULTICAST, unix.RTN_ANYCAST:
		return 0, fmt.Errorf("vxlan.remote: %s is %w: on this node's networks it is a broadcast, multicast or anycast address, "+
			"and copies would reach others than a collector; use the collector's own address", v.Remote, ErrForbidden)
	}
	l, err := n.handle.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return 0, err
	}
	mtu := l.Attrs().MTU
	if routes[0].MTU > 0 {
		mtu = min(mtu, routes[0].MTU)
	}
	return mtu, nil
}
