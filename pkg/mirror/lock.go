package mirror

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// lockDir holds the locks. It is on a filesystem that a reboot empties.
	lockDir = "/run/podtap/lock"
	// lockWait is how long somebody waits for a lock. Runtimes give a whole ADD
	// some minutes; a deletion takes about 20 ms.
	lockWait = 30 * time.Second
	// lockRetry is the first pause between two attempts; each is longer than the
	// one before, up to lockRetryMost.
	lockRetry     = time.Millisecond
	lockRetryMost = 20 * time.Millisecond
)

// LockPod makes work on one pod's taps exclusive until unlock is called. It
// waits for lockWait at most and then fails with ErrBusy, and says who has it.
func LockPod(containerID string) (unlock func(), err error) {
	return lock(podLock(podHash(containerID)), "the container "+containerID, lockWait)
}

// podLock is the name of a pod's lock.
func podLock(pod []byte) string { return "pod-" + hex.EncodeToString(pod) }

// withLock does something under the lock of what the node's pods share.
func (n *Node) withLock(f func() error) error {
	unlock, err := lock("node", "what the node's pods share", lockWait)
	if err != nil {
		return err
	}
	defer unlock()
	return f()
}

// lock takes a lock file. The kernel frees it when its holder ends, however that
// ends. The file is deleted on unlock; whoever got hold of a file that somebody
// deleted meanwhile tries again with a new one.
func lock(name, of string, wait time.Duration) (unlock func(), err error) {
	path := filepath.Join(lockDir, name)
	pause := lockRetry
	for deadline := time.Now().Add(wait); ; time.Sleep(pause) {
		pause = min(pause*3/2, lockRetryMost)
		fd, err := openLock(path)
		if err != nil {
			return nil, fmt.Errorf("open the lock %s of %s: %w", path, of, err)
		}
		err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil && sameFile(fd, path) {
			return func() {
				_ = unix.Unlink(path)
				_ = unix.Close(fd)
			}, nil
		}
		expired := time.Now().After(deadline)
		if expired && errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("%w: %s has held it for %v, or several in turn; try again, or see what it waits for", ErrBusy, holder(fd), wait)
		}
		_ = unix.Close(fd)
		if expired || err != nil && !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			if err == nil {
				err = ErrBusy // others took and gave it back all the time
			}
			return nil, fmt.Errorf("the lock %s of %s: %w", path, of, err)
		}
	}
}

func openLock(path string) (int, error) {
	const flags = unix.O_CREAT | unix.O_RDWR | unix.O_NOFOLLOW | unix.O_CLOEXEC
	fd, err := unix.Open(path, flags, 0o600)
	if !errors.Is(err, unix.ENOENT) {
		return fd, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return -1, err
	}
	return unix.Open(path, flags, 0o600)
}

func sameFile(fd int, path string) bool {
	var open, there unix.Stat_t
	return unix.Fstat(fd, &open) == nil && unix.Lstat(path, &there) == nil && open.Dev == there.Dev && open.Ino == there.Ino
}

// holder words who has locked a file, as /proc/locks knows it: lines such as
// "1: FLOCK  ADVISORY  WRITE 4242 00:19:1234 0 EOF", the last but two being
// device and inode, the process before it.
func holder(fd int) string {
	const nobody = "somebody whom this process cannot see"
	var stat unix.Stat_t
	locks, err := os.ReadFile("/proc/locks")
	if err != nil || unix.Fstat(fd, &stat) != nil {
		return nobody
	}
	file := fmt.Sprintf("%02x:%02x:%d", unix.Major(stat.Dev), unix.Minor(stat.Dev), stat.Ino)
	for line := range strings.Lines(string(locks)) {
		words := strings.Fields(line)
		if len(words) < 8 || words[1] != "FLOCK" || words[5] != file {
			continue
		}
		pid := words[4]
		if name, err := readFile("/proc/" + pid + "/comm"); err == nil {
			return fmt.Sprintf("process %s (%s)", pid, name)
		}
		if pid != "0" && !strings.HasPrefix(pid, "-") {
			return "process " + pid
		}
	}
	return nobody
}
