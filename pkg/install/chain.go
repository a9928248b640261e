package install

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// loadRetry is the pause between two questions to the runtime.
const loadRetry = 200 * time.Millisecond

func (n *network) base() string { return filepath.Base(n.path) }

// readSettings takes over the settings, if they are good.
func (i *Installer) readSettings() error {
	text, err := readFile(i.conf.Settings)
	if err != nil {
		return err
	}
	entry, err := Entry(text, i.conf.AgentSocket)
	if err != nil {
		return err
	}
	i.entry = entry
	return nil
}

// write puts the entry into a configuration, unless somebody keeps taking it out.
func (i *Installer) write(ctx context.Context, n *network, drifted bool) error {
	now := time.Now()
	if drifted {
		i.conf.Log.Warn("somebody has rewritten the network configuration without podtap", "file", n.base())
	}
	if err := i.conflict.may(now, i.pace.conflict); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	path, text, err := n.chained(i.entry)
	if err != nil {
		return fmt.Errorf("%w to %s: %w", errUnsupported, n.base(), err)
	}
	if path == n.path {
		err = replace(path, n.text, text)
	} else {
		err = n.becomeList(path, text)
	}
	if err != nil {
		return fmt.Errorf("chain podtap in %s: %w", filepath.Base(path), err)
	}
	i.conflict.wrote(now, drifted)
	i.conf.Log.Info("chained podtap", "file", filepath.Base(path), "network", n.name)
	return nil
}

// becomeList writes a list beside a configuration of one plugin, then removes
// that. As long as both are there, the runtime goes on with one of them, and both
// make the same network.
func (n *network) becomeList(path string, text []byte) error {
	info, err := os.Lstat(n.path)
	if err != nil {
		return err
	}
	was, err := readFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = create(path, text, info)
	case err == nil:
		if list, bad := parseConflist(was); bad != nil || list.wrapped == "" {
			return fmt.Errorf("%w: podtap has to make a list of %s, but there is a %s which is not podtap's; remove one of them",
				errUnsupported, n.base(), filepath.Base(path))
		}
		err = replace(path, was, text)
	}
	if err != nil {
		return err
	}
	return withdraw(n.path, n.text)
}

// withdraw removes a file, if it still is what was read.
func withdraw(path string, text []byte) error {
	aside := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+temporary)
	if err := os.Rename(path, aside); err != nil {
		return err
	}
	defer os.Remove(aside)
	if now, err := readFile(aside); err != nil || !bytes.Equal(now, text) {
		// What has come in its place meanwhile is newer still.
		if err := os.Link(aside, path); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		return errors.Join(err, errChanged)
	}
	return syncFolder(path)
}

// loaded waits until the runtime has loaded the chain, for containerd has been
// seen to miss a change. Where the runtime does not tell, there is nothing to wait for.
func (i *Installer) loaded(ctx context.Context, n *network) error {
	if i.conf.Loaded == nil {
		return nil
	}
	var problem error
	for deadline := time.Now().Add(i.pace.load); ; {
		l, err := i.conf.Loaded(ctx)
		if err != nil {
			// It is down; when it comes up again it reads the folder.
			i.conf.Log.Debug("the runtime does not say what it has loaded", "error", err)
			return nil
		}
		if problem = disagrees(l, n); problem == nil {
			return nil
		}
		if time.Now().After(deadline) {
			break
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(loadRetry):
		}
	}
	if time.Since(i.nudged) > i.pace.resync {
		// The same bytes once more: it is the rename that wakes the runtime up.
		i.nudged = time.Now()
		if err := replace(n.path, n.text, n.text); err != nil {
			return errors.Join(problem, err)
		}
	}
	return problem
}

// disagrees says how what the runtime uses is not what is in the folder.
func disagrees(l Loaded, n *network) error {
	multus := len(l.Chain) > 0 && (l.Chain[0] == "multus" || l.Chain[0] == "multus-shim")
	switch {
	case !l.Known || multus:
		return nil
	case l.Network == "":
		return fmt.Errorf("the runtime has loaded no network, although %s is there; its log says why", n.base())
	case l.Network != n.name:
		return fmt.Errorf("the runtime uses the network %q, and %s is that of %q; is --cni-conf-dir the folder that the runtime reads?", l.Network, n.base(), n.name)
	case !slices.Contains(l.Chain, pluginType):
		return fmt.Errorf("the runtime has not loaded podtap's entry of %s; its log says why; a restart of the runtime helps", n.base())
	}
	return nil
}
