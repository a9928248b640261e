package mirror

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/pkg/tap"
)

// prepare finds out, before anything is made, whether the tap can be.
func (b *builder) prepare() error {
	var err error
	if b.tapped, err = b.findTapped(); err != nil {
		return err
	}
	if b.tap.VXLAN == nil || b.tap.VXLAN.Placement == tap.PlacementNode {
		b.host = b.tap.HostInterface()
		if b.host == "" {
			b.host = hostName(b.mark.Owner.shortened(), b.tap.Device)
		}
	}
	if b.tap.Wire == nil {
		hooks, err := b.pod.hookQdiscs()
		if err != nil {
			return err
		}
		b.qdisc = hooks[b.tapped.index]
	}
	if b.tap.VXLAN != nil {
		return b.checkPath()
	}
	if b.tap.Wire != nil {
		return b.checkRoutes()
	}
	return nil
}

// findTapped returns the pod's interface, if it is one that tc can tap.
func (b *builder) findTapped() (*link, error) {
	name := b.tap.Interface
	l, err := b.pod.linkByName(name)
	switch {
	case err != nil:
		return nil, err
	case l == nil:
		return nil, fmt.Errorf("interface: the pod has %w as %s; it has %s", ErrNoInterface, name, b.interfaces())
	case l.hardware != unix.ARPHRD_ETHER:
		return nil, fmt.Errorf("interface: %s is %w: its hardware type is %d, and only Ethernet can be tapped", name, ErrUnsupported, l.hardware)
	}
	if m, ours := linkMark(l); ours && m.Direction != "" {
		return nil, fmt.Errorf("interface: %s is %w: it is a mirror itself", name, ErrUnsupported)
	}
	return l, nil
}

// interfaces names the pod's interfaces, for a message.
func (b *builder) interfaces() string {
	links, err := b.pod.links()
	if err != nil || len(links) == 0 {
		return "none"
	}
	out := ""
	for i, l := range links {
		if i == 10 {
			return out + ", …"
		}
		if i > 0 {
			out += ", "
		}
		out += l.name
	}
	return out
}

// nameTaken says which of the tap's names somebody else's device has, where the
// kernel only says that one exists.
func (b *builder) nameTaken(exists error) error {
	if l, err := b.pod.linkByName(b.tap.Device); err != nil {
		return err
	} else if l != nil {
		return fmt.Errorf("device: the name %s is %w by another interface of the pod; choose another", b.tap.Device, ErrConflict)
	}
	if b.host == "" {
		return exists
	}
	if l, err := b.node.linkByName(b.host); err != nil {
		return err
	} else if l != nil {
		return fmt.Errorf("%s.hostInterface: the name %s is %w by another interface of the node; choose another", b.tap.Sink(), b.host, ErrConflict)
	}
	return exists
}
