package mirror

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// namespace is an open network namespace with its netlink sockets. The sockets
// belong to the namespace for good, so that nothing but sysctls and packet
// sockets needs a thread to enter it.
type namespace struct {
	space   ns.NetNS
	handle  *netlink.Handle
	sockets map[int]*nl.SocketHandle // for requests that the library has no words for
	// before is called ahead of each change to the kernel; an error is the
	// change's. Tests fail each change in turn with it.
	before func(change string) error
}

func openNamespaceAt(path string) (*namespace, error) {
	space, err := ns.GetNS(path)
	if err != nil {
		return nil, err
	}
	return openNamespace(space)
}

// openNamespace opens the netlink sockets of a namespace, which it closes if it
// fails; nil stands for the caller's.
func openNamespace(space ns.NetNS) (*namespace, error) {
	if space == nil {
		var err error
		if space, err = ns.GetCurrentNS(); err != nil {
			return nil, err
		}
	}
	n := &namespace{space: space}
	at := netns.NsHandle(space.Fd())
	handle, err := netlink.NewHandleAt(at, unix.NETLINK_ROUTE)
	if err != nil {
		n.Close()
		return nil, fmt.Errorf("netlink: %w", err)
	}
	n.handle = handle
	socket, err := nl.GetNetlinkSocketAt(at, netns.None(), unix.NETLINK_ROUTE)
	if err != nil {
		n.Close()
		return nil, fmt.Errorf("netlink: %w", err)
	}
	n.sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: socket}}
	timeout := unix.NsecToTimeval(socketTimeout.Nanoseconds())
	err = errors.Join(handle.SetSocketTimeout(socketTimeout), socket.SetSendTimeout(&timeout), socket.SetReceiveTimeout(&timeout))
	if err != nil {
		n.Close()
		return nil, fmt.Errorf("netlink: %w", err)
	}
	// The kernel's own words for what it refused; old kernels have none.
	_ = socket.SetExtAck(true)
	return n, nil
}

// Close closes the namespace's sockets and its descriptor.
func (n *namespace) Close() {
	if n.handle != nil {
		n.handle.Close()
	}
	if s := n.sockets[unix.NETLINK_ROUTE]; s != nil {
		s.Close()
	}
	_ = n.space.Close()
}

// request sends one netlink request and returns the answer's messages.
func (n *namespace) request(kind, flags int, data ...nl.NetlinkRequestData) ([][]byte, error) {
	r := nl.NewNetlinkRequest(kind, flags)
	r.Sockets = n.sockets
	for _, d := range data {
		r.AddData(d)
	}
	return r.Execute(unix.NETLINK_ROUTE, 0)
}

// change makes one change to the kernel.
func (n *namespace) change(what string, f func() error) error {
	if n.before != nil {
		if err := n.before(what); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	if err := f(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// sysctl is one setting of one device, such as disable_ipv6 of ipv6.
type sysctl struct{ family, name, value string }

// setSysctls sets a device's sysctls. A family that the kernel lacks needs none.
func (n *namespace) setSysctls(device string, settings ...sysctl) error {
	return n.change("set sysctls of "+device, func() error {
		return n.space.Do(func(ns.NetNS) error {
			for _, s := range settings {
				path := filepath.Join("/proc/sys/net", s.family, "conf", device, s.name)
				err := os.WriteFile(path, []byte(s.value), 0)
				if err != nil && !errors.Is(err, os.ErrNotExist) {
					return err
				}
			}
			return nil
		})
	})
}

// retryDump repeats a dump that changes elsewhere made inconsistent, a few times.
func retryDump[T any](dump func() (T, error)) (T, error) {
	var out T
	var err error
	for range 10 {
		if out, err = dump(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return out, err
		}
	}
	return out, err
}

func (n *namespace) links() ([]netlink.Link, error) {
	links, err := retryDump(n.handle.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	return links, nil
}

// linkByName is nil without an error where there is no such device.
func (n *namespace) linkByName(name string) (netlink.Link, error) {
	l, err := n.handle.LinkByName(name)
	var notFound netlink.LinkNotFoundError
	if errors.As(err, &notFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for device %s: %w", name, err)
	}
	return l, nil
}
