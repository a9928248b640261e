package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/api/node"
)

const (
	lockName    = "install.lock"
	chainedName = "chained" // its time is since when podtap has been in the chain
	turnRetry   = time.Second
)

// takeTurn waits until no other podtapd of the node is at work: two would each
// undo what the other does. The kernel ends a turn with its process. unlock is nil
// where ctx has ended.
func (i *Installer) takeTurn(ctx context.Context) (unlock func(), err error) {
	for {
		unlock, err := lock(i.conf.RunDir)
		if err == nil {
			return unlock, nil
		}
		status := i.Status()
		status.State, status.Message = node.StateFailing, err.Error()
		if errors.Is(err, errLocked) {
			status.State = node.StateStandby
		}
		i.publish(status)
		select {
		case <-ctx.Done():
			return nil, nil
		case <-time.After(turnRetry):
		}
	}
}

var errLocked = errors.New("another podtapd is at work on this node; this one waits for it to end")

// lock takes the turn if nobody has it, else the error wraps errLocked.
func lock(runDir string) (unlock func(), err error) {
	if err := os.MkdirAll(runDir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(runDir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return func() { _ = f.Close() }, nil
	}
	_ = f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, errLocked
	}
	return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
}

// isChained keeps since when podtap has been in the chain, over the life of this
// process: whether a pod started before that tells why it has no taps.
func (i *Installer) isChained() {
	marker := filepath.Join(i.conf.RunDir, chainedName)
	info, err := os.Stat(marker)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.WriteFile(marker, nil, 0o600); err == nil {
			info, err = os.Stat(marker)
		}
	}
	if err != nil {
		i.conf.Log.Warn("since when podtap is chained cannot be kept", "error", err)
		return
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.chained = info.ModTime()
}

// unchained forgets that.
func (i *Installer) unchained() {
	_ = os.Remove(filepath.Join(i.conf.RunDir, chainedName))
	i.mu.Lock()
	defer i.mu.Unlock()
	i.chained = time.Time{}
}
