package install

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// IsMultus knows Multus by its plugin's type, the thin and the thick one's.
func IsMultus(kind string) bool { return kind == "multus" || kind == "multus-shim" }

// multusConf is how Multus, which the runtime calls, finds the network that it calls
// in turn. A nil one is the absence of Multus.
type multusConf struct {
	file string // where it was read
	// ClusterNetwork is a network's name, or the path of a file or folder, as Multus
	// sees that: its own container may have the node's folder elsewhere.
	ClusterNetwork string `json:"clusterNetwork"`
	// Delegates are, without the former, the configurations themselves. The first one is
	// the pods' network, of whose file it is a copy.
	Delegates []json.RawMessage `json:"delegates"`
}

// multusOf is the configuration of Multus' that the runtime uses: one that comes before
// each pod network of the folder. It is nil where there is none.
func multusOf(folder string) *multusConf {
	files, _ := configurations(folder)
	for _, path := range files {
		_, known, err := readConfiguration(path)
		if err != nil || len(known.Plugins) == 0 {
			continue
		}
		if first := known.Plugins[0]; IsMultus(first.Network.Type) {
			return parseMultus(filepath.Base(path), first.Bytes)
		}
		if isPodNetwork(known) {
			return nil
		}
	}
	return nil
}

// multus says whether it is Multus that the runtime has loaded.
func (l Loaded) multus() bool { return len(l.Chain) > 0 && IsMultus(l.Chain[0]) }

// loadedMultus is the configuration of Multus' that the runtime has loaded, which is not
// always what is in the folder.
func (l Loaded) loadedMultus() *multusConf {
	if !l.multus() || l.First == nil {
		return nil
	}
	return parseMultus("as the runtime has loaded it", l.First)
}

func parseMultus(file string, element []byte) *multusConf {
	m := &multusConf{}
	if json.Unmarshal(element, m) != nil {
		m = &multusConf{} // Multus will not read it either, and no pod starts
	}
	m.file = file
	return m
}

func (m *multusConf) String() string { return "Multus (" + m.file + ")" }

// copied is Multus' copy of the network's configuration; nil where it has none.
func (m *multusConf) copied() json.RawMessage {
	if m == nil || m.ClusterNetwork != "" || len(m.Delegates) == 0 {
		return nil
	}
	return m.Delegates[0]
}

// hidesFiles says that Multus comes by a network whose file it does not name: by a copy, whose
// maker watches the file, or by a folder, where there may be a link to it.
func (m *multusConf) hidesFiles() bool {
	return m.copied() != nil || m != nil && strings.Contains(m.ClusterNetwork, "/") && !isConfiguration(m.ClusterNetwork)
}

// isConfiguration knows a network configuration's file by its name.
func isConfiguration(path string) bool {
	return slices.Contains([]string{".conf", ".conflist", ".json"}, filepath.Ext(path))
}

// calls is an error where Multus does not call a network, as far as one can tell.
func (m *multusConf) calls(n *network) error {
	if m == nil {
		return nil
	}
	name, same := m.ClusterNetwork, true
	if text := m.copied(); text != nil {
		var head struct{ Name string }
		_ = json.Unmarshal(text, &head)
		name, same = head.Name, head.Name == "" || head.Name == n.name
	} else if !strings.Contains(name, "/") {
		same = name == "" || name == n.name
	} else if isConfiguration(name) {
		same = filepath.Base(name) == n.base()
	}
	if same {
		return nil
	}
	return fmt.Errorf("%v calls the network %.80q for each pod, and %s is not that; chain podtap there by hand, or have Multus call a network of this folder",
		m, name, n.base())
}

// disagrees says how what Multus calls is not a network with an entry of podtap's.
func (m *multusConf) disagrees(n *network, entry []byte) error {
	if err := m.calls(n); err != nil {
		return err
	}
	text := m.copied()
	if text == nil {
		return nil
	}
	what := "without podtap's entry"
	if list, err := parseConflist(text); err == nil && list.has(entry) {
		return nil
	} else if m.calledPodtap() != nil {
		what = "with another entry of podtap's"
	}
	return fmt.Errorf("%v goes by a copy of %s, %s; start Multus again, which then copies it anew, or have it name the network by clusterNetwork, not by delegates; if Multus is gone, remove its file",
		m, n.base(), what)
}

// calledPodtap is an error where Multus goes by copies of which one has podtap in it: it
// calls all of them for each pod.
func (m *multusConf) calledPodtap() error {
	if m.copied() == nil {
		return nil
	}
	for _, text := range m.Delegates {
		var delegate struct {
			Type    string `json:"type"`
			Plugins []struct {
				Type string `json:"type"`
			} `json:"plugins"`
		}
		if json.Unmarshal(text, &delegate) != nil {
			continue // Multus will not read it either
		}
		types := []string{delegate.Type}
		for _, p := range delegate.Plugins {
			types = append(types, p.Type)
		}
		if slices.Contains(types, pluginType) {
			return fmt.Errorf("%v goes by a copy of the network's configuration that has podtap's entry; start Multus again, which then copies it anew; if Multus is gone, remove its file", m)
		}
	}
	return nil
}
