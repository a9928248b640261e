package mirror

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// Probe says whether taps can work on this kernel at all. It tries the parts that
// every tap needs, clsact and a rule with a mirred action, on the loopback device
// of a network namespace of its own, which ends with it. The error wraps
// ErrUnsupported and names what is missing.
func Probe() error {
	done := make(chan error, 1)
	go func() {
		// The thread keeps the new namespace and ends with the goroutine,
		// because it is never unlocked.
		runtime.LockOSThread()
		done <- probe()
	}()
	return <-done
}

func probe() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("%w: cannot make a network namespace: %w", ErrUnsupported, err)
	}
	n, err := OpenNode() // the thread's, which is the new one
	if err != nil {
		return err
	}
	defer n.Close()
	const lo = 1 // the loopback device's index in every namespace
	if err := n.seal(lo, "lo"); err != nil {
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	err = n.addRule("mirror", rule{index: lo, hook: hookEgress, priority: firstPriority,
		program: matchAll(), mirred: &mirred{to: lo}})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	return nil
}
