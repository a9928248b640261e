package install

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/containernetworking/cni/libcni"
)

const (
	// maxCached bounds the results that are looked at. A node has some hundred pods.
	maxCached = 20000
	// addresses is a folder of host-local's beside them, with a file for each address.
	addresses = "networks"
)

// attachment is one that libcni remembers until its DEL.
type attachment struct {
	ContainerID string `json:"containerId"`
	NetworkName string `json:"networkName"`
	Config      []byte `json:"config"`
}

// StillNeeded counts the attachments of pods for whose deletion runtimes will call
// the plugin, although no new pod does: those that libcni's cache remembers with
// podtap in their configuration. Of the networks that are given, runtimes use the
// configuration of the day, as containerd does of its own network.
func StillNeeded(cache string, except ...string) (int, error) {
	count, seen := 0, 0
	err := filepath.WalkDir(cache, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && entry.IsDir() && entry.Name() == addresses {
			return fs.SkipDir
		}
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		if seen++; seen > maxCached {
			return fmt.Errorf("there are more than %d files in %s; who needs the plugin cannot be told", maxCached, cache)
		}
		text, err := readFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // deleted meanwhile
		}
		if err != nil {
			return err
		}
		var a attachment
		if json.Unmarshal(text, &a) == nil && !slices.Contains(except, a.NetworkName) && a.calls() {
			count++
		}
		return nil
	})
	return count, err
}

// calls says whether podtap is in the attachment's configuration.
func (a attachment) calls() bool {
	if one, err := libcni.NetworkPluginConfFromBytes(a.Config); err == nil {
		return one.Network.Type == pluginType
	}
	list, err := libcni.NetworkConfFromBytes(a.Config)
	return err == nil && slices.ContainsFunc(list.Plugins, func(p *libcni.PluginConfig) bool { return p.Network.Type == pluginType })
}
