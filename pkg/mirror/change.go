package mirror

import (
	"errors"
	"fmt"
	"slices"

	"github.com/podtap/podtap/pkg/mirror/internal/trim"
	"github.com/podtap/podtap/pkg/tap"
)

// Change makes another tap of one that an owner has, in place: with another filter, sample,
// cut, cap, destination or oversize. Each packet is copied once, by what
// was in force when it came; what the tap has counted stands, but where the new tap counts
// something that the old one did not, or the other way round: then its directions begin at
// zero. Other differences, and another destination of a tap of placement pod, are errors that
// wrap ErrUnsupported. To add a cap, or to take it away, takes some milliseconds, in which the
// copies are dropped, and counted. If Change fails, the tap is as it was, unless the error says
// that changing it back failed, too. The caller holds the pod's lock, and has decided that the
// tap may be.
func (p *Pod) Change(owner Owner, was, is tap.Tap) (Made, error) {
	if err := changeable(was, is); err != nil {
		return Made{}, err
	}
	c, err := p.changer(owner, is)
	if err != nil {
		return Made{}, err
	}
	if err = c.change(); err != nil {
		back, undo := p.changer(owner, accepted(was))
		if undo == nil {
			undo = back.change()
		}
		if undo != nil {
			err = errors.Join(err, fmt.Errorf("change it back: %w", undo))
		}
	}
	if is.VXLAN != nil && collectorOf(was.VXLAN) != collectorOf(is.VXLAN) {
		// The relay that was, or was to be, if it has no other user. A sweep takes it, too.
		if left := p.node.takeDown(func(*link) bool { return false }); left != nil {
			c.warn(left, "a relay without users may be left")
		}
	}
	if err != nil {
		return Made{}, err
	}
	c.made.Device = c.device.device()
	if c.onNode != nil {
		onNode := c.onNode.device()
		c.made.Host = &onNode
	}
	return c.made, nil
}

// accepted is a tap that is not judged by its path any more: it was there already.
func accepted(t tap.Tap) tap.Tap {
	if t.VXLAN != nil && t.VXLAN.Oversize == tap.Refuse {
		v := *t.VXLAN
		v.Oversize, t.VXLAN = tap.Fragment, &v
	}
	return t
}

// changer changes one tap.
type changer struct {
	builder
	device *link // in the pod
	onNode *link // the tap's end on the node; nil of placement pod
	was    attached
	rules  []rule
}

