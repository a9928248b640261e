package install

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// debounce is how long it has to be quiet before somebody looks: files are
	// written in several steps. debounceMost is how long that may put it off.
	debounce     = 100 * time.Millisecond
	debounceMost = time.Second
	// poll replaces the watch where there is none.
	poll = 5 * time.Second
)

// watch wakes up whoever waits when a file changes that the installer cares for.
type watch struct {
	conf    Config
	log     *slog.Logger
	events  *fsnotify.Watcher // nil where the kernel has none left
	mu      sync.Mutex
	changed time.Time // when something changed in the configurations' folder
}

func newWatch(c Config, log *slog.Logger) *watch {
	w := &watch{conf: c, log: log}
	var err error
	if w.events, err = fsnotify.NewWatcher(); err != nil {
		log.Warn("files cannot be watched; podtapd looks at them every few seconds", "error", err)
	}
	return w
}

func (w *watch) close() {
	if w.events != nil {
		_ = w.events.Close()
	}
}

// arm watches the folders, and those that have come since.
func (w *watch) arm() {
	if w.events == nil {
		return
	}
	// A ConfigMap's files are links to a folder that is replaced as a whole.
	for _, folder := range []string{w.conf.ConfDir, w.conf.BinDir, filepath.Dir(w.conf.Settings)} {
		if err := w.events.Add(folder); err != nil && !errors.Is(err, fs.ErrNotExist) {
			w.log.Warn("a folder cannot be watched; podtapd looks at it from time to time", "folder", folder, "error", err)
		}
	}
}

func (w *watch) lastChange() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.changed
}

// wait returns after some time, or a little after something has changed.
func (w *watch) wait(ctx context.Context, most time.Duration) {
	var events chan fsnotify.Event
	var failures chan error
	if w.events != nil {
		events, failures = w.events.Events, w.events.Errors
	} else {
		most = min(most, poll)
	}
	timer := time.NewTimer(most)
	defer timer.Stop()
	var first time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case <-failures: // some events are lost: so look
			timer.Reset(0)
		case e := <-events:
			if !w.matters(e) {
				continue
			}
			now := time.Now()
			if first.IsZero() {
				first = now
			}
			timer.Reset(max(0, min(debounce, first.Add(debounceMost).Sub(now))))
		}
	}
}

// matters says whether an event is about a file that the installer cares for.
func (w *watch) matters(e fsnotify.Event) bool {
	if e.Op == fsnotify.Chmod {
		return false
	}
	if filepath.Ext(e.Name) == temporary {
		return false
	}
	switch filepath.Dir(e.Name) {
	case filepath.Clean(w.conf.ConfDir):
		w.mu.Lock()
		w.changed = time.Now()
		w.mu.Unlock()
		return true
	case filepath.Clean(w.conf.BinDir):
		return filepath.Base(e.Name) == pluginType
	}
	return true
}

// deleted says that a folder is there only because this process holds it, as a
// container does whose mount's origin was deleted.
func deleted(folder string) bool {
	info, err := os.Stat(folder)
	if err != nil {
		return false
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Nlink == 0
}
