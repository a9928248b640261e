package drivers

import (
	"fmt"
	"os"
	"path/filepath"
)

const (
	// listName is the file that the tests' network is in.
	listName = "10-pods.conflist"
	gateway  = "198.18.7.1"
)

// network is a network configuration; what is left out has a default.
type network struct {
	version, name string
	taps          string // those of all pods
	bare          bool   // podtap is not in it
	server        int    // a name server, by which a result tells its configuration
}

func (c network) text(leases string) string {
	if c.version == "" {
		c.version = "1.1.0"
	}
	if c.name == "" {
		c.name = "pods"
	}
	if c.taps == "" {
		c.taps = "[]"
	}
	podtap := fmt.Sprintf(`,{"type":"podtap","capabilities":{%q:true},"taps":%s,
		"policy":{"rules":[{"sinks":["veth","vxlan"],"destinations":["198.18.0.0/24"],"placements":["node","pod"],"hostNames":true}]}}`, annotations, c.taps)
	if c.bare {
		podtap = ""
	}
	return fmt.Sprintf(`{"cniVersion":%q,"name":%q,"plugins":[{%s}%s]}`, c.version, c.name, bridge(c.server, leases), podtap)
}

// bridge is the configuration of a network plugin.
func bridge(server int, leases string) string {
	return fmt.Sprintf(`"type":"bridge","bridge":"br7","isGateway":true,"dns":{"nameservers":["198.18.0.%d"]},
		"ipam":{"type":"host-local","dataDir":%q,"ranges":[[{"subnet":"198.18.7.0/24"}],[{"subnet":"fd00:18:7::/64"}]],
		"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}`, server, leases)
}

// configure writes the configuration as installers do: whole, by a rename in its folder.
func (n *node) configure(c network) {
	n.t.Helper()
	n.write(listName, c.text(n.leases))
}

func (n *node) write(name, text string) {
	n.t.Helper()
	path := filepath.Join(n.confDir, name)
	if err := os.WriteFile(path+".new", []byte(text), 0o644); err != nil {
		n.t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		n.t.Fatal(err)
	}
}

// reconfigure writes a configuration and waits until the runtime gives it to new pods.
func (n *node) reconfigure(c network) {
	n.t.Helper()
	c.server = 54 // until now there was 0
	n.configure(c)
	n.load()
	number := 0
	n.eventually("new pods get the new configuration", func() bool {
		number++
		p, space := n.sandbox(fmt.Sprintf("probe%d", number), "")
		defer space.Destroy()
		// CRI-O fails where the default network gets another name between the two parts
		// of its ADD.
		o, err := n.runtime.do(request{Verb: "add", Pod: p})
		n.remove(p)
		return err == nil && o.Result.DNS.Nameservers[0] == fmt.Sprintf("198.18.0.%d", c.server)
	})
}

// load tells the runtime of a change, where the driver leaves looking for it to the
// runtime: containerd's own watch is not part of go-cni.
func (n *node) load() {
	n.t.Helper()
	if _, err := n.runtime.do(request{Verb: "load"}); err != nil {
		n.t.Fatalf("load: %v", err)
	}
}
