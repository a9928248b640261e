package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/vishvananda/netlink"

	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/cniconf"
)

// tappedThrice is podtap with a tap of each kind for every pod.
const tappedThrice = `{"type":"podtap","capabilities":{"` + cniconf.Capability + `":true},"log":{"level":"warn"},"taps":[
	{"device":"near","veth":{"hostInterface":"sensor0"}},
	{"device":"far","vxlan":{"vni":100,"remote":"198.18.0.3"}},
	{"device":"inpod","vxlan":{"vni":101,"port":4790,"remote":"198.18.0.3","placement":"pod","oversize":"fragment"}}]}`

// Plugins that come before podtap in a chain, or after.
const (
	limited = `{"type":"bandwidth","ingressRate":800000000,"ingressBurst":80000000,"egressRate":800000000,"egressBurst":80000000}`
	mapped  = `{"type":"portmap","capabilities":{"portMappings":true},"backend":"nftables","snat":false}`
)

// primaries are the plugins that give a pod its interface; peers reach the pods
// through the node, those of macvlan on the underlay itself.
func primaries(t *testing.T) map[string]string {
	ipam := func(subnets string) string {
		return fmt.Sprintf(`"ipam":{"type":"host-local","dataDir":%q,"ranges":[%s],"routes":[{"dst":"0.0.0.0/0"}]}`, t.TempDir(), subnets)
	}
	const pods = `[{"subnet":"198.18.7.0/24"}],[{"subnet":"fd00:18:7::/64"}]`
	return map[string]string{
		"bridge":  `{"type":"bridge","bridge":"br7","isGateway":true,` + ipam(pods) + `}`,
		"ptp":     `{"type":"ptp",` + ipam(pods) + `}`,
		"macvlan": `{"type":"macvlan","master":"eth0","mode":"bridge",` + ipam(`[{"subnet":"198.18.0.0/24","rangeStart":"198.18.0.100","rangeEnd":"198.18.0.150"}]`) + `}`,
	}
}

// needsDevice skips a test where the kernel has no devices of a kind.
func needsDevice(t *testing.T, at *lab.Space, l netlink.Link) {
	t.Helper()
	if err := at.Netlink.LinkAdd(l); err != nil {
		t.Skipf("this kernel makes no %s: %v", l.Type(), err)
	}
	at.Delete(l.Attrs().Name)
}

// needsBandwidth skips a test where the kernel lacks what bandwidth is made of.
func needsBandwidth(t *testing.T) {
	t.Helper()
	s := lab.NewSpace(t, "kernel")
	needsDevice(t, s, &netlink.Ifb{LinkAttrs: netlink.LinkAttrs{Name: "ifb9"}})
	tbf := &netlink.Tbf{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: s.Link("lo").Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate: 1e6, Limit: 1e6, Buffer: 1e6}
	if err := s.Netlink.QdiscAdd(tbf); err != nil {
		t.Skipf("this kernel has no tbf: %v", err)
	}
}

// street is a node with a runtime, a peer of its pods, and a collector.
type street struct {
	*cluster
	peer, collector *lab.Host
}

func newStreet(t *testing.T) *street {
	t.Helper()
	n := lab.NewNetwork(t, "", 1500)
	node := n.Host("node")
	s := &street{cluster: &cluster{t: t, node: node, runtime: lab.NewRuntime(node.Space, binaries(t), t.TempDir())},
		peer: n.Host("peer"), collector: n.Host("collector")}
	s.peer.Route("198.18.7.0/24", node.IPv4())
	t.Cleanup(func() { locksFree(t) })
	return s
}

// chain is a network of plugins in an order.
func chain(plugins ...string) string {
	return fmt.Sprintf(`{"cniVersion":%q,"name":"net","plugins":[%s]}`, newest, strings.Join(plugins, ","))
}

// numbered counts the datagrams of a burst among frames, by direction and number.
func numbered(frames []lab.Frame, vni uint32) map[string]int {
	out := map[string]int{}
	for _, f := range frames {
		p := gopacket.NewPacket(f.Data, layers.LayerTypeEthernet, gopacket.NoCopy)
		udp, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
		if ok && f.VNI == vni && udp.DstPort == 5000 && len(udp.Payload) == burstSize {
			out[fmt.Sprintf("%s %d", p.NetworkLayer().NetworkFlow(), binary.BigEndian.Uint32(udp.Payload))]++
		}
	}
	return out
}

const (
	burstCount = 300
	burstSize  = 300 // bytes
)

// once fails where not every datagram of two bursts is among frames exactly once.
func once(t *testing.T, where string, got map[string]int) {
	t.Helper()
	more := 0
	for _, n := range got {
		more += n - 1
	}
	if len(got) != 2*burstCount || more != 0 {
		t.Errorf("%s: %d datagrams of %d, and %d twice", where, len(got), 2*burstCount, more)
	}
}

