//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/podtap/podtap/api/node"
)

// TestPodtapBehindOtherNetworks gives the nodes other networks than the cluster's own:
// what podtap promises does not depend on who has made the pod's interface.
func TestPodtapBehindOtherNetworks(t *testing.T) {
	tell(t, "networks", []part{
		{"podtap is chained to the cluster's own network", testInstallBehind},
		{"pods of bridge, ptp and macvlan are tapped, and leave nothing", testPrimaries},
		{"full-size packets are made to fit the path, and none is fragmented", testFit},
		{"copies follow an underlay that becomes narrower", testFollow},
		{"full-size packets to a collector over IPv4 go in fragments where that is asked for", testFragments},
		{"full-size packets to a collector over IPv6 are lost then, and nothing else is", testLost},
		{"beside bandwidth and portmap, in any order", testNeighbours},
		{"through an underlay that is narrower than the pods they go in fragments, too", testNarrow},
		{"pods of one family and of both, collectors of either", testFamilies},
		{"jumbo frames arrive whole", testJumbo},
		{"a network of one plugin becomes a chain, and uninstalling gives it back", testOnePlugin},
	})
}

// folder is where nodes have their network configurations.
const folder = "/etc/cni/net.d"

// ownFile is the file of a node's own network there, by node.
var ownFile = map[string]string{}

func testInstallBehind(t *testing.T) {
	for _, n := range nodes {
		files := strings.Fields(on(t, n, "ls", folder))
		if len(files) != 1 {
			t.Fatalf("on %s there are the network configurations %q", n, files)
		}
		ownFile[n] = files[0]
	}
	installed(t)
}

// network is one that a node gets instead of its own.
type network struct {
	name    string   // unlike all others, so that it is known when the runtime has loaded it
	plugins []string // in JSON
}

func (n network) text() string {
	return fmt.Sprintf("{\n  \"cniVersion\": \"1.0.0\",\n  \"name\": %q,\n  \"plugins\": [\n    %s\n  ]\n}\n", n.name, strings.Join(n.plugins, ",\n    "))
}

// written is when the last network configurations were written, by node.
var written = map[string][]time.Time{}

// write puts a network configuration into a node's folder, at once. More than five within
// a minute podtapd would take for a conflict, which is not what these tests are about.
func write(t *testing.T, n, file, text string) {
	t.Helper()
	if last := written[n]; len(last) >= 5 {
		time.Sleep(time.Until(last[len(last)-5].Add(61 * time.Second)))
	}
	written[n] = append(written[n], time.Now())
	file = path.Join(folder, file)
	if _, err := try(text, "sh", n, "sh", "-c", "cat >"+file+".tmp && mv "+file+".tmp "+file); err != nil {
		t.Error(err)
	}
}

// instead replaces a node's network, as somebody does who knows nothing of podtap, and
// waits until podtapd has followed.
func instead(t *testing.T, n string, other network) {
	t.Helper()
	var chain []string
	for _, p := range other.plugins {
		chain = append(chain, kindOf(t, p))
	}
	empty(t, n)
	write(t, n, ownFile[n], other.text())
	if !slices.Contains(chain, "podtap") {
		chain = append(chain, "podtap")
	}
	chained(t, n, other.name, chain)
}

// empty waits until a node's last pod has left its network: without a grace period
// Kubernetes forgets a pod before that, and containerd takes a pod off by the network that
// it has loaded then.
func empty(t *testing.T, n string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(300 * time.Millisecond) {
		left := on(t, n, "sh", "-c", "ls /run/netns; find /var/lib/cni -path '*/results/*'")
		if !strings.Contains(left, "cni-") && !strings.Contains(left, "-eth0") {
			return
		}
		if time.Now().After(end) {
			t.Errorf("on %s there still are pods: %s", n, left)
			return
		}
	}
}

func kindOf(t *testing.T, plugin string) string {
	t.Helper()
	var p struct{ Type string }
	if err := json.Unmarshal([]byte(plugin), &p); err != nil {
		t.Fatalf("%v: %s", err, plugin)
	}
	return p.Type
}

// comesBack gives a node its own network again when the test ends. Tests call it ahead of
// space, so that their pods go by the network that they came by.
func comesBack(t *testing.T, n string) {
	t.Helper()
	t.Cleanup(func() {
		empty(t, n)
		write(t, n, ownFile[n], pristine[n])
		chained(t, n, cluster+"net", []string{"bridge", "portmap", "bandwidth", "podtap"})
	})
}

// chained waits until podtap is in a chain, and the runtime has loaded that.
func chained(t *testing.T, n, name string, chain []string) {
	t.Helper()
	eventually(t, patience, "podtap is chained to "+name, func() error {
		r, err := report(t, n)
		if i := r.Install; err == nil && (i.State != node.StateReady || i.Network != name || !slices.Equal(i.Chain, chain)) {
			err = fmt.Errorf("it is %+v", i)
		}
		return err
	})
}

// The addresses that other networks give to pods: the upper halves of what the nodes
// have for their own.
func half4(n string) netip.Prefix { return netip.MustParsePrefix("198.19." + n[1:] + ".128/25") }
func half6(n string) netip.Prefix {
	return netip.MustParsePrefix("fd00:198:19:" + n[1:] + ":8000::/65")
}

