package mirror

import (
	"errors"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"

	"github.com/podtap/podtap/pkg/tap"
)

// builder makes one tap. The rules that fill it come last, so that the first
// copy already finds its whole way.
type builder struct {
	pod    *Pod
	node   *Node
	tap    tap.Tap
	mark   mark
	tapped netlink.Link // the pod's interface
	host   string       // the node's end, if the tap has one
	// warnings are what works less well than one might think.
	warnings []string
	// began is set once something has been made that undo must take away.
	began bool
}

// build makes the tap, whatever its sink.
func (b *builder) build() (Made, error) {
	if err := b.prepare(); err != nil {
		return Made{}, err
	}
	b.began = true
	var err error
	switch {
	case b.tap.Veth != nil:
		err = b.buildVeth()
	case b.tap.Wire != nil:
		err = b.buildWire()
	case b.tap.VXLAN.Placement == tap.PlacementPod:
		err = b.buildInPod()
	default:
		err = b.buildRelayed()
	}
	if err != nil {
		return Made{}, err
	}
	return b.made()
}

// makeVeth makes the tap's veth pair and silences both ends if they only carry copies.
func (b *builder) makeVeth(mtu int, silent bool) (device, host netlink.Link, err error) {
	if err = b.node.addVeth(b.host, b.pod.namespace, b.tap.Device, mtu); err != nil {
		return nil, nil, err
	}
	if device, err = b.pod.findLink(b.tap.Device); err != nil {
		return nil, nil, err
	}
	if host, err = b.node.findLink(b.host); err != nil {
		return nil, nil, err
	}
	if silent {
		err = errors.Join(b.pod.silence(device), b.node.silence(host))
	}
	return device, host, err
}

func (b *builder) buildVeth() error {
	device, host, err := b.makeVeth(mirrorMTU, true)
	if err != nil {
		return err
	}
	if err := b.markBoth(device, host); err != nil {
		return err
	}
	return b.start(device, host, matchAll())
}

func (b *builder) buildRelayed() error {
	device, host, err := b.makeVeth(mirrorMTU, true)
	if err != nil {
		return err
	}
	// From the relay's making until a device says that it uses it, nobody may
	// sweep it.
	err = b.node.withLock(func() error {
		relay, err := b.node.ensureRelay(collectorOf(b.tap.VXLAN))
		if err != nil {
			return err
		}
		b.mark.Relay = relay.Attrs().Name
		if err := b.markBoth(device, host); err != nil {
			return err
		}
		return b.node.addRule("redirect "+b.host+" to "+b.mark.Relay, rule{
			index: host.Attrs().Index, hook: hookIngress, priority: redirectPriority,
			program: matchAll(), mirred: &mirred{redirect: true, to: relay.Attrs().Index},
		})
	})
	if err != nil {
		return err
	}
	return b.start(device, host, passCopies(b.tap.VXLAN))
}

// buildInPod makes the VXLAN device in the pod, its underlay in the node.
func (b *builder) buildInPod() error {
	device, err := b.node.makeVXLAN(b.tap.Device, b.pod.namespace, collectorOf(b.tap.VXLAN))
	if err != nil {
		return err
	}
	if err := b.markBoth(device, nil); err != nil {
		return err
	}
	return b.start(device, nil, passCopies(b.tap.VXLAN))
}

// markBoth writes the owner into the alias of each device of the tap.
func (b *builder) markBoth(device, host netlink.Link) error {
	if b.tap.Wire == nil {
		hooks, err := b.pod.hookQdiscs()
		if err != nil {
			return err
		}
		b.mark.Clsact = hooks[b.tapped.Attrs().Index] == ""
		b.mark.ZeroQueue = b.mark.Clsact && b.tapped.Attrs().TxQLen == 0
	}
	m := b.mark
	m.Owner = m.shortened()
	if err := b.pod.setAlias(device, m.alias()); err != nil || host == nil {
		return err
	}
	return b.node.setAlias(host, m.alias())
}

// start sets the devices up, and then lets the copies flow.
func (b *builder) start(device, host netlink.Link, program []bpf.RawInstruction) error {
	if host != nil {
		if err := b.node.setUp(host); err != nil {
			return err
		}
	}
	if err := b.pod.setUp(device); err != nil {
		return err
	}
	return b.pod.attach(b.tapped, newCookie(b.mark.Owner, b.tap.Device, 0), hooksOf(b.tap),
		rule{program: program, mirred: &mirred{to: device.Attrs().Index}})
}

func hooksOf(t tap.Tap) []uint32 {
	var hooks []uint32
	if t.Includes(tap.Ingress) {
		hooks = append(hooks, hookIngress)
	}
	if t.Includes(tap.Egress) {
		hooks = append(hooks, hookEgress)
	}
	return hooks
}

// made describes the tap as the kernel has it now.
func (b *builder) made() (Made, error) {
	device, err := b.pod.findLink(b.tap.Device)
	if err != nil {
		return Made{}, err
	}
	made := Made{Device: deviceOf(device), Warnings: b.warnings}
	if b.host != "" {
		host, err := b.node.findLink(b.host)
		if err != nil {
			return Made{}, err
		}
		d := deviceOf(host)
		made.Host = &d
	}
	return made, nil
}

// undo takes away what a failed build made, marked or not yet.
func (b *builder) undo() error {
	if !b.began {
		return nil
	}
	err := b.pod.deleteUnmarked(b.tap.Device)
	if b.host != "" {
		err = errors.Join(err, b.node.deleteUnmarked(b.host))
	}
	return errors.Join(err, b.remove())
}

// deleteUnmarked deletes a device of a builder's that has no owner yet: its name
// was free, and the group says podtap.
func (n *namespace) deleteUnmarked(name string) error {
	l, err := n.linkByName(name)
	if err != nil || l == nil || l.Attrs().Group != deviceGroup || l.Attrs().Alias != "" {
		return err
	}
	return n.deleteLink(l.Attrs().Index, name)
}

// remove takes away this one tap and, if it was its last user, the relay.
func (b *builder) remove() error {
	return b.pod.removeTaps(func(m mark) bool {
		return m.ownedBy(b.mark.Owner) && m.Device == b.tap.Device
	}, newCookie(b.mark.Owner, b.tap.Device, 0).sameTap)
}
