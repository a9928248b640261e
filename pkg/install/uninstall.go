package install

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	// defaultInFlight is how long a pod's setup that has read the configuration with
	// podtap may take until it comes to podtap.
	defaultInFlight = 10 * time.Second
	// forgetTimeout bounds the wait for the runtime, nudgeAfter is when it is told
	// once more to load.
	forgetTimeout = time.Minute
	nudgeAfter    = 3 * time.Second
	// maxReturns is how often somebody may put podtap's entry back while it is
	// uninstalled.
	maxReturns = 5
)

// Uninstall takes podtap off a node: its entry out of all configurations, so that no
// new pod needs the plugin, then what clear removes, then the plugin, unless clear
// says that it has to stay. A configuration that podtap made a list of becomes what
// it was. It can be done again, also where an earlier one was cut short.
func Uninstall(ctx context.Context, c Config, clear func(context.Context) (keepPlugin bool, err error)) error {
	unlock, err := lock(c.RunDir)
	if errors.Is(err, errLocked) {
		return errors.New("podtapd is at work on this node and would chain podtap again; delete the DaemonSet first")
	}
	if err != nil {
		return err
	}
	defer unlock()
	for range maxReturns {
		if _, err := unchainAll(c); err != nil {
			return err
		}
		if err := os.Remove(filepath.Join(c.RunDir, chainedName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := c.forgotten(ctx); err != nil {
			return err
		}
		keep, err := clear(ctx)
		if err != nil {
			return err
		}
		// Who wrote back a configuration that he had read before would have every
		// pod fail for want of the plugin.
		if back, err := unchainAll(c); err != nil {
			return err
		} else if back || c.calledBy(ctx) != nil {
			continue
		}
		return c.removeFiles(keep)
	}
	return errors.New("somebody puts podtap's entry back into the network configuration again and again; the plugin stays, for without it no pod would start")
}

// removeFiles removes the binary, unless it has to stay, and what podtapd keeps of
// its own.
func (c Config) removeFiles(keepPlugin bool) error {
	err := errors.Join(removeTemporaries(c.BinDir), removeTemporaries(c.ConfDir))
	if !keepPlugin {
		err = errors.Join(err, removePlugin(c.BinDir))
	}
	for _, path := range []string{c.AgentSocket, filepath.Join(c.RunDir, lockName)} {
		if gone := os.Remove(path); !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}
	return err
}

// unchainAll takes podtap's entries out of all configurations of the folder, and
// says whether there were any.
func unchainAll(c Config) (taken bool, err error) {
	files, err := configurations(c.ConfDir)
	for _, path := range files {
		did, failed := unchain(path)
		for round := 0; errors.Is(failed, errChanged) && round < exchangeRounds; round++ {
			did, failed = unchain(path)
		}
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("take podtap out of %s: %w", filepath.Base(path), failed))
			continue
		}
		if did {
			c.Log.Info("took podtap out of the chain", "file", filepath.Base(path))
		}
		taken = taken || did
	}
	return taken, err
}

// unchain takes podtap out of one configuration, if another plugin is in it as well.
func unchain(path string) (did bool, err error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && (!info.Mode().IsRegular() || info.Size() > maxFile) || filepath.Ext(path) != ".conflist" {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	text, err := readFile(path)
	if err != nil {
		return false, err
	}
	list, err := parseConflist(text)
	if err != nil || list.primary() == "" {
		return false, nil // it is not a list that podtap is chained in
	}
	bare := list.unchained()
	if list.wrapped != "" && mentioned(filepath.Dir(path), filepath.Base(path)) == "" {
		return true, unwrap(path, info, text, bare)
	}
	if bytes.Equal(bare, text) {
		return false, nil
	}
	return true, replace(path, text, bare)
}

// unwrap puts a configuration of one plugin back into its place, and removes the
// list that podtap made of it.
func unwrap(path string, info fs.FileInfo, text, bare []byte) error {
	list, err := parseConflist(bare)
	if err != nil {
		return err
	}
	if len(list.plugins) != 1 || !slices.Contains([]string{".conf", ".json"}, list.wrapped) {
		return replace(path, text, bare) // somebody has made it his own
	}
	one := append(slices.Clone(bare[list.plugins[0].start:list.plugins[0].end]), '\n')
	original := strings.TrimSuffix(path, ".conflist") + list.wrapped
	if err := create(original, one, info); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return withdraw(path, text)
}

// forgotten waits until nobody calls podtap any more: the runtime has loaded a chain
// without it, and so has Multus, where that goes by a copy; and then for the pods whose
// setup began before that.
func (c Config) forgotten(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, forgetTimeout)
	defer cancel()
	nudge := time.Now().Add(nudgeAfter)
	for {
		err := c.calledBy(ctx)
		if err == nil {
			break
		}
		if time.Now().After(nudge) {
			nudge = nudge.Add(forgetTimeout)
			c.nudge()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; the plugin stays, for without it no pod would start: %w", err, ctx.Err())
		case <-time.After(loadRetry):
		}
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(cmp.Or(c.InFlight, defaultInFlight)):
		return nil
	}
}

// calledBy says who still calls podtap for each pod, although its entry is out of the
// network's own configuration.
func (c Config) calledBy(ctx context.Context) error {
	l, err := c.load(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("the runtime does not answer, and may still use podtap's entry, which is out of its folder: %w", err)
	case l.Known && slices.Contains(l.Chain, pluginType):
		return errors.New("the runtime still uses podtap's entry, which is out of its folder")
	}
	if err := multusOf(c.ConfDir).calledPodtap(); err != nil {
		return err
	}
	return l.loadedMultus().calledPodtap()
}

// nudge writes the first configuration once more as it is: containerd has been seen
// to miss a change, and it is the rename that wakes it up.
func (c Config) nudge() {
	n, _, err := discover(c.ConfDir)
	if err == nil {
		err = replace(n.path, n.text, n.text)
	}
	if err != nil {
		c.Log.Warn("the runtime cannot be told again to load its configuration", "error", err)
	}
}
