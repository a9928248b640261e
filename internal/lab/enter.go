// Package lab builds small networks out of real network namespaces, for tests and
// for the demo: nodes, pods and collectors, with cables, addresses and traffic
// between them. All of it lives in namespaces that the program enters first, so
// that the machine is left as it was found, and an ordinary user can run it.
package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// T is what the lab needs of a test. The demo has its own.
type T interface {
	Helper()
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
	Cleanup(func())
	TempDir() string
}

// outside is the environment variable that tells the program in the lab which
// namespaces it came from.
const outside = "PODTAP_LAB_OUTSIDE"

// Inside says whether the program runs in the lab.
func Inside() bool { return os.Getenv(outside) != "" }

// Privileged says whether root in the lab is the machine's own root, not an
// ordinary user in a user namespace.
func Privileged() bool {
	ids, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(ids)), " ") == "0 0 4294967295"
}

// KernelHas says whether the kernel is of a version or a later one.
func KernelHas(major, minor int) bool {
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		fail(err)
	}
	return atLeast(string(release), major, minor)
}

// atLeast compares a release, such as 6.1.0-38-amd64, with a version.
func atLeast(release string, major, minor int) bool {
	var is [2]int
	if _, err := fmt.Sscanf(release, "%d.%d", &is[0], &is[1]); err != nil {
		fail(fmt.Errorf("the kernel's release %q: %w", release, err))
	}
	return slices.Compare(is[:], []int{major, minor}) >= 0
}

// namespaces names the network and the mount namespace of this process.
func namespaces() (string, error) {
	network, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return "", err
	}
	mounts, err := os.Readlink("/proc/self/ns/mnt")
	return network + " " + mounts, err
}

// Enter runs the program again, with the same arguments and the environment given
// on top of its own, in a network and a mount namespace of its own; for an
// ordinary user, in a user namespace where he is root. It returns the exit code.
func Enter(environment ...string) (int, error) {
	// The child is to die with the thread that made it, so that has to stay.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	program, err := os.Executable()
	if err != nil {
		return 0, err
	}
	here, err := namespaces()
	if err != nil {
		return 0, err
	}
	c := exec.Command(program, os.Args[1:]...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.Env = append(append(os.Environ(), environment...), outside+"="+here)
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		c.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		c.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		c.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	err = c.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	if err != nil {
		return 0, fmt.Errorf("enter namespaces: %w; as an ordinary user this needs user namespaces, see sysctl user.max_user_namespaces", err)
	}
	return 0, nil
}

// Prepare makes the entered namespaces fit for use: a /run of their own, where
// network namespaces get their names and podtap its locks. It refuses to touch
// the namespaces that Enter was called in, whatever the environment says.
func Prepare() error {
	here, err := namespaces()
	if err != nil {
		return err
	}
	from, now := strings.Fields(os.Getenv(outside)), strings.Fields(here)
	if len(from) != 2 || from[0] == now[0] || from[1] == now[1] {
		return fmt.Errorf("not in namespaces of its own: %s is %q; unset it", outside, os.Getenv(outside))
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	if err := os.MkdirAll(spaces, 0o755); err != nil {
		return err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// spaces is where network namespaces have their names, as runtimes keep them.
const spaces = "/run/netns"

// Space is a network namespace with a name.
type Space struct {
	Name    string
	NetNS   ns.NetNS
	Netlink *netlink.Handle
	t       T
}

// Path of the namespace, for CNI_NETNS.
func (s *Space) Path() string { return filepath.Join(spaces, s.Name) }

// NewSpace makes a network namespace, which ends with the test.
func NewSpace(t T, name string) *Space {
	t.Helper()
	path := filepath.Join(spaces, name)
	if err := makeSpace(path); err != nil {
		t.Fatalf("make the network namespace %s: %v", name, err)
	}
	s := openSpace(t, name, path)
	t.Cleanup(s.Destroy)
	s.Sysctl("ipv6", "default", "accept_dad", "0")
	s.Sysctl("ipv6", "all", "accept_dad", "0")
	s.Up("lo")
	return s
}

func openSpace(t T, name, path string) *Space {
	t.Helper()
	space, err := ns.GetNS(path)
	if err != nil {
		t.Fatalf("open the network namespace %s: %v", name, err)
	}
	s := &Space{Name: name, NetNS: space, t: t}
	s.Do(func() error {
		s.Netlink, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	})
	return s
}

// makeSpace makes a namespace on a thread that it takes there and back, and gives it
// a name. A thread must not be left to end in the namespace: Go lets a program's
// first one wait for ever instead, and the namespace would live as long.
func makeSpace(path string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return err
	}
	_ = f.Close()
	runtime.LockOSThread()
	here, err := ns.GetCurrentNS()
	if err != nil {
		runtime.UnlockOSThread()
		return err
	}
	defer here.Close()
	err = unix.Unshare(unix.CLONE_NEWNET)
	if err == nil {
		err = unix.Mount("/proc/thread-self/ns/net", path, "none", unix.MS_BIND, "")
	}
	if back := here.Set(); back != nil { // the thread stays locked, so that nobody else gets it
		return errors.Join(err, back)
	}
	runtime.UnlockOSThread()
	return err
}

func (s *Space) close() {
	if s.Netlink != nil {
		s.Netlink.Close()
		s.Netlink = nil
		_ = s.NetNS.Close()
	}
}

// Destroy takes the namespace's name away, and with it the namespace, as a
// runtime or a crash would. It may be called twice.
func (s *Space) Destroy() {
	s.close()
	_ = unix.Unmount(s.Path(), unix.MNT_DETACH)
	_ = os.Remove(s.Path())
}

// Do runs a function on a thread in the namespace.
func (s *Space) Do(f func() error) {
	s.t.Helper()
	if err := s.NetNS.Do(func(ns.NetNS) error { return f() }); err != nil {
		s.t.Fatalf("in %s: %v", s.Name, err)
	}
}

// Run runs a program in the namespace and returns what it prints.
func (s *Space) Run(program string, args ...string) string {
	s.t.Helper()
	var out []byte
	s.Do(func() error {
		var err error
		if out, err = exec.Command(program, args...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s %v: %w\n%s", program, args, err, out)
		}
		return nil
	})
	return string(out)
}

// Sysctl sets a device's sysctl; all and default are devices here.
func (s *Space) Sysctl(family, device, name, value string) {
	s.t.Helper()
	s.Do(func() error {
		return os.WriteFile(filepath.Join("/proc/sys/net", family, "conf", device, name), []byte(value), 0)
	})
}
