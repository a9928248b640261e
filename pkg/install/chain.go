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

	"golang.org/x/sys/unix"
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
	if multusOf(i.conf.ConfDir) == nil { // else that says which network is called
		if l, err := i.conf.load(ctx); err == nil && l.loadedMultus().calls(n) != nil {
			return fmt.Errorf("%w: %w", errUnsupported, l.loadedMultus().calls(n))
		}
	}
	if path == n.path {
		err = replace(path, n.text, text)
	} else if user := i.conf.userOf(ctx, n); user != "" {
		err = fmt.Errorf("%w: podtap would have to make a list of %s, and %s needs that under its own name; give the network a .conflist",
			errUnsupported, n.base(), user)
	} else {
		err = n.becomeList(path, text)
	}
	if err != nil {
		return fmt.Errorf("chain podtap in %s: %w", filepath.Base(path), err)
	}
	i.conflict.wrote(now, drifted)
	i.seenEntry, i.confirmed = i.entry, false
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
	if now, err := readFile(aside); err != nil || !bytes.Equal(now, text) {
		// What has come in its place meanwhile is newer still.
		back := unix.Renameat2(unix.AT_FDCWD, aside, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
		if back != nil && !errors.Is(back, fs.ErrExist) {
			return fmt.Errorf("somebody has just written %s, which is %s now: %w", path, aside, back)
		}
		_ = os.Remove(aside) // where something newer has come
		return errors.Join(err, errChanged)
	}
	return errors.Join(os.Remove(aside), syncFolder(path))
}

// loaded waits until the runtime has loaded the chain, for containerd has been
// seen to miss a change, and until Multus has it too, where that goes by a copy. Where
// nobody tells, there is nothing to wait for.
func (i *Installer) loaded(ctx context.Context, n *network) error {
	var problem, elsewhere error
	for deadline := time.Now().Add(i.pace.load); ; {
		l, err := i.conf.load(ctx)
		elsewhere = l.loadedMultus().calls(n)
		if err != nil && i.confirmed {
			return nil // it is down; when it comes up again it reads the folder
		}
		if err != nil {
			problem = fmt.Errorf("the runtime does not say whether it has loaded podtap's entry; is --runtime-endpoint its socket? %w", err)
		} else if problem = i.disagrees(l, n); problem == nil {
			i.confirmed = true
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
	i.unchained()
	// Written again, the file would be no other for Multus.
	if time.Since(i.nudged) > i.pace.resync && elsewhere == nil && multusOf(i.conf.ConfDir).disagrees(n, i.entry) == nil {
		i.nudged = time.Now()
		i.conf.nudge()
	}
	return problem
}

// load asks the runtime; where it cannot be asked, it does not tell.
func (c Config) load(ctx context.Context) (Loaded, error) {
	if c.Loaded == nil {
		return Loaded{}, nil
	}
	return c.Loaded(ctx)
}

// disagrees says how what the runtime uses is not what is in the folder.
func (i *Installer) disagrees(l Loaded, n *network) error {
	switch {
	case !l.Known || l.multus():
		if err := multusOf(i.conf.ConfDir).disagrees(n, i.entry); err != nil {
			return err
		}
		return l.loadedMultus().disagrees(n, i.entry)
	case l.Network == "":
		return fmt.Errorf("the runtime has loaded no network, although %s is there; its log says why", n.base())
	case l.Network != n.name:
		return fmt.Errorf("the runtime uses the network %q, and %s is that of %q; is --cni-conf-dir the folder that the runtime reads?", l.Network, n.base(), n.name)
	case !slices.Contains(l.Chain, pluginType):
		return fmt.Errorf("the runtime has not loaded podtap's entry of %s; its log says why; a restart of the runtime helps", n.base())
	case l.Entry != nil && !sameJSON(l.Entry, i.entry):
		return fmt.Errorf("the runtime has loaded podtap's entry of %s with other settings; its log says why; a restart of the runtime helps", n.base())
	}
	return nil
}

// userOf is who names a network's file, in the folder or as the runtime has loaded it
// from another; "" for nobody.
func (c Config) userOf(ctx context.Context, n *network) string {
	if l, err := c.load(ctx); err == nil && l.multus() && (bytes.Contains(l.First, []byte(n.base())) || l.loadedMultus().hidesFiles()) {
		return "Multus, as the runtime has loaded it,"
	}
	return mentioned(filepath.Dir(n.path), n.base())
}

// mentioned is a configuration of Multus' that names a file, which must not vanish
// then: Multus waits for it at each pod's start. One that hides its files may need it,
// too: what made a copy makes no other once the file has vanished, and a link in a folder
// would lead nowhere, at which Multus fails. It is "" where there is none.
func mentioned(folder, name string) string {
	files, _ := configurations(folder)
	for _, path := range files {
		text, err := readFile(path)
		if err == nil && filepath.Base(path) != name && bytes.Contains(text, []byte("multus")) && bytes.Contains(text, []byte(name)) {
			return filepath.Base(path)
		}
	}
	if multus := multusOf(folder); multus.hidesFiles() {
		return multus.file
	}
	return ""
}
