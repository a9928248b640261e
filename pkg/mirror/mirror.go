// Package mirror makes taps true in the kernel: it makes, checks, lists and
// removes the devices and tc rules of taps in a pod's network namespace and its
// node's. It is the only package that touches netlink, tc, eBPF and ethtool, and keeps no state
// of its own: every device carries its owner in its alias, every rule in its
// action's cookie, and what cannot be proven podtap's is left alone.
package mirror

import (
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/pkg/tap"
)

// What callers tell apart with errors.Is; each comes wrapped in a message that
// says what was tried on what, and what can be done.
var (
	// ErrNoInterface: the interface to tap does not exist in the pod.
	ErrNoInterface = errors.New("no such interface")
	// ErrMTU: the copies do not fit the path, and the tap refuses that.
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
	// deviceGroup marks podtap's devices from the moment of their creation,
	// before they can have an alias: "ptap" in ASCII.
	deviceGroup = 0x70746170
	// doomedGroup is that of devices of podtap's that are about to be deleted.
	doomedGroup = deviceGroup + 1
)

// Node is the node's network namespace: the one of the calling process.
type Node struct {
	*namespace
}

// Pod is a pod's network namespace, seen from its node.
type Pod struct {
	*namespace
	node *Node
	path string
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
	// Path and socket have to be of one thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	space, err := ns.GetNS(ownNamespace)
	if err != nil {
		return nil, fmt.Errorf("open the node's network namespace: %w", err)
	}
	n := &namespace{space: space}
	if n.socket, err = openSocket(); err != nil {
		_ = space.Close()
		return nil, fmt.Errorf("open the node's network namespace: %w", err)
	}
	return &Node{n}, nil
}

// OpenPod opens the network namespace at a path. IsGone tells the error of one that
// is not there; where it is the node's own, the error wraps ErrForbidden.
func (n *Node) OpenPod(path string) (*Pod, error) {
	space, err := ns.GetNS(path)
	if err != nil {
		return nil, fmt.Errorf("open the pod's network namespace: %w", err)
	}
	if same, err := sameNamespace(space, n.space); err != nil || same {
		_ = space.Close()
		return nil, errors.Join(err, fmt.Errorf("open the pod's network namespace: %w: %s is the node's own network namespace; a pod on the host's network cannot be tapped", ErrForbidden, path))
	}
	opened, err := openNamespace(space)
	if err != nil {
		return nil, fmt.Errorf("open the pod's network namespace %s: %w", path, err)
	}
	return &Pod{opened, n, path}, nil
}

// IsGone says whether OpenPod failed because there is no network namespace at the
// path, or something else by now.
func IsGone(err error) bool {
	var gone ns.NSPathNotExistErr
	var other ns.NSPathNotNSErr
	return errors.As(err, &gone) || errors.As(err, &other)
}

func sameNamespace(a, b ns.NetNS) (bool, error) {
	var statA, statB unix.Stat_t
	if err := errors.Join(unix.Fstat(int(a.Fd()), &statA), unix.Fstat(int(b.Fd()), &statB)); err != nil {
		return false, err
	}
	return statA.Dev == statB.Dev && statA.Ino == statB.Ino, nil
}

// Present is what a pod has when an owner's work on it begins.
type Present struct {
	names map[string]bool // of the devices that are not the owner's
	// Taps is how many of the devices are taps of other owners.
	Taps int
	// Remains says that there is something of the owner's: of an attempt that was
	// cut short, or finished. Remove takes it away.
	Remains bool
}

// Has says whether the pod has a device of a name that is not the owner's.
func (p Present) Has(name string) bool { return p.names[name] }

// Present lists the pod's devices. The caller holds the pod's lock.
func (p *Pod) Present(owner Owner) (Present, error) {
	links, err := p.links()
	if err != nil {
		return Present{}, err
	}
	present := Present{names: map[string]bool{}}
	for _, l := range links {
		m, isTap := linkMark(l)
		if isTap && m.ownedBy(owner) || l.halfMadeFor(owner) {
			present.Remains = true
			continue
		}
		present.names[l.name] = true
		if isTap {
			present.Taps++
		}
	}
	return present, nil
}

// numberOf is the number that the node's namespace has for a pod's, -1 for none.
func (n *Node) numberOf(p *Pod) (int, error) {
	const netnsaID, netnsaFD = 1, 3 // of linux/net_namespace.h
	found, err := query(n.namespace, unix.RTM_GETNSID, 0, func(m []byte) (id int, ok bool, err error) {
		if len(m) < unix.SizeofRtGenmsg {
			return 0, false, errors.New("short message")
		}
		for kind, value := range attributes(m[(unix.SizeofRtGenmsg+3)&^3:]) {
			if kind == netnsaID {
				id, ok = int(int32(number(value))), true
			}
		}
		return id, ok, nil
	}, &nl.RtGenMsg{}, nl.NewRtAttr(netnsaFD, nl.Uint32Attr(uint32(p.space.Fd()))))
	if err != nil || len(found) == 0 {
		return -1, err
	}
	return found[0], nil
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
	links, err := n.linksOf("vxlan", skipStatistics)
	if err != nil {
		return nil, err
	}
	var out []VXLAN
	for _, l := range links {
		if _, ours := relayMark(l); l.kind == "vxlan" && !ours && !l.vxlan.external {
			out = append(out, VXLAN{Name: l.name, Port: l.vxlan.port, VNI: l.vxlan.id})
		}
	}
	return out, nil
}

// Add makes one tap for an owner that has no device of that name. If Add fails,
// what it made is undone. The caller holds the pod's lock.
func (p *Pod) Add(owner Owner, t tap.Tap, pod string) (Made, error) {
	b := &builder{pod: p, node: p.node, tap: t, mark: mark{
		Owner: owner.shortened(), Device: t.Device, Interface: t.Interface, Direction: t.Direction,
		Filter: filterHash(t.Filter), Since: time.Unix(time.Now().Unix(), 0), Pod: pod,
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
