package mirror

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/pkg/mirror/internal/trim"
	"github.com/podtap/podtap/pkg/tap"
)

// builder makes one tap. The rules that fill it come last, so that the first
// copy already finds its whole way.
type builder struct {
	pod    *Pod
	node   *Node
	tap    tap.Tap
	mark   mark
	tapped *link  // the pod's interface
	qdisc  string // clsact or ingress, if the interface has its hooks already
	host   string // the node's end, if the tap has one
	path   int    // what the path to the collector takes, in bytes; 0 where it is unknown
	made   Made
	// began is set once something has been made that undo must take away, and
	// hooked once the tapped interface has its clsact from this tap.
	began, hooked bool
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
	return b.made, err
}

// makeVeth makes the tap's veth pair with the MTU of each end, and silences both
// if they only carry copies.
func (b *builder) makeVeth(inPod, atNode int, silent bool) (device, host *link, err error) {
	container := b.mark.ContainerID
	err = b.node.addVeth(end{b.host, macOf(macAtNode, container, b.tap.Device), atNode},
		end{b.tap.Device, macOf(macInPod, container, b.tap.Device), inPod}, b.pod.namespace, silent)
	if errors.Is(err, unix.EEXIST) {
		b.began = false // nothing has been made
		return nil, nil, b.nameTaken(err)
	}
	if err != nil {
		return nil, nil, err
	}
	if device, err = b.pod.findLink(b.tap.Device); err != nil {
		return nil, nil, err
	}
	if host, err = b.node.findLink(b.host); err != nil {
		return nil, nil, err
	}
	onNode := host.device()
	b.made.Device, b.made.Host = device.device(), &onNode
	if silent {
		err = errors.Join(b.pod.silence(device, inPod), b.node.silence(host, atNode))
	}
	return device, host, err
}

func (b *builder) buildVeth() error {
	device, host, err := b.makeVeth(quietMTU, mirrorMTU, true)
	if err == nil {
		err = b.trim(device, host, nil)
	}
	if err != nil {
		return err
	}
	return b.start(device, host)
}

func (b *builder) buildRelayed() error {
	device, host, err := b.makeVeth(quietMTU, mirrorMTU, true)
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
		b.mark.Relay = relay.name
		if err := b.node.setAlias(host, b.mark.alias()); err != nil {
			return err
		}
		if err := b.trim(device, host, relay); err != nil {
			return err
		}
		return b.node.addRule("redirect "+b.host+" to "+b.mark.Relay, rule{
			index: host.index, hook: hookIngress, priority: redirectPriority, program: matchAll(),
			mirred: &mirred{redirect: true, to: relay.index, cookie: newCookie(b.mark.Owner, b.tap.Device, 0)},
		})
	})
	if err == nil {
		err = b.start(device, host)
	}
	if err != nil {
		return err
	}
	if host, err = b.node.findLink(b.host); err != nil { // with its program
		return err
	}
	return b.refit(host)
}

// refit looks at the path once more, when a follower sees the tap: before that, it may have
// changed unseen.
func (b *builder) refit(host *link) error {
	path, err := b.node.pathMTU(b.tap.VXLAN)
	if err != nil || path == b.path || !fits(b.tap.VXLAN) {
		return nil // an error is warned of already
	}
	_, err = b.node.setPath(host, framesOf(path, b.tap.VXLAN))
	return err
}

// buildInPod makes the VXLAN device in the pod, its underlay in the node.
func (b *builder) buildInPod() error {
	device, err := b.node.makeVXLAN(end{b.tap.Device, macOf(macInPod, b.mark.ContainerID, b.tap.Device), quietMTU},
		b.pod.namespace, collectorOf(b.tap.VXLAN))
	if errors.Is(err, unix.EEXIST) {
		b.began = false
		return b.nameTaken(err)
	}
	if err != nil {
		return err
	}
	b.made.Device = device.device()
	return b.start(device, nil)
}

// start writes the owner into the devices' aliases, sets them up, and then lets
// the copies flow. The alias comes before clsact, because it tells whose that is.
func (b *builder) start(device, host *link) error {
	ofTap := newCookie(b.mark.Owner, b.tap.Device, 0)
	rules, err := rulesOf(b.tap, ofTap, device.index)
	if err != nil {
		return err
	}
	if b.tap.MaxBitrate > 0 {
		if err := b.pod.setCap(device, b.tap.MaxBitrate); err != nil {
			return err
		}
	}
	b.mark.Clsact = b.qdisc == ""
	b.mark.ZeroQueue = b.mark.Clsact && b.tapped.queue == 0
	if host != nil {
		if err := b.node.markAndSetUp(host, b.mark.alias()); err != nil {
			return err
		}
	}
	if err := b.pod.markAndSetUp(device, b.mark.alias()); err != nil {
		return err
	}
	b.hooked, err = b.pod.attach(b.tapped, b.qdisc, ofTap, hooksOf(b.tap), rules)
	return err
}

// trim has the tap's copies trimmed on the node, if they are to be. Where the kernel cannot
// make them fit, and the tap leaves that open, they go in fragments.
func (b *builder) trim(device, host, relay *link) error {
	s := b.trimSpec(relay)
	if !s.Trims() {
		return nil
	}
	if err := b.node.setTrim(host, attached{}, s); err != nil {
		return b.untrimmed(err)
	}
	return b.pod.setCarriage(device.name, carriageOf(s))
}

// untrimmed is what it means for the tap that its copies could not be trimmed: nil, and a
// warning, where the kernel takes no eBPF and the tap leaves open whether its copies fit.
func (b *builder) untrimmed(err error) error {
	switch {
	case !errors.Is(err, errNoEBPF):
		return err
	case b.tap.SnapLength > 0:
		return fmt.Errorf("snapLength: %w: to cut copies takes eBPF: %w", ErrUnsupported, err)
	case b.tap.VXLAN.Oversize == tap.Fit:
		return fmt.Errorf("vxlan.oversize: %w: to make copies fit takes eBPF; use fragment: %w", ErrUnsupported, err)
	}
	b.warnOfOversize(err)
	return nil
}

// trimSpec is how the tap's copies are to be trimmed. Where the path to the collector is
// unknown, it is taken to be that of the pod's packets.
func (b *builder) trimSpec(relay *link) trim.Spec {
	index, path := 0, b.path
	if relay != nil {
		index = relay.index
	}
	if path == 0 {
		path = b.tapped.mtu
	}
	return trimOf(b.tap, path, b.tapped.mtu+ethernetHeader, index)
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

// undo takes away what a failed build made: this one tap and, if it was its last
// user, the relay.
func (b *builder) undo() error {
	if !b.began {
		return nil
	}
	err := b.pod.remove(ofTap(b.mark.Owner, b.tap.Device))
	if b.hooked {
		// The device whose alias tells of the clsact may have vanished meanwhile.
		err = errors.Join(err, b.pod.removeClsact(b.tapped.name, b.mark.ZeroQueue))
	}
	return err
}
