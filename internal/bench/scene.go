package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	"github.com/containernetworking/cni/libcni"

	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/cniconf"
)

const (
	underlayMTU = 1500
	podMTU      = 1450 // leaves the 50 bytes that VXLAN adds
	// otherVNIs is how many networks of copies the other pods' VXLAN taps share.
	otherVNIs = 10
)

// scene is a node with one pod, and one that other tapped pods crowd. All cases
// of a node use the same pod, so that its surroundings are the same for all.
type scene struct {
	quiet, crowded *place
	collector      string
}

// place is a pod on a node, as a bridge plugin would have left it.
type place struct {
	node   *lab.Host
	pod    *lab.Pod
	port   string // the node's end of the pod's cable
	result json.RawMessage
}

func newScene(c *caller, others int) (*scene, error) {
	n := lab.NewNetwork(program{}, "", underlayMTU)
	s := &scene{collector: n.Host("collector").IPv4()}
	s.quiet = newPlace(n.Host("quiet"), "pod")
	crowded := n.Host("crowded")
	s.crowded = newPlace(crowded, "pod")
	for i := range others {
		p := newPlace(crowded, fmt.Sprintf("other%d", i))
		// Hundreds of pods that look for a router would be heard at every port of
		// the bridge, and be copied, for minutes.
		p.pod.Sysctl("ipv6", "eth0", "router_solicitations", "0")
		k := s.tapped("other "+fmt.Sprint(i), p, made{result: 1}, "{veth: {}}")
		if i%2 == 1 {
			k = s.tapped("other "+fmt.Sprint(i), p, made{result: 1}, fmt.Sprintf("{vxlan: {vni: %d, remote: %s}}", 1000+i/2%otherVNIs, s.collector))
		}
		if _, err := c.call(k, "ADD"); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func newPlace(node *lab.Host, name string) *place {
	p := &place{node: node, pod: node.Pod(name, podMTU)}
	eth0 := p.pod.Link("eth0").Attrs()
	// ParentIndex of a veth is the other end's index, in the other end's namespace.
	port, err := node.Netlink.LinkByIndex(eth0.ParentIndex)
	if err != nil {
		program{}.Fatalf("find the end on %s of the cable of %s: %v", node.Name, p.pod.Name, err)
	}
	p.port = port.Attrs().Name
	bridge := node.Link("cni0").Attrs()
	p.result = json.RawMessage(fmt.Sprintf(bridgeResult, bridge.HardwareAddr, p.port, port.Attrs().HardwareAddr,
		eth0.HardwareAddr, p.pod.Path(), p.pod.IPv4, p.pod.IPv6))
	return p
}

// bridgeResult is what containernetworking's bridge answers, and bridgeInterfaces
// how many interfaces it names. bandwidth looks for the pod's port among them.
const (
	bridgeResult = `{"cniVersion": "1.1.0",
 "interfaces": [{"name": "cni0", "mac": %q}, {"name": %q, "mac": %q}, {"name": "eth0", "mac": %q, "mtu": 1450, "sandbox": %q}],
 "ips": [{"interface": 2, "address": "%s/24"}, {"interface": 2, "address": "%s/64"}],
 "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}], "dns": {}}`
	bridgeInterfaces = 3
)

// limited has bandwidth limit what a pod receives and sends.
func (s *scene) limited(name string, at *place) *trial {
	limits := map[string]any{"ingressRate": 100_000_000, "ingressBurst": 10_000_000, "egressRate": 100_000_000, "egressBurst": 10_000_000}
	return newTrial(name, at, bandwidth, made{result: 1, node: 1, tbf: 2}, "bandwidth", limits, nil)
}

// tapped has a pod's annotation ask for taps; "" is none.
func (s *scene) tapped(name string, at *place, want made, taps string) *trial {
	// A pod has others, which are handed over as well.
	annotations := map[string]string{"kubernetes.io/config.source": "api", "prometheus.io/scrape": "true", "prometheus.io/port": "9090"}
	if taps != "" {
		annotations[cniconf.AnnotationKey] = taps
	}
	policy := map[string]any{"rules": []any{map[string]any{"sinks": []string{"veth", "vxlan", "wire"}, "destinations": []string{s.collector},
		"placements": []string{"node", "pod"}, "addresses": []string{"198.19.0.0/16", "fd00:19::/32"}}}}
	return newTrial(name, at, podtap, want, cniconf.Capability, annotations, map[string]any{"policy": policy})
}

// newTrial makes a case of a plugin that a capability tells what to do, with
// settings of the network configuration besides.
func newTrial(name string, at *place, plugin string, want made, capability string, value any, settings map[string]any) *trial {
	conf := map[string]any{"cniVersion": "1.1.0", "name": "pods", "type": plugin,
		"capabilities": map[string]bool{capability: true}, "prevResult": at.result}
	for key, v := range settings {
		conf[key] = v
	}
	text, err := json.Marshal(conf)
	if err != nil {
		program{}.Fatalf("configuration of the case %q: %v", name, err)
	}
	config, err := libcni.NetworkPluginConfFromBytes(text)
	if err != nil {
		program{}.Fatalf("configuration of the case %q: %v", name, err)
	}
	sum := sha256.Sum256([]byte(name))
	id := hex.EncodeToString(sum[:]) // as long as containerd's
	k := &trial{at: at, plugin: plugin, want: want, config: config, runtime: &libcni.RuntimeConf{
		ContainerID: id, NetNS: at.pod.Path(), IfName: "eth0", CapabilityArgs: map[string]any{capability: value},
		Args: [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "default"}, {"K8S_POD_NAME", "web"}, {"K8S_POD_INFRA_CONTAINER_ID", id}}}}
	k.Name = name
	return k
}
