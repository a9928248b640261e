// Package mirror makes taps true in the kernel: it makes, checks, lists and
// removes the devices and tc rules of taps in a pod's network namespace and its
// node's. It is the only package that touches netlink and tc, and keeps no state
// of its own: every device carries its owner in its alias, every rule in its
// action's cookie, and what cannot be proven podtap's is left alone.
package mirror

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/pkg/tap"
)

// What callers tell apart with errors.Is; each comes wrapped in a message that
// says what was tried on what, and what can be done.
var (
	// ErrNoInterface: the interface to tap does not exist in the pod.
	ErrNoInterface = errors.New("no such interface")
	// ErrMTU: the copies do not fit the path, and the tap refuses to fragment.
	ErrMTU = errors.New("does not fit the MTU")
	// ErrUnsupported: this kernel, or this kind of interface, cannot do it.
	ErrUnsupported = errors.New("not supported")
	// ErrConflict: a name or an address that the tap asks for is in use.
	ErrConflict = errors.New("in use")
	// ErrForbidden: nobody may do that, wherever the tap comes from.
	ErrForbidden = errors.New("forbidden")
	// ErrBusy: somebody else holds a lock for longer than we may wait.
	ErrBusy = errors.New("busy")
)

const (
	// mirrorMTU is the MTU of both ends of a mirror's veth, in bytes: the most a
	// veth can have. mirred ignores the MTU of its target, but the veth drops
	// what exceeds its own, as it would after somebody raised the pod's MTU.
	mirrorMTU = 65535
	// deviceGroup marks podtap's devices from the moment of their creation,
	// before they can have an alias: "ptap" in ASCII.
	deviceGroup = 0x70746170
	// socketTimeout bounds one netlink exchange.
	socketTimeout = 10 * time.Second
)

// Node is the node's network namespace: the one of the calling process.
type Node struct {
	*namespace
}

// Pod is a pod's network namespace, seen from its node.
type Pod struct {
	*namespace
	node *Node
}

// Device is a network device that a tap made.
type Device struct {
	Name string
	MAC  string
	MTU  int // bytes
}

// Made is what Add made of one tap.
type Made struct {
	Device   Device   // in the pod
	Host     *Device  // on the node; nil where the tap has none of its own there
	Warnings []string // what works less well than one might think
}

// OpenNode opens the network namespace of the calling thread.
func OpenNode() (*Node, error) {
	space, err := openNamespace(nil)
	if err != nil {
		return nil, fmt.Errorf("open the node's network namespace: %w", err)
	}
	return &Node{space}, nil
}

// OpenPod opens the network namespace at a path. Where that is gone, the error is
// one of plugins/pkg/ns, NSPathNotExistErr or NSPathNotNSErr.
func (n *Node) OpenPod(path string) (*Pod, error) {
	space, err := openNamespaceAt(path)
	if err != nil {
		return nil, fmt.Errorf("open the pod's network namespace: %w", err)
	}
	return &Pod{space, n}, nil
}

// Others is what a pod has beside one owner's taps.
type Others struct {
	names map[string]bool
	// Taps is how many of the devices are taps of other owners.
	Taps int
}

// Has says whether one of the devices has a name.
func (o Others) Has(name string) bool { return o.names[name] }

// Others lists the pod's devices that are not the owner's.
func (p *Pod) Others(owner Owner) (Others, error) {
	links, err := p.links()
	if err != nil {
		return Others{}, err
	}
	others := Others{names: map[string]bool{}}
	for _, l := range links {
		m, isTap := linkMark(l)
		if isTap && m.ownedBy(owner) {
			continue
		}
		others.names[l.Attrs().Name] = true
		if isTap {
			others.Taps++
		}
	}
	return others, nil
}

// HasInterface says whether the pod has an interface of this name.
func (p *Pod) HasInterface(name string) (bool, error) {
	l, err := p.linkByName(name)
	return l != nil, err
}

// Addresses are the pod's own, on every interface.
func (p *Pod) Addresses() ([]netip.Addr, error) {
	list, err := retryDump(func() ([]netlink.Addr, error) { return p.handle.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, fmt.Errorf("list the pod's addresses: %w", err)
	}
	var out []netip.Addr
	for _, a := range list {
		if address, ok := netip.AddrFromSlice(a.IP); ok {
			out = append(out, address.Unmap())
		}
	}
	return out, nil
}

// VXLAN is a VXLAN device that receives one VNI on one port.
type VXLAN struct {
	Name string
	Port uint16
	VNI  uint32
}

// ForeignVXLANs are the VXLAN devices in the node's namespace that are not
// podtap's. Those in external mode are not among them: they have no VNI.
func (n *Node) ForeignVXLANs() ([]VXLAN, error) {
	links, err := n.links()
	if err != nil {
		return nil, err
	}
	var out []VXLAN
	for _, l := range links {
		vxlan, ok := l.(*netlink.Vxlan)
		if _, ours := relayMark(l); ok && !ours && !vxlan.FlowBased {
			out = append(out, VXLAN{Name: vxlan.Name, Port: uint16(vxlan.Port), VNI: uint32(vxlan.VxlanId)})
		}
	}
	return out, nil
}

// Add makes one tap for an owner. Where the owner has a tap of that device
// already, left by an attempt that was cut short, it is made anew. If Add fails,
// what it made is undone. The caller holds the pod's lock.
func (p *Pod) Add(owner Owner, t tap.Tap, pod string) (Made, error) {
	b := &builder{pod: p, node: p.node, tap: t, mark: mark{
		Owner: owner, Device: t.Device, Interface: t.Interface, Direction: t.Direction, Pod: pod,
	}}
	made, err := b.build()
	if err == nil {
		return made, nil
	}
	if undo := b.undo(); undo != nil {
		err = errors.Join(err, fmt.Errorf("undo: %w", undo))
	}
	return Made{}, err
}

// isNodes says whether the namespace is the node's own.
func (p *Pod) isNodes(n *Node) bool {
	var a, b unix.Stat_t
	if unix.Fstat(int(p.space.Fd()), &a) != nil || unix.Fstat(int(n.space.Fd()), &b) != nil {
		return false
	}
	return a.Dev == b.Dev && a.Ino == b.Ino
}
