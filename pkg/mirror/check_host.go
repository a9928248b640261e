package mirror

import (
	"fmt"
	"slices"
	"strings"

	"github.com/podtap/podtap/pkg/tap"
)

// checkHost checks the tap's end on the node, and its relay.
func (p *Pod) checkHost(owner Owner, t tap.Tap) ([]string, error) {
	marks, err := p.node.marks()
	if err != nil {
		return nil, err
	}
	var host *link
	var at mark
	for m, l := range marks {
		if m.ownedBy(owner) && m.Device == t.Device {
			host, at = l, m
		}
	}
	if host == nil {
		return []string{"its device on the node is missing"}, nil
	}
	problems, err := p.node.checkDevice(host, t, mirrorMTU)
	if err != nil {
		return nil, err
	}
	var more []string
	switch {
	case t.Wire != nil:
		more, err = p.node.checkWire(host, t.Wire.HostAddresses)
	case t.VXLAN != nil:
		more, err = p.checkRelay(host, at, t)
	}
	return append(problems, more...), err
}

// checkRelay checks that a tap's end on the node feeds the relay to its collector.
func (p *Pod) checkRelay(host *link, at mark, t tap.Tap) ([]string, error) {
	relay, err := p.node.linkByName(at.Relay)
	if err != nil {
		return nil, err
	}
	if relay == nil {
		return []string{fmt.Sprintf("the relay %s is missing on the node; nothing is sent to %s", at.Relay, t.VXLAN.Remote)}, nil
	}
	var problems []string
	if c, _ := relayMark(relay); c != collectorOf(t.VXLAN) {
		problems = append(problems, fmt.Sprintf("its copies go to the relay %s, which is not that to %s", at.Relay, t.VXLAN.Remote))
	}
	redirect, err := p.node.rules(host.index, hookIngress)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(redirect, func(r installed) bool {
		return r.priority == redirectPriority && r.mirred != nil && r.mirred.redirect && r.mirred.to == relay.index
	}) {
		problems = append(problems, fmt.Sprintf("%s does not redirect to the relay %s", host.name, at.Relay))
	}
	more, err := p.node.relayProblems(relay, collectorOf(t.VXLAN))
	return append(problems, more...), err
}

// relayProblems checks a relay by itself.
func (n *Node) relayProblems(relay *link, c collector) ([]string, error) {
	var problems []string
	name := relay.name
	if !relay.up() {
		problems = append(problems, fmt.Sprintf("the relay %s is down", name))
	}
	more, err := n.silenceProblems(relay)
	if err != nil {
		return nil, err
	}
	problems = append(problems, more...)
	more, err = n.destinationProblems(relay, c)
	return append(problems, more...), err
}

// destinationProblems checks where a VXLAN device sends to.
func (n *namespace) destinationProblems(l *link, c collector) ([]string, error) {
	list, err := n.destinations(l.index)
	if err != nil {
		return nil, err
	}
	c.TTL = 0
	if len(list) == 1 && list[0] == c {
		return nil, nil
	}
	var now []string
	for _, d := range list {
		now = append(now, fmt.Sprintf("%s port %d VNI %d", d.Remote, d.Port, d.VNI))
	}
	return []string{fmt.Sprintf("%s sends to [%s] instead of %s port %d VNI %d",
		l.name, strings.Join(now, ", "), c.Remote, c.Port, c.VNI)}, nil
}
