package mirror

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/containernetworking/plugins/pkg/ns"
	"golang.org/x/sys/unix"
)

// namespace is an open network namespace with its netlink socket. The socket
// belongs to the namespace for good, so that nothing but sysctls needs a thread
// to enter it.
type namespace struct {
	space  ns.NetNS
	socket *socket
	// before is called ahead of each change to the kernel; an error is the
	// change's. Tests fail each change in turn with it.
	before func(change string) error
}

// openNamespace opens the socket of a namespace, which it closes if it fails.
func openNamespace(space ns.NetNS) (*namespace, error) {
	n := &namespace{space: space}
	err := n.enter(func() error {
		var err error
		n.socket, err = openSocket()
		return err
	})
	if err != nil {
		_ = space.Close()
		return nil, err
	}
	return n, nil
}

// reopen replaces the socket by one that has nothing more to read.
func (n *namespace) reopen() error {
	return n.enter(func() error {
		fresh, err := openSocket()
		if err == nil {
			n.socket.close()
			fresh.until, fresh.reads = n.socket.until, n.socket.reads
			n.socket = fresh
		}
		return err
	})
}

// Close closes the namespace's socket and its descriptor.
func (n *namespace) Close() {
	n.socket.close()
	_ = n.space.Close()
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
		return n.enter(func() error {
			for _, s := range settings {
				err := writeFile(filepath.Join("/proc/sys/net", s.family, "conf", device, s.name), s.value)
				if err != nil && !errors.Is(err, unix.ENOENT) {
					return err
				}
			}
			return nil
		})
	})
}

// sysctl reads a device's sysctl; "" where there is none.
func (n *namespace) sysctl(device, family, name string) string {
	var value string
	_ = n.enter(func() error {
		var err error
		value, err = readFile(filepath.Join("/proc/sys/net", family, "conf", device, name))
		return err
	})
	return value
}

// writeFile writes a file of /proc. Those of package os are known to Go's poller
// first, at the cost of the writing.
func writeFile(path, value string) error {
	fd, err := unix.Open(path, unix.O_WRONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer func() { _ = unix.Close(fd) }()
	if _, err := unix.Write(fd, []byte(value)); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// readFile reads a short file of /proc, without the line's end.
func readFile(path string) (string, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	defer func() { _ = unix.Close(fd) }()
	b := make([]byte, 64)
	count, err := unix.Read(fd, b)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	for count > 0 && b[count-1] == '\n' {
		count--
	}
	return string(b[:count]), nil
}