// addresses is a plugin's IPAM.
func addresses(subnets ...netip.Prefix) string {
	var ranges, routes []string
	for _, s := range subnets {
		ranges = append(ranges, fmt.Sprintf(`[{"subnet": "%s"}]`, s))
		if s.Addr().Is4() {
			routes = append(routes, `{"dst": "0.0.0.0/0"}`)
		} else {
			routes = append(routes, `{"dst": "::/0"}`)
		}
	}
	return fmt.Sprintf(`"ipam": {"type": "host-local", "ranges": [%s], "routes": [%s]}`, strings.Join(ranges, ", "), strings.Join(routes, ", "))
}

// bridge is a plugin with a bridge of its own on a node, which goes when the test ends:
// it keeps the MTU that it was made with, and another would have the same routes.
func bridge(t *testing.T, n, device string, mtu int, subnets ...netip.Prefix) string {
	t.Helper()
	t.Cleanup(func() { _, _ = try("", "sh", n, "ip", "link", "del", device) })
	return fmt.Sprintf(`{"type": "bridge", "bridge": "%s", "isGateway": true, "hairpinMode": true, "mtu": %d, %s}`, device, mtu, addresses(subnets...))
}

// macvlans are addresses on the nodes' network that nobody has.
var macvlans = netip.MustParsePrefix("198.18.0.128/27")

func testPrimaries(t *testing.T) {
	comesBack(t, "n1")
	own := bridge(t, "n1", "e2e-primary", 1500, half4("n1"))
	ns := space(t)
	to := server(t, ns, "n2").ip(t)
	for i, c := range []struct {
		name, plugin string
		in           netip.Prefix
	}{
		{"bridge", own, half4("n1")},
		{"ptp", fmt.Sprintf(`{"type": "ptp", "mtu": 1500, %s}`, addresses(half4("n1"))), half4("n1")},
		// It is on the nodes' network, so its way to the pods of n2 is n2.
		{"macvlan", `{"type": "macvlan", "master": "eth0", "mode": "bridge", "ipam": {"type": "host-local", "ranges": [[{"subnet": "198.18.0.0/24",` +
			` "rangeStart": "198.18.0.129", "rangeEnd": "198.18.0.158", "gateway": "198.18.0.12"}]], "routes": [{"dst": "0.0.0.0/0"}]}}`, macvlans},
	} {
		t.Run(c.name, func(t *testing.T) {
			instead(t, "n1", network{"e2e-" + c.name, []string{c.plugin}})
			at := collect(t, apart, 160+i)
			before := remains(t, "n1")
			p := pod{namespace: ns, name: "on-" + c.name, node: "n1", annotation: vxlan(160+i, apartAddress), init: udpTo(to, echoes), command: tcpTo(to, sent)}
			apply(t, p.manifest())
			p.ends(t, "Succeeded")
			own := addr(t, p)
			if !c.in.Contains(own) {
				t.Errorf("the pod's address %s is not one of %s", own, c.in)
			}
			at.counts("each datagram", own, echoes, echoes)
			at.conversation(own, sent)
			p.delete(t)
			leavesNothing(t, "n1", before)
		})
	}
}

func vxlan(vni int, remote string) string {
	return fmt.Sprintf(`{vxlan: {vni: %d, remote: "%s"}}`, vni, remote)
}

// conversation insists on each byte, both ways, of a pod's one TCP connection with an
// echo server, its begin and its end.
func (c *collector) conversation(own netip.Addr, bytes int) {
	c.t.Helper()
	eventually(c.t, patience, "the whole connection arrives", func() error {
		for what, is := range map[string]func(flow) bool{
			"sent":     func(f flow) bool { return f.from.Addr() == own },
			"received": func(f flow) bool { return f.to.Addr() == own },
		} {
			if s := c.sum("tcp", is); s.payload != bytes || s.packets == 0 || !s.syn || !s.fin {
				return fmt.Errorf("of what the pod %s there are %d of %d bytes; its SYN: %v; its FIN: %v", what, s.payload, bytes, s.syn, s.fin)
			}
		}
		return nil
	})
}

// remains is what pods could leave on a node: devices, rules, names of namespaces, what
// the runtime remembers of their networks, addresses. The bridges of these tests stay,
// as the bridge plugin's do.
func remains(t *testing.T, n string) string {
	t.Helper()
	return on(t, n, "sh", "-c", `cd /sys/class/net
for d in *; do
	case $d in e2e-*) continue ;; esac
	echo "device $d $(cat $d/ifalias)"
	tc qdisc show dev $d
	for side in ingress egress; do tc filter show dev $d $side; done
done
ls /run/netns
find /var/lib/cni -type f ! -name lock ! -name 'last_reserved_ip*'`)
}

func leavesNothing(t *testing.T, n, before string) {
	t.Helper()
	eventually(t, patience, "the pod leaves nothing", func() error {
		if after := remains(t, n); after != before {
			return fmt.Errorf("it was\n%s\nand is\n%s", before, after)
		}
		return nil
	})
}
