package mirror

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Probe says whether taps can work on this kernel at all. It tries the parts that
// every tap needs, clsact and a rule with a mirred action, on the loopback device
// of a network namespace of its own, which ends with it. What the kernel refuses
// is an error that wraps ErrUnsupported and names what is missing.
func Probe() error {
	return thereAndBack(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("%w: cannot make a network namespace: %w", ErrUnsupported, err)
		}
		return nil
	}, probe)
}

// probe works in the thread's namespace, which is a new one.
func probe() error {
	n, err := OpenNode()
	if err != nil {
		return err
	}
	defer n.Close()
	const lo = 1 // the loopback device's index in every namespace
	if err = n.seal(lo, "lo"); err == nil {
		err = n.addRule("mirror", rule{index: lo, hook: hookEgress, priority: firstPriority,
			program: matchAll(), mirred: &mirred{to: lo}})
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	return nil
}