// copiedOnce adds a pod to a network, has it exchange datagrams with the peer,
// proves that each is on the wire once and in each tap's copies once, that CHECK
// finds nothing wrong, and that DEL leaves nothing.
func (k *street) copiedOnce(t *testing.T, list string) {
	t.Helper()
	k.settle(list)
	s, pod := k.sandbox("web", "")
	node, inside := snap(t, k.node.Space), snap(t, pod)
	result, err := current.NewResultFromResult(k.add(list, s))
	if err != nil {
		t.Fatal(err)
	}
	k.check(list, s)
	lab.Settle(t, k.node.Space, pod) // what the kernel says of itself has been said

	address := result.IPs[0].Address.IP.String()
	wire, near := k.peer.Capture("eth0"), k.node.Capture("sensor0")
	far, fromPod := k.collector.Collect("[::]:4789"), k.collector.Collect("[::]:4790")
	inPod, atPeer := pod.UDP("0.0.0.0:5000"), k.peer.UDP("0.0.0.0:5000")
	if n := lab.Burst(t, inPod, atPeer, k.peer.IPv4()+":5000", burstCount, burstSize, wire, near, far, fromPod); n != burstCount {
		t.Fatalf("%d of %d datagrams arrived at the peer", n, burstCount)
	}
	if n := lab.Burst(t, atPeer, inPod, address+":5000", burstCount, burstSize, wire, near, far, fromPod); n != burstCount {
		t.Fatalf("%d of %d datagrams arrived at the pod", n, burstCount)
	}
	once(t, "the wire", numbered(wire.Settle(2*burstCount), 0))
	once(t, "the veth tap", numbered(near.Settle(2*burstCount), 0))
	once(t, "the VXLAN tap", numbered(far.Settle(2*burstCount), 100))
	once(t, "the VXLAN tap in the pod", numbered(fromPod.Settle(2*burstCount), 101))
	near.Stop()

	k.check(list, s)
	k.del(list, s)
	node.unchanged(t, k.node.Space)
	inside.unchanged(t, pod)
}

func TestPodsOfEachPrimaryAreCopiedOnce(t *testing.T) {
	for name, primary := range primaries(t) {
		t.Run(name, func(t *testing.T) {
			k := newStreet(t)
			if name == "macvlan" {
				needsDevice(t, k.node.Space, &netlink.Macvlan{LinkAttrs: netlink.LinkAttrs{Name: "macvlan9",
					ParentIndex: k.node.Link("eth0").Attrs().Index}, Mode: netlink.MACVLAN_MODE_BRIDGE})
			}
			k.copiedOnce(t, chain(primary, tappedThrice))
		})
	}
}

// With the chain's DEL the pod's interface goes, and all that hangs at it. podtap's
// own DEL has to leave the interface as the primary made it.
func TestEachPrimarysInterfaceIsLeftAsItWas(t *testing.T) {
	for name, primary := range primaries(t) {
		t.Run(name, func(t *testing.T) {
			k := newStreet(t)
			list := chain(primary)
			s, pod := k.sandbox("web", "")
			var c conf
			if err := json.Unmarshal([]byte(tappedThrice), &c); err != nil {
				t.Fatal(err)
			}
			c = c.with(conf{"cniVersion": newest, "name": "net", "prevResult": k.add(list, s)})
			lab.Settle(t, k.node.Space, pod)
			node, inside := snap(t, k.node.Space), snap(t, pod)
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			a := attachment{ID: s.ID, NetNS: s.NetNS, IfName: "eth0", Namespace: "default", Pod: "web"}
			for _, verb := range []string{"ADD", "CHECK", "DEL"} {
				execute(t, k.node.Space, self, a.environment(verb), c.text(t)).succeeds()
				if there := pod.Has("near") && pod.Has("inpod") && k.node.Has("sensor0"); there != (verb != "DEL") {
					t.Errorf("after %s the taps are there: %t", verb, there)
				}
			}
			node.unchanged(t, k.node.Space)
			inside.unchanged(t, pod)
			k.del(list, s)
		})
	}
}

// bandwidth redirects what the host's end of the pod's cable receives into a device
// of its own, and looks that end up in the result that podtap has added devices to.
func TestBesideBandwidthInEitherOrderPodsAreCopiedOnce(t *testing.T) {
	needsBandwidth(t)
	for _, name := range []string{"bridge", "ptp"} {
		for order, rest := range map[string][]string{"bandwidth first": {limited, tappedThrice}, "podtap first": {tappedThrice, limited}} {
			t.Run(name+"/"+order, func(t *testing.T) {
				k := newStreet(t)
				list := chain(append([]string{primaries(t)[name]}, rest...)...)
				k.copiedOnce(t, list)
				s, _ := k.sandbox("limited", "")
				k.add(list, s)
				if snap(t, k.node.Space).count("qdisc tbf") != 2 || snap(t, k.node.Space).count("device", " ifb ") != 1 {
					t.Error("bandwidth has limited nothing, so that it was not beside")
				}
				k.del(list, s)
			})
		}
	}
}

// portmap changes what packets are addressed to before they are the pod's.
func TestBesidePortmapInEitherOrderPodsAreCopiedOnce(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("nft is not installed; portmap is made of it")
	}
	for order, rest := range map[string][]string{"portmap first": {mapped, tappedThrice}, "podtap first": {tappedThrice, mapped}} {
		t.Run(order, func(t *testing.T) {
			k := newStreet(t)
			list := chain(append([]string{primaries(t)["bridge"]}, rest...)...)
			k.copiedOnce(t, list)
			s, pod := k.sandbox("mapped", "")
			s.Ports = map[int]int{8080: 5000}
			node, inside := snap(t, k.node.Space), snap(t, pod)
			k.add(list, s)
			k.check(list, s)
			near := k.node.Capture("sensor0")
			inPod, atPeer := pod.UDP("0.0.0.0:5000"), k.peer.UDP("0.0.0.0:5001")
			if n := lab.Burst(t, atPeer, inPod, k.node.IPv4()+":8080", burstCount, burstSize, near); n != burstCount {
				t.Errorf("%d of %d datagrams to the node's port arrived at the pod", n, burstCount)
			}
			got := numbered(near.Settle(burstCount), 0)
			for key, n := range got {
				if n != 1 {
					t.Errorf("%s was copied %d times", key, n)
				}
			}
			if len(got) != burstCount {
				t.Errorf("%d datagrams of %d to the node's port were copied", len(got), burstCount)
			}
			near.Stop()
			k.del(list, s)
			node.unchanged(t, k.node.Space)
			inside.unchanged(t, pod)
		})
	}
}
