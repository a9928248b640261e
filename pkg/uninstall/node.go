package uninstall

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/podtap/podtap/pkg/cri"
	"github.com/podtap/podtap/pkg/install"
	"github.com/podtap/podtap/pkg/mirror"
)

// maxSweeps bounds the rounds that it takes to remove all taps; each takes many.
const maxSweeps = 100

// Runtime is what has to be known of the node's runtime; cri.Client is one.
type Runtime interface {
	Version(ctx context.Context) (name, version string, err error)
	Network(ctx context.Context) (n cri.Network, ok bool, err error)
}

// Node takes podtap off the node that it runs on: out of the chain, then all taps,
// then the binary, unless the deletion of pods that still live will call that.
// Pods start before, during and after it. It can be done again, and is then quick.
func Node(ctx context.Context, c install.Config, runtime Runtime, cache string, log *slog.Logger) error {
	return install.Uninstall(ctx, c, func(ctx context.Context) (keepPlugin bool, err error) {
		if err := removeTaps(ctx, log); err != nil {
			return false, err
		}
		count, err := install.StillNeeded(cache, ownNetworks(ctx, runtime)...)
		if err != nil {
			return false, fmt.Errorf("look for pods whose deletion needs the plugin: %w", err)
		}
		if count > 0 {
			log.Warn("the plugin stays, because runtimes will call it to delete pods that still live; remove it when they are gone, or uninstall again then",
				"attachments", count, "folder", c.BinDir)
		}
		return count > 0, nil
	})
}

// ownNetworks are those whose pods containerd deletes by the configuration of the
// day, in which podtap no longer is. Other runtimes use the one that a pod was
// started with, and so does Multus, for all networks that it calls, whatever its own
// network is named.
func ownNetworks(ctx context.Context, runtime Runtime) []string {
	if runtime == nil {
		return nil
	}
	name, _, err := runtime.Version(ctx)
	if err != nil || name != "containerd" {
		return nil
	}
	network, known, err := runtime.Network(ctx)
	if err != nil || !known || len(network.Plugins) > 0 && install.IsMultus(network.Plugins[0]) {
		return nil
	}
	return []string{network.Name}
}

// removeTaps removes every tap of the node that CNI made, of whichever network.
func removeTaps(ctx context.Context, log *slog.Logger) error {
	node, err := mirror.OpenNode()
	if err != nil {
		return err
	}
	defer node.Close()
	for range maxSweeps {
		_, failed := node.Sweep(func(mirror.Trace) bool { return true })
		list, err := node.List()
		if err = errors.Join(failed, err); err != nil {
			return fmt.Errorf("remove the taps: %w", err)
		}
		if len(list.Taps) == 0 {
			log.Info("no tap is left")
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond): // pods that are just being set up
		}
	}
	return errors.New("there are still taps; somebody goes on making them")
}
