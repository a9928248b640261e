package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
)

// wrappedKey marks a list that podtap made of a configuration of one plugin.
const wrappedKey = "podtap.io/wrapped"

// versions of CNI that the plugin speaks. A chain of any other would fail for
// every pod.
var versions = []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}

var (
	errNoNetwork   = errors.New("no network configuration yet")
	errUnsupported = errors.New("podtap cannot be chained")
)

// network is a network configuration in the node's folder.
type network struct {
	path string
	text []byte
	name string    // of the network
	list *conflist // nil where the file is a configuration of one plugin
	// wrapped is how the file of one plugin ended, where podtap made a list of it:
	// ".conf" or ".json"; else "".
	wrapped string
}

// discover finds the network of the pods: the first configuration by name, but for
// those that are no pod network of their own, or the one that Multus calls, where
// Multus comes first. skipped says which files are none at all. The error wraps
// errNoNetwork where there is none, and errUnsupported where podtap cannot be chained
// to the one that there is.
func discover(folder string) (n *network, skipped error, err error) {
	files, err := configurations(folder)
	if err != nil {
		return nil, nil, err
	}
	multus := multusOf(folder)
	var passed error
	for _, path := range files {
		n, err := readNetwork(path)
		switch {
		case errors.Is(err, fs.ErrNotExist): // gone since
		case n != nil && multus.calls(n) != nil:
			passed = multus.calls(n)
		case errors.Is(err, errUnsupported):
			return nil, skipped, err
		case err != nil:
			// containerd looks no further then; CRI-O does.
			skipped = errors.Join(skipped, fmt.Errorf("%s is not a valid configuration: %w", filepath.Base(path), err))
		case n != nil:
			return n, skipped, nil
		}
	}
	if passed != nil {
		return nil, skipped, fmt.Errorf("%w: %w", errUnsupported, passed)
	}
	err = fmt.Errorf("%w in %s", errNoNetwork, folder)
	switch {
	case multus.copied() != nil:
		err = fmt.Errorf("%w but a copy of one in %s, which is Multus' own; podtap is chained to the network's own file, which has to be there, too", err, multus.file)
	case multus != nil:
		err = fmt.Errorf("%w but %v, which calls the network %.80q; podtap waits for that one's file", err, multus, multus.ClusterNetwork)
	}
	return nil, skipped, err
}

// configurations are the files of a folder that runtimes read, in their order.
func configurations(folder string) ([]string, error) {
	files, err := libcni.ConfFiles(folder, []string{".conf", ".conflist", ".json"})
	slices.Sort(files)
	return files, err
}

// readNetwork reads one file; it is nil where that is not a pod network of its own.
func readNetwork(path string) (*network, error) {
	text, known, err := readConfiguration(path)
	if err != nil || !isPodNetwork(known) {
		return nil, err
	}
	n := &network{path: path, text: text, name: known.Name}
	return n, n.inspect(known)
}

// readConfiguration reads one file as runtimes do.
func readConfiguration(path string) (text []byte, known *libcni.NetworkConfigList, err error) {
	if text, err = readFile(path); err != nil {
		return nil, nil, err
	}
	if filepath.Ext(path) == ".conflist" {
		known, err = libcni.NetworkConfFromBytes(text)
		return text, known, err
	}
	one, err := libcni.NetworkPluginConfFromBytes(text)
	if err != nil {
		return nil, nil, err
	}
	return text, &libcni.NetworkConfigList{Name: one.Network.Name, CNIVersion: one.Network.CNIVersion, Plugins: []*libcni.PluginConfig{one}}, nil
}

// isPodNetwork is false for loopback, and for Multus, which calls a network that another
// configuration has.
func isPodNetwork(list *libcni.NetworkConfigList) bool {
	return slices.ContainsFunc(list.Plugins, func(p *libcni.PluginConfig) bool {
		return p.Network.Type != "loopback" && p.Network.Type != pluginType
	}) && !IsMultus(list.Plugins[0].Network.Type)
}

// inspect finds the plugins, and whether podtap may be chained behind them.
func (n *network) inspect(known *libcni.NetworkConfigList) error {
	unsupported := func(format string, args ...any) error {
		return fmt.Errorf("%w to %s: %w", errUnsupported, filepath.Base(n.path), fmt.Errorf(format, args...))
	}
	if info, err := os.Lstat(n.path); err != nil {
		return err
	} else if !info.Mode().IsRegular() {
		return unsupported("it is no regular file, perhaps a symbolic link; its target would not be what podtap changes")
	}
	if !slices.Contains(versions, known.CNIVersion) {
		return unsupported("its cniVersion is %q; podtap speaks %s, and with another every pod would fail: the network plugin's own configuration has to be of one of these",
			known.CNIVersion, strings.Join(versions, ", "))
	}
	if filepath.Ext(n.path) != ".conflist" {
		if !json.Valid(n.text) {
			return unsupported("it is not valid JSON")
		}
		return nil
	}
	var err error
	if n.list, err = parseConflist(n.text); err != nil {
		return unsupported("%w", err)
	}
	n.wrapped = n.list.wrapped
	return nil
}

// chained is the path and the text of the configuration with an entry.
func (n *network) chained(entry []byte) (path string, text []byte, err error) {
	if n.list != nil {
		text, err = n.list.chained(entry)
		return n.path, text, err
	}
	ending := filepath.Ext(n.path)
	return strings.TrimSuffix(n.path, ending) + ".conflist", wrap(n.text, entry, ending), nil
}

// wrap makes a list of a configuration of one plugin, which stays in it byte by
// byte. The list's name and version are the plugin's own.
func wrap(text, entry []byte, ending string) []byte {
	var head struct {
		CNIVersion string `json:"cniVersion"`
		Name       string `json:"name"`
	}
	_ = json.Unmarshal(text, &head) // has been read before
	name, _ := json.Marshal(head.Name)
	version, _ := json.Marshal(head.CNIVersion)
	return fmt.Appendf(nil, "{\n  %q: %q,\n  \"cniVersion\": %s,\n  \"name\": %s,\n  \"plugins\": [\n%s,\n%s\n  ]\n}\n",
		wrappedKey, ending, version, name, bytes.TrimSpace(text), entry)
}

// has says whether podtap is chained as it should be.
func (n *network) has(entry []byte) bool { return n.list != nil && n.list.has(entry) }

// entries is the number of podtap's entries.
func (n *network) entries() int {
	count := 0
	for _, kind := range n.types() {
		if kind == pluginType {
			count++
		}
	}
	return count
}

// types are those of the plugins, in their order.
func (n *network) types() []string {
	if n.list == nil {
		return nil
	}
	var out []string
	for _, e := range n.list.plugins {
		out = append(out, e.kind)
	}
	return out
}