// change makes the tap what it is to be.
func (c *changer) change() error {
	for _, step := range []func() error{
		c.remark,
		func() error { return c.pod.changeRules(c.tapped, c.qdisc, hooksOf(c.tap), c.rules) },
		c.recap,
		c.redirect,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// changeable says why one tap cannot become another in place, nil where it can.
func changeable(was, is tap.Tap) error {
	fixed := func(t tap.Tap) tap.Tap {
		t.Filter, t.SampleRate, t.SnapLength, t.MaxBitrate = "", 0, 0, 0
		if t.VXLAN != nil {
			v := tap.VXLAN{Placement: t.VXLAN.Placement}
			if v.Placement == tap.PlacementPod {
				// The kernel has no way to exchange a VXLAN device's default destination: two would
				// be there for a moment, or none.
				v.Remote, v.VNI, v.Port, v.TTL = t.VXLAN.Remote, t.VXLAN.VNI, t.VXLAN.Port, t.VXLAN.TTL
			}
			t.VXLAN = &v
		}
		return t
	}
	a, b := fixed(was), fixed(is)
	what := ""
	switch {
	case was.Wire != nil || is.Wire != nil:
		what = "a wire"
	case a.Device != b.Device || a.Interface != b.Interface || a.Direction != b.Direction:
		what = "its device, interface and direction"
	case a.Sink() != b.Sink() || a.HostInterface() != b.HostInterface():
		what = "its sink"
	case a.VXLAN != nil && *a.VXLAN != *b.VXLAN:
		what = "its placement, and with placement pod its destination,"
	default:
		return nil
	}
	return fmt.Errorf("%w: %s cannot be changed in place; remove the tap and add the other", ErrUnsupported, what)
}

// changer finds what there is of a tap, and whether it can become another.
func (p *Pod) changer(owner Owner, is tap.Tap) (*changer, error) {
	device, err := p.findLink(is.Device)
	if err != nil {
		return nil, err
	}
	m, isTap := linkMark(device)
	if !isTap || !m.ownedBy(owner) {
		return nil, fmt.Errorf("device: %s is not this owner's tap", is.Device)
	}
	m.Filter = filterHash(is.Filter)
	c := &changer{builder: builder{pod: p, node: p.node, tap: is, mark: m}, device: device}
	if err := c.prepare(); err != nil {
		return nil, err
	}
	if c.rules, err = rulesOf(is, newCookie(owner, is.Device, 0), device.index); err != nil {
		return nil, err
	}
	if is.VXLAN != nil && is.VXLAN.Placement == tap.PlacementPod {
		return c, nil
	}
	if c.onNode, _, err = p.hostOf(owner, is.Device); err != nil {
		return nil, err
	}
	if c.onNode == nil {
		return nil, fmt.Errorf("the tap %s has lost its device on the node", is.Device)
	}
	c.host = c.onNode.name
	c.was, err = p.node.trimAt(c.onNode)
	return c, err
}

// remark writes the mark into the devices' aliases.
func (c *changer) remark() error {
	if c.onNode != nil {
		if err := c.node.setAlias(c.onNode, c.mark.alias()); err != nil {
			return err
		}
	}
	return c.pod.setAlias(c.device, c.mark.alias())
}

// recap changes the cap.
func (c *changer) recap() error {
	shapes, err := c.pod.shapes()
	if err != nil || shapes[c.device.index].rate == inBytes(c.tap.MaxBitrate) {
		return err
	}
	return c.pod.setCap(c.device, c.tap.MaxBitrate)
}

// redirect changes what is done to copies on the node, and where they go.
func (c *changer) redirect() error {
	switch {
	case c.onNode == nil:
		return nil
	case c.tap.VXLAN == nil:
		return c.retrim(nil)
	}
	return c.node.withLock(func() error {
		relay, err := c.node.ensureRelay(collectorOf(c.tap.VXLAN))
		if err != nil {
			return err
		}
		if relay.name != c.mark.Relay {
			c.mark.Relay = relay.name
			if err := c.remark(); err != nil {
				return err
			}
		}
		// Over a narrower path nothing may go that does not fit.
		if c.trimSpec(relay).Path > c.was.Path {
			return errors.Join(c.pointAt(relay), c.retrim(relay))
		}
		return errors.Join(c.retrim(relay), c.pointAt(relay))
	})
}

// pointAt makes the tap's end on the node redirect to a relay.
func (c *changer) pointAt(relay *link) error {
	rules, err := c.node.rules(c.onNode.index, hookIngress)
	if err != nil {
		return err
	}
	for _, r := range rules {
		if r.mirred == nil || !r.mirred.redirect {
			continue
		}
		if r.mirred.to == relay.index {
			return nil
		}
		to := rule{program: matchAll(), mirred: &mirred{redirect: true, to: relay.index, cookie: r.mirred.cookie}}
		return c.node.replaceRule("redirect "+c.host+" to "+relay.name, r, to)
	}
	return fmt.Errorf("%s has lost its redirect", c.host)
}

// retrim changes how copies are trimmed. What may come to the node whole is less before, or
// more after.
func (c *changer) retrim(relay *link) error {
	s := c.trimSpec(relay)
	if next := carriageOf(s); next > carriageOf(c.was.Spec) {
		if err := c.pod.setCarriage(c.device.name, next); err != nil {
			return err
		}
	}
	if err := c.node.setTrim(c.onNode, c.was, s); err != nil {
		if c.was.Trims() {
			return err
		}
		if err := c.untrimmed(err); err != nil {
			return err
		}
		s = trim.Spec{}
	}
	return c.pod.setCarriage(c.device.name, carriageOf(s)) // which an undone change may have raised
}

// changeRules replaces a tap's rules at its hooks by others.
func (p *Pod) changeRules(l *link, qdisc string, hooks []uint32, rules []rule) error {
	present, err := p.allRules(l.index, qdisc)
	if err != nil {
		return err
	}
	for _, hook := range hooks {
		if present, err = p.changeHook(l, hook, rules, present); err != nil {
			return err
		}
	}
	return nil
}

// changeHook replaces a tap's rules at one hook. Those that count what they counted before
// keep their actions, which have the counts.
func (p *Pod) changeHook(l *link, hook uint32, rules []rule, present []installed) ([]installed, error) {
	mine := map[byte]installed{}
	for _, r := range present {
		if r.marked && r.mirred != nil && r.mirred.cookie.sameTap(rules[0].mirred.cookie) && (r.hook == hookEgress) == (hook == hookEgress) {
			mine[r.mirred.role()] = r
		}
	}
	was, there := mine[0]
	switch {
	case !there:
		return present, fmt.Errorf("the tap has lost its rule on %s", l.name)
	case was.kind != "bpf":
		return present, fmt.Errorf("%w: this kernel lacks cls_bpf, whose rules can be replaced in place", ErrUnsupported)
	}
	owns := was.mirred.cookie.flags()&ownClsact != 0
	var next []rule
	for _, r := range rules {
		if r = r.at(l, was.hook, hook, owns, was.mirred.counted); !r.useless() {
			next = append(next, r)
		}
	}
	same := len(next) == len(mine) && !slices.ContainsFunc(next, func(r rule) bool { _, there := mine[r.mirred.role()]; return !there })
	for _, r := range next {
		old, there := mine[r.mirred.role()]
		delete(mine, r.mirred.role())
		var err error
		switch {
		case !there:
			_, present, err = p.attachRule(l, r, present)
		case same && slices.Equal(old.program, r.program):
		default:
			if same {
				r.mirred.first, r.mirred.second = old.mirred.first, old.mirred.second
			}
			err = p.replaceRule("change the tap on "+l.name, old, r)
		}
		if err != nil {
			return present, err
		}
	}
	for _, r := range mine {
		if err := p.deleteRule(r); err != nil {
			return present, err
		}
	}
	return present, nil
}
