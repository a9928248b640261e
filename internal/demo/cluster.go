package demo

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/cniconf"
)

const (
	underlayMTU = 1500
	podMTU      = 1450 // leaves the 50 bytes that VXLAN adds
	bridge      = "cni0"
	vni         = 100
)

// plugins are the programs that the conflist names.
var plugins = []string{"podtap", "bridge", "host-local"}

// FindPlugins says what is missing in a directory of CNI plugins.
func FindPlugins(dir string) error {
	for _, name := range plugins {
		info, err := os.Stat(filepath.Join(dir, name))
		if err == nil && info.Mode()&0o111 == 0 {
			err = fmt.Errorf("%s is not an executable file", filepath.Join(dir, name))
		}
		if err != nil {
			return fmt.Errorf("the demo runs the CNI plugins podtap, bridge and host-local: %w; "+
				"build them with `make build`, or say where they are with --bin-dir", err)
		}
	}
	return nil
}

// cluster is two nodes and a collector on one underlay.
type cluster struct {
	node1, node2 *node
	collector    *lab.Host
}

// node is a machine with a container runtime and its CNI configuration.
type node struct {
	*lab.Host
	runtime  *lab.Runtime
	conflist string
}

// pod is a network namespace that a runtime made and handed to CNI.
type pod struct {
	*lab.Space
	node    *node
	sandbox lab.Sandbox
	ip      []string // IPv4, then IPv6
	setup   time.Duration
}

func newCluster(t lab.T, binDir string) *cluster {
	n := lab.NewNetwork(t, "", underlayMTU)
	host1, host2 := n.Host("node1"), n.Host("node2")
	c := &cluster{collector: n.Host("collector")}
	host1.Reach(host2)
	host2.Reach(host1)
	entry := podtapEntry(c.collector.IPv4())
	c.node1 = newNode(t, host1, binDir, "198.18.101.0/24", "fd00:18:1::/64", entry)
	c.node2 = newNode(t, host2, binDir, "198.18.102.0/24", "fd00:18:2::/64", entry)
	return c
}

// newNode makes a node of a host. The subnets are those that lab's Reach routes to it.
func newNode(t lab.T, host *lab.Host, binDir, subnet4, subnet6, entry string) *node {
	dir := t.TempDir()
	return &node{
		Host:     host,
		runtime:  lab.NewRuntime(host.Space, binDir, filepath.Join(dir, "cache")),
		conflist: fmt.Sprintf(conflist, bridge, podMTU, filepath.Join(dir, "ipam"), subnet4, subnet6, entry),
	}
}

// conflist is the node's CNI configuration. IPv6 is there because clusters have it.
const conflist = `{"cniVersion": "1.1.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": %q, "isGateway": true, "mtu": %d,
   "ipam": {"type": "host-local", "dataDir": %q,
            "ranges": [[{"subnet": %q}], [{"subnet": %q}]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]}},
  %s
]}`

// podtapEntry is the entry that is chained behind the bridge's. At info podtap
// would log every tap to standard error, into the demo's output.
func podtapEntry(collector string) string {
	return fmt.Sprintf(`{"type": "podtap",
 "capabilities": {"io.kubernetes.cri.pod-annotations": true},
 "policy": {"rules": [
   {"sinks": ["vxlan"], "destinations": [%q], "vnis": ["100-199"]}]},
 "log": {"level": "warn"}}`, collector)
}

func annotation(collector string) string {
	return fmt.Sprintf("{vxlan: {vni: %d, remote: %s}}", vni, collector)
}

// newPod makes a pod's namespace; the runtime has not called CNI yet.
func (n *node) newPod(t lab.T, name string, annotations map[string]string) *pod {
	space := lab.NewSpace(t, name)
	return &pod{Space: space, node: n, sandbox: lab.Sandbox{
		ID: "demo-" + name, NetNS: space.Path(), IfName: "eth0", Namespace: "default", Name: name, Annotations: annotations}}
}

func tapAnnotation(text string) map[string]string {
	return map[string]string{cniconf.AnnotationKey: text}
}

// add has the runtime add the pod to the network.
func (p *pod) add(t lab.T) {
	begin := time.Now()
	result, err := p.node.runtime.Add(p.node.conflist, p.sandbox)
	if err != nil {
		t.Fatalf("ADD of the pod %s: %v", p.Name, err)
	}
	p.setup = time.Since(begin)
	r, err := types100.GetResult(result)
	if err != nil {
		t.Fatalf("read the result of ADD of the pod %s: %v", p.Name, err)
	}
	for _, ip := range r.IPs {
		p.ip = append(p.ip, ip.Address.IP.String())
	}
	if len(p.ip) != 2 {
		t.Fatalf("ADD gave the pod %s the addresses %v, not one of each family", p.Name, p.ip)
	}
}
