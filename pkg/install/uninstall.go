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

// defaultInFlight is how long a pod's setup that has read the configuration with
// podtap may take until it comes to podtap.
const defaultInFlight = 10 * time.Second

func (c Config) inFlight() time.Duration { return cmp.Or(c.InFlight, defaultInFlight) }

// Unchain takes podtap's entries out of all configurations of the folder, and
// returns when no new pod needs the plugin any more. A configuration that podtap
// made a list of becomes what it was.
func Unchain(ctx context.Context, c Config) error {
	unlock, err := lock(c.RunDir)
	if errors.Is(err, errLocked) {
		return errors.New("podtapd is at work on this node and would chain podtap again; delete the DaemonSet first")
	}
	if err != nil {
		return err
	}
	defer unlock()
	files, err := configurations(c.ConfDir)
	if err != nil {
		return err
	}
	for _, path := range files {
		did, err := unchain(path)
		for round := 0; errors.Is(err, errChanged) && round < exchangeRounds; round++ {
			did, err = unchain(path)
		}
		if err != nil {
			return fmt.Errorf("take podtap out of %s: %w", filepath.Base(path), err)
		}
		if did {
			c.Log.Info("took podtap out of the chain", "file", filepath.Base(path))
		}
	}
	if err := os.Remove(filepath.Join(c.RunDir, chainedName)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return c.forgotten(ctx)
}

// RemovePlugin removes the binary, and what podtapd keeps of its own.
func RemovePlugin(c Config) error {
	err := removeTemporaries(c.BinDir)
	err = errors.Join(err, removeTemporaries(c.ConfDir), removePlugin(c.BinDir))
	for _, path := range []string{c.AgentSocket, filepath.Join(c.RunDir, lockName)} {
		if gone := os.Remove(path); !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}
	return err
}

// unchain takes podtap out of one configuration, if another plugin is in it as well.
func unchain(path string) (did bool, err error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
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
	if err != nil || filepath.Ext(path) != ".conflist" || list.primary() == "" {
		return false, nil // it is not a list that podtap is in
	}
	bare := list.unchained()
	if list.wrapped != "" {
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

// forgotten waits until the runtime has loaded a chain without podtap, and then
// for the pods whose setup began before that.
func (c Config) forgotten(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for c.Loaded != nil {
		l, err := c.Loaded(ctx)
		if err == nil && (!l.Known || !slices.Contains(l.Chain, pluginType)) {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the runtime still uses podtap's entry, which is out of its folder; the plugin stays, for without it no pod would start: %w", ctx.Err())
		case <-time.After(loadRetry):
		}
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(c.inFlight()):
		return nil
	}
}
