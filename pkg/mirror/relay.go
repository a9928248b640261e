package mirror

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"

	"github.com/podtap/podtap/pkg/tap"
)

// ensureRelay returns the VXLAN device in the node's namespace that sends to a
// collector, and makes it if need be. The caller holds the node's lock. The alias
// is given last: a relay with one is whole, one without was left half made.
func (n *Node) ensureRelay(c collector) (netlink.Link, error) {
	name := relayName(c)
	relay, err := n.linkByName(name)
	if err != nil {
		return nil, err
	}
	if relay != nil {
		whole, err := n.relayWhole(relay, c)
		if err != nil || whole {
			return relay, err
		}
		if relay.Attrs().Group != deviceGroup {
			return nil, fmt.Errorf("the name %s, which the relay to %s needs, is %w by a device that is not podtap's; rename that", name, c.Remote, ErrConflict)
		}
		if err := n.deleteLink(relay.Attrs().Index, name); err != nil {
			return nil, err
		}
	}
	return n.makeRelay(name, c)
}

// relayWhole says whether a relay is finished and still points where it should.
func (n *Node) relayWhole(relay netlink.Link, c collector) (bool, error) {
	if found, ok := relayMark(relay); !ok || found != c {
		return false, nil
	}
	problems, err := n.relayProblems(relay, c)
	return len(problems) == 0, err
}

func (n *Node) makeRelay(name string, c collector) (netlink.Link, error) {
	if err := n.addVXLAN(name, n.namespace, c); err != nil {
		return nil, err
	}
	relay, err := n.findLink(name)
	if err != nil {
		return nil, err
	}
	index := relay.Attrs().Index
	steps := []func() error{
		func() error { return n.silence(relay) },
		func() error { return n.setDefaultDestination(index, c) },
		func() error { return n.setUp(relay) },
		func() error { return n.setAlias(relay, c.alias()) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, errors.Join(err, n.deleteLink(index, name))
		}
	}
	return relay, nil
}

// sweepRelays deletes the relays that no tap uses.
func (n *Node) sweepRelays() error {
	unused, err := n.unusedRelays()
	if err != nil || len(unused) == 0 {
		return err
	}
	return n.withLock(func() error {
		// Somebody may have begun to use one meanwhile.
		unused, err := n.unusedRelays()
		if err != nil {
			return err
		}
		for _, l := range unused {
			err = errors.Join(err, n.deleteLink(l.Attrs().Index, l.Attrs().Name))
		}
		return err
	})
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
		_, finished := relayMark(l)
		a := l.Attrs()
		_, isVXLAN := l.(*netlink.Vxlan)
		// Without an alias it is one whose making was cut short; under the lock
		// that is certain, before it a reason to look again.
		half := isVXLAN && a.Group == deviceGroup && a.Alias == ""
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

// checkPath compares the pod's MTU with the path's to the collector.
func (b *builder) checkPath() error {
	v := b.tap.VXLAN
	inner, need := b.tapped.Attrs().MTU, b.tapped.Attrs().MTU+overhead(v)
	path, err := b.node.pathMTU(v)
	if err != nil {
		if v.Oversize == tap.Refuse {
			return fmt.Errorf("vxlan.oversize: refuse cannot be kept: the path to %s has no known MTU: %w: %w", v.Remote, ErrMTU, err)
		}
		b.warnings = append(b.warnings, fmt.Sprintf("the node has no route to the collector %s now: %v", v.Remote, err))
		return nil
	}
	switch {
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

// pathMTU is the most that one packet to the collector may have, in bytes.
func (n *Node) pathMTU(v *tap.VXLAN) (int, error) {
	routes, err := n.handle.RouteGet(v.Remote.AsSlice())
	if err != nil {
		return 0, err
	}
	if len(routes) == 0 {
		return 0, errors.New("no route")
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
