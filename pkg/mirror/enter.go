package mirror

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// ownNamespace is the path of the calling thread's network namespace.
const ownNamespace = "/proc/thread-self/ns/net"

// enter does something in a network namespace, for what cannot be done with a
// socket: to open one, and sysctls. It takes the calling thread there and back,
// because to hand the work to another thread costs more than all of it.
func (n *namespace) enter(f func() error) error {
	return thereAndBack(func() error { return unix.Setns(int(n.space.Fd()), unix.CLONE_NEWNET) }, f)
}

// thereAndBack takes the calling thread to another network namespace, does
// something there, and comes back. The thread must not end there instead: Go lets
// a program's first one wait for ever, and the namespace would live as long.
func thereAndBack(there, do func() error) error {
	runtime.LockOSThread()
	here, err := unix.Open(ownNamespace, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("open the thread's network namespace: %w", err)
	}
	defer func() { _ = unix.Close(here) }()
	if err := there(); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter a network namespace: %w", err)
	}
	err = do()
	if back := unix.Setns(here, unix.CLONE_NEWNET); back != nil {
		// The thread stays locked, so that nobody else gets it as it is.
		return errors.Join(err, fmt.Errorf("go back to the thread's network namespace: %w", back))
	}
	runtime.UnlockOSThread()
	return err
}
