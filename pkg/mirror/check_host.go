package mirror

import (
	"fmt"
	"slices"
	"strings"

	"github.com/podtap/podtap/pkg/tap"
)

// hostOf is a tap's end on the node and its mark; nil where there is none.
func (p *Pod) hostOf(owner Owner, device string) (*link, mark, error) {
	marks, err := p.node.marks()
	for m, l := range marks {
		if m.ownedBy(owner) && m.Device == device {
			return l, m, err
		}
	}
	return nil, mark{}, err
}

// checkHost checks the tap's end on the node, and its relay.
func (p *Pod) checkHost(owner Owner, t tap.Tap) ([]string, error) {
	host, at, err := p.hostOf(owner, t.Device)
	if err != nil {
		return nil, err
	}
	if host == nil {
		return []string{"its device on the node is missing"}, nil
	}
	problems, err := p.node.checkDevice(host, t, mirrorMTU)
	if err != nil {
		return nil, err
	}
	var more []string
	if t.Wire == nil {
		more, err = p.checkTrim(host, at, t)
	}
	if err != nil {
		return nil, err
	}
	problems = append(problems, more...)
	switch {
	case t.Wire != nil:
		more, err = p.node.checkWire(host, t.Wire.HostAddresses)
	case t.VXLAN != nil:
		more, err = p.checkRelay(host, at, t)
	default:
		more = nil
	}
	return append(problems, more...), err
}

// checkTrim checks what is done to a tap's copies on the node. A tap that leaves it open
// whether they are to fit has what the kernel could do when it was made.
func (p *Pod) checkTrim(host *link, m mark, t tap.Tap) ([]string, error) {
	at, err := p.node.trimAt(host)
	if err != nil {
		return nil, err
	}
	var problems []string
	if at.Snap != int(t.SnapLength) {
		problems = append(problems, fmt.Sprintf("%s keeps %s of copies instead of %s", host.name, bytesKept(at.Snap), bytesKept(int(t.SnapLength))))
	}
	mayNot := t.VXLAN != nil && t.VXLAN.Oversize == tap.FitIfPossible
	switch fit := at.Path > 0; {
	case fits(t.VXLAN) && !fit && !mayNot:
		problems = append(problems, fmt.Sprintf("%s does not make copies fit the path", host.name))
	case fit && !fits(t.VXLAN):
		problems = append(problems, fmt.Sprintf("%s makes copies fit the path, which the tap does not ask for", host.name))
	}
	if at.Fits() {
		relay, err := p.node.linkByName(m.Relay)
		if err != nil {
			return nil, err
		}
		if relay != nil && relay.index != at.Relay {
			problems = append(problems, fmt.Sprintf("%s sends parts of copies to another device than the relay %s", host.name, m.Relay))
		}
	}
	if at.Trims() {
		problem, err := p.carriageProblem(t.Device, carriageOf(at.Spec))
		if err != nil {
			return nil, err
		}
		if problem != "" {
			problems = append(problems, problem)
		}
	}
	return problems, nil
}

// bytesKept words a snap length.
func bytesKept(n int) string {
	if n == 0 {
		return "all"
	}
	return fmt.Sprintf("%d bytes", n)
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
		return r.priority <= redirectPriority && r.mirred != nil && r.mirred.redirect && r.mirred.to == relay.index
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
