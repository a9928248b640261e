package mirror

import "github.com/podtap/podtap/pkg/tap"

// told is the tap as its device and its relay tell of it.
func (p *Pod) told(m mark, l *link) (tap.Tap, error) {
	t := tap.Tap{Device: m.Device, Interface: m.Interface, Direction: m.Direction}
	var c collector
	switch {
	case m.Relay != "":
		relay, err := p.node.linkByName(m.Relay)
		if err != nil {
			return t, err
		}
		if relay != nil {
			c, _ = relayMark(relay)
		}
		t.VXLAN = &tap.VXLAN{Placement: tap.PlacementNode}
	case l.kind == "vxlan":
		list, err := p.destinations(l.index)
		if err != nil {
			return t, err
		}
		if len(list) == 1 {
			c = list[0]
		}
		c.TTL = l.vxlan.ttl
		t.VXLAN = &tap.VXLAN{Placement: tap.PlacementPod}
	case m.Direction == "":
		t.Wire = &tap.Wire{MTU: l.mtu}
		return t, nil
	default:
		t.Veth = &tap.Veth{}
		return t, nil
	}
	t.VXLAN.Remote, t.VXLAN.VNI, t.VXLAN.Port, t.VXLAN.TTL = c.Remote, c.VNI, c.Port, c.TTL
	t.VXLAN.Oversize = tap.Fragment
	return t, nil
}

// toldMore adds what a tap's rules, its device and its end on the node tell of it.
func (p *Pod) toldMore(t *tap.Tap, m mark, device *link) error {
	shapes, err := p.shapes()
	if err != nil {
		return err
	}
	t.MaxBitrate = shapes[device.index].rate
	if t.SampleRate, err = p.sampleRate(m); err != nil {
		return err
	}
	host, _, err := p.hostOf(m.Owner, m.Device)
	if err != nil || host == nil {
		return err
	}
	at, err := p.node.trimAt(host)
	t.SnapLength = uint16(at.Snap)
	if t.VXLAN != nil && at.Path > 0 {
		t.VXLAN.Oversize = tap.Fit
	}
	return err
}

// sampleRate is the rate that a tap's rule samples with; 1 where there is none.
func (p *Pod) sampleRate(m mark) (uint32, error) {
	tapped, err := p.linkByName(m.Interface)
	if err != nil || tapped == nil {
		return 1, err
	}
	hook := uint32(hookIngress)
	if m.Direction == tap.Egress {
		hook = hookEgress
	}
	rules, err := p.rules(tapped.index, hook)
	for _, r := range rules {
		if r.marked && r.mirred.cookie.sameTap(newCookie(m.Owner, m.Device, 0)) && !r.mirred.countsOnly() {
			return rateOf(r.program), err
		}
	}
	return 1, err
}
