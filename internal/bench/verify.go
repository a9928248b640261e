package main

import (
	"fmt"

	"github.com/podtap/podtap/internal/lab"
)

// ours is the group of podtap's devices, see docs/architecture.md.
const ours = 0x70746170

// made is what there is to see of a case after ADD.
type made struct {
	result int // devices that the result adds to the bridge's
	pod    int // devices in the pod
	node   int // devices on the node
	tbf    int // bandwidth's limits: at the pod's port, and at a device for the other direction
	copies int // of the devices in the pod, those that copies are sent on, at least
}

// verify looks whether each case really does what it is measured for: a plugin
// that fails to do its work would look fast.
func (b *bench) verify() error {
	for _, k := range b.cases {
		before, err := k.at.look()
		if err != nil {
			return err
		}
		if _, err := b.caller.call(k, "ADD"); err != nil {
			return err
		}
		if err := k.verifyMade(before); err != nil {
			return fmt.Errorf("ADD of the case %q: %w", k.Name, err)
		}
		for _, verb := range []string{"CHECK", "DEL"} {
			if _, err := b.caller.call(k, verb); err != nil {
				return err
			}
		}
		if err := k.clear(); err != nil {
			return err
		}
		left, err := k.at.look()
		if err != nil {
			return err
		}
		if left != before {
			return fmt.Errorf("DEL of the case %q left %+v, not %+v as before ADD", k.Name, left, before)
		}
	}
	return nil
}

// verifyMade compares what ADD made with what it should have.
func (k *trial) verifyMade(before made) error {
	after, err := k.at.look()
	if err != nil {
		return err
	}
	want := before
	want.pod += k.want.pod
	want.node += k.want.node
	want.tbf += k.want.tbf
	if after != want {
		return fmt.Errorf("there are now %+v, not %+v", after, want)
	}
	copying, err := k.at.copying()
	if err != nil {
		return err
	}
	if copying < k.want.copies {
		return fmt.Errorf("the pod's packets are copied to %d devices, not %d", copying, k.want.copies)
	}
	return nil
}

// look counts what is there.
func (p *place) look() (made, error) {
	var m made
	inPod, err := p.pod.Netlink.LinkList()
	if err != nil {
		return m, fmt.Errorf("list the pod's devices: %w", err)
	}
	for _, l := range inPod {
		m.pod += count(l.Attrs().Group == ours)
	}
	onNode, err := p.node.Netlink.LinkList()
	if err != nil {
		return m, fmt.Errorf("list the node's devices: %w", err)
	}
	for _, l := range onNode {
		m.node += count(l.Attrs().Group == ours || l.Type() == "ifb")
		if l.Type() != "ifb" && l.Attrs().Name != p.port {
			continue
		}
		qdiscs, err := p.node.Netlink.QdiscList(l)
		if err != nil {
			return m, fmt.Errorf("list the qdiscs of %s: %w", l.Attrs().Name, err)
		}
		for _, q := range qdiscs {
			m.tbf += count(q.Type() == "tbf")
		}
	}
	return m, nil
}

// copying has the pod send a packet and receive one, and returns on how many of
// podtap's devices in the pod both went out.
func (p *place) copying() (int, error) {
	before, err := sent(p.pod.Space)
	if err != nil {
		return 0, err
	}
	if p.pod.Ping(p.node.IPv4(), 1) != 1 {
		return 0, fmt.Errorf("the node %s does not answer its pod", p.node.Name)
	}
	after, err := sent(p.pod.Space)
	if err != nil {
		return 0, err
	}
	n := 0
	for index, packets := range after {
		n += count(packets >= before[index]+2)
	}
	return n, nil
}

// sent has the packets that each of podtap's devices sent, by index.
func sent(s *lab.Space) (map[int]uint64, error) {
	links, err := s.Netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list the devices of %s: %w", s.Name, err)
	}
	out := map[int]uint64{}
	for _, l := range links {
		if a := l.Attrs(); a.Group == ours && a.Statistics != nil {
			out[a.Index] = a.Statistics.TxPackets
		}
	}
	return out, nil
}

func count(is bool) int {
	if is {
		return 1
	}
	return 0
}
