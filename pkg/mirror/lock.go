package mirror

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// lockDir holds the locks. It is on a filesystem that a reboot empties.
	lockDir = "/run/podtap/lock"
	// lockWait is how long somebody waits for a lock. Runtimes give a whole ADD
	// some minutes; a deletion takes about 30 ms.
	lockWait  = 30 * time.Second
	lockRetry = 5 * time.Millisecond
)

// LockPod makes work on one pod's taps exclusive until unlock is called. It
// waits for lockWait at most and then fails with ErrBusy.
func LockPod(containerID string) (unlock func(), err error) {
	return lock("pod-"+hash(32, word(containerID)), lockWait)
}

// withLock does something under the lock of what the node's pods share.
func (n *Node) withLock(f func() error) error {
	unlock, err := lock("node", lockWait)
	if err != nil {
		return err
	}
	defer unlock()
	return f()
}

// lock takes a lock file. The kernel frees it when its holder ends, however that
// ends. The file is deleted on unlock; whoever got hold of a file that somebody
// deleted meanwhile tries again with a new one.
func lock(name string, wait time.Duration) (unlock func(), err error) {
	if err := os.MkdirAll(lockDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of locks: %w", err)
	}
	path := filepath.Join(lockDir, name)
	for deadline := time.Now().Add(wait); ; time.Sleep(lockRetry) {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
		if err != nil {
			return nil, fmt.Errorf("open a lock: %w", err)
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil && sameFile(f, path) {
			return func() {
				_ = os.Remove(path)
				_ = f.Close()
			}, nil
		}
		_ = f.Close()
		if err != nil && !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("lock %s: %w: another podtap has held it for %v; try again", path, ErrBusy, wait)
		}
	}
}

func sameFile(f *os.File, path string) bool {
	open, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(open, there)
}
