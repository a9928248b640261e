//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/podtap/podtap/api/node"
)

// large is what a pod sends over TCP, and gets back, where packets are full: in bytes.
const large = 1000000

// udpOf sends datagrams with so many bytes of payload, each answered.
func udpOf(address string, n, size int) []string {
	c := udpTo(address, n)
	return append([]string{"netutil", "udp", "-size", fmt.Sprint(size)}, c[2:]...)
}

// payloads insists on the payload of the datagrams that have arrived, both ways together.
func (c *collector) payloads(want int) {
	c.t.Helper()
	if got := c.sum("udp", func(flow) bool { return true }).payload; got != want {
		c.t.Errorf("the datagrams have %d bytes of payload, want %d", got, want)
	}
}

// fragments are what a node's IP counters say of one family: how many fragments it has
// made, and how many packets it has given up because it might not make any.
func fragments(t *testing.T, n string, ipv6 bool) (made, failed int) {
	t.Helper()
	if ipv6 {
		made, failed = -1, -1
		for _, line := range strings.Split(on(t, n, "cat", "/proc/net/snmp6"), "\n") {
			_, _ = fmt.Sscanf(line, "Ip6FragCreates %d", &made)
			_, _ = fmt.Sscanf(line, "Ip6FragFails %d", &failed)
		}
		if made < 0 || failed < 0 {
			t.Fatal("there are no counters of fragments")
		}
		return made, failed
	}
	var names, values []string
	for _, line := range strings.Split(on(t, n, "cat", "/proc/net/snmp"), "\n") {
		if f := strings.Fields(line); len(f) > 0 && f[0] == "Ip:" {
			names, values = values, f
		}
	}
	for i, name := range names {
		v, _ := strconv.Atoi(values[i])
		switch name {
		case "FragCreates":
			made = v
		case "FragFails":
			failed = v
		}
	}
	if len(names) == 0 || len(names) != len(values) {
		t.Fatalf("the counters are %q and %q", names, values)
	}
	return made, failed
}

// underlay gives the nodes' network another MTU than its 1500, until the test ends.
func underlay(t *testing.T, mtu int) {
	t.Helper()
	var links [][]string
	for _, n := range []string{"n1", "n2", apart} {
		links = append(links, []string{"-n", networkOf(n), "link", "set", "eth0", "mtu"})
	}
	for _, l := range []string{"v1", "v2", "collector", "br0"} {
		links = append(links, []string{"link", "set", cluster + l, "mtu"})
	}
	set := func(mtu int) {
		t.Helper()
		for _, l := range links {
			if out, err := exec.Command("ip", append(l[:len(l):len(l)], fmt.Sprint(mtu))...).CombinedOutput(); err != nil {
				t.Errorf("ip %s: %v %s", strings.Join(l, " "), err, out)
			}
		}
	}
	t.Cleanup(func() { set(1500) })
	set(mtu)
}

// full says how a pod's packets that are as large as its MTU fare.
type full struct {
	name, remote string
	vni          int
	to           string // an echo server
	size         int    // bytes of a datagram's payload
	oversize     string
	fragments    bool // are the copies expected to need any?
	cut          int  // bytes that each datagram's copy is expected to lose
}

// arrive insists that each byte of a pod's full-size datagrams, but for what is cut, and of a
// TCP connection arrives, with fragments on the way or without.
func (f full) arrive(t *testing.T, ns string) {
	t.Helper()
	at := collectFrom(t, f.vni, f.remote)
	ipv6 := strings.Contains(f.remote, ":")
	made, failed := fragments(t, "n1", ipv6)
	p := pod{namespace: ns, name: f.name, node: "n1", annotation: f.annotation(), init: udpOf(f.to, echoes, f.size), command: tcpTo(f.to, large)}
	apply(t, p.manifest())
	p.ends(t, "Succeeded")
	own := addr(t, p)
	at.counts("each datagram", own, echoes, echoes)
	at.payloads(2 * echoes * (f.size - f.cut))
	at.conversation(own, large)
	madeNow, failedNow := fragments(t, "n1", ipv6)
	made, failed = madeNow-made, failedNow-failed
	t.Logf("%d fragments for %d datagrams of %d bytes and %d bytes over TCP, each way", made, echoes, f.size, large)
	// Two for each datagram's copy, besides TCP's.
	if f.fragments && made <= 2*2*echoes || !f.fragments && made != 0 || failed != 0 {
		t.Errorf("the node has made %d fragments, and failed to make %d", made, failed)
	}
	p.delete(t)
}

func (f full) annotation() string {
	if f.oversize == "" {
		return vxlan(f.vni, f.remote)
	}
	return fmt.Sprintf(`{vxlan: {vni: %d, remote: "%s", oversize: %s}}`, f.vni, f.remote, f.oversize)
}

// testFit is about the cluster as it is: pods and underlay have the same MTU.
func testFit(t *testing.T) {
	dual(t)
	ns := space(t)
	to := server(t, ns, "n2").ip(t)
	full{name: "fit4", remote: apartAddress, vni: 187, to: to, size: 1472, cut: 50}.arrive(t, ns)
	full{name: "fit6", remote: apartIPv6, vni: 188, to: to, size: 1472, cut: 70}.arrive(t, ns)
}

func testFragments(t *testing.T) {
	ns := space(t)
	to := server(t, ns, "n2").ip(t)
	full{name: "full", remote: apartAddress, vni: 180, to: to, size: 1472, oversize: "fragment", fragments: true}.arrive(t, ns)
}

// testFollow makes the underlay narrower while a pod is tapped, and sends after that.
func testFollow(t *testing.T) {
	ns := space(t)
	to := server(t, ns, "n1").ip(t) // the pod's own packets do not take the underlay
	const vni = 189
	at := collectFrom(t, vni, apartAddress)
	p := pod{namespace: ns, name: "follow", node: "n1", annotation: vxlan(vni, apartAddress), command: []string{"sleep", "600"}}.start(t)
	underlay(t, 1400)
	time.Sleep(2 * time.Second) // podtapd lets changes come to rest first
	made, failed := fragments(t, "n1", false)
	kubectl(t, append([]string{"-n", ns, "exec", p.name, "--"}, tcpTo(to, large)...)...)
	at.conversation(addr(t, p), large)
	if madeNow, failedNow := fragments(t, "n1", false); madeNow != made || failedNow != failed {
		t.Errorf("the node has made %d fragments, and failed to make %d", madeNow-made, failedNow-failed)
	}
	if is, _ := listed(t, ns, p.name); is.SegmentsAdded == nil || *is.SegmentsAdded == 0 {
		t.Errorf("the tap is %+v", is)
	}
}

// testNarrow has the server on the same node, so that the pod's own packets do not take
// the underlay.
func testNarrow(t *testing.T) {
	underlay(t, 1400)
	ns := space(t)
	to := server(t, ns, "n1").ip(t)
	full{name: "narrow", remote: apartAddress, vni: 181, to: to, size: 1472, oversize: "fragment", fragments: true}.arrive(t, ns)
}

func testJumbo(t *testing.T) {
	dual(t)
	underlay(t, 9000)
	comesBack(t, "n1")
	comesBack(t, "n2")
	jumbo := func(t *testing.T, n string, mtu int) {
		t.Helper()
		name := fmt.Sprintf("e2e-jumbo%d", mtu)
		instead(t, n, network{name, []string{bridge(t, n, name, mtu, half4(n))}})
	}
	jumbo(t, "n2", 9000)
	ns := space(t)
	to := server(t, ns, "n2").ip(t)
	for i, c := range []struct {
		mtu       int
		remote    string
		fragments bool
	}{
		{8950, apartAddress, false},
		{8930, apartIPv6, false},
		{9000, apartAddress, true},
	} {
		name := fmt.Sprintf("jumbo-%d", c.mtu)
		t.Run(name, func(t *testing.T) {
			jumbo(t, "n1", c.mtu)
			full{name: name, remote: c.remote, vni: 182 + i, to: to, size: c.mtu - 28, oversize: "fragment", fragments: c.fragments}.arrive(t, ns)
		})
	}
}

// testLost is what happens over IPv6, where the kernel does not fragment VXLAN: copies
// that do not fit are lost, exactly those, and counted, and the pod does not notice.
func testLost(t *testing.T) {
	dual(t)
	ns := space(t)
	far := server(t, ns, "n2")
	to, to6 := far.ip(t), ipv6(t, far)
	const vni, most = 186, 1500 - 70 // IP packets of so many bytes fit
	at := collectFrom(t, vni, apartIPv6)
	made, failed := fragments(t, "n1", true)
	p := pod{namespace: ns, name: "lost", node: "n1", annotation: full{vni: vni, remote: apartIPv6, oversize: "fragment"}.annotation(), command: []string{"sleep", "600"},
		init: all(udpOf(to, echoes, most-28), udpOf(to, echoes, most-28+1), tcpTo(to, large), udpOf(to, echoes, 1472), udpOf(to6, echoes, 1452))}.start(t)
	// Nothing of the pod's own is lost: each of its commands has succeeded. Nor does it
	// believe now that its own path is narrower.
	for _, full := range [][]string{udpOf(to, 10, 1472), udpOf(to6, 10, 1452)} {
		kubectl(t, append([]string{"-n", ns, "exec", p.name, "--", "netutil", "udp", "-df"}, full[2:]...)...)
	}
	own := addr(t, p)
	at.counts("each datagram that fits", own, echoes, echoes)
	at.payloads(2 * echoes * (most - 28))
	connection := at.sum("tcp", func(flow) bool { return true })
	if !connection.syn || !connection.fin || connection.payload >= large/2 {
		t.Errorf("of the connection there are %d bytes; its SYN: %v; its FIN: %v", connection.payload, connection.syn, connection.fin)
	}
	const lost = 2 * (3*echoes + 2*10) // datagrams
	madeNow, failedNow := fragments(t, "n1", true)
	if made, failed = madeNow-made, failedNow-failed; made != 0 || failed <= lost {
		t.Errorf("the node has made %d fragments, and failed to make %d", made, failed)
	}
	// What the tap has matched is all there, sent or lost; of the tap and its sender the one
	// may be read after the other.
	eventually(t, patience, "the counters add up", func() error {
		tap, by := sender(t, ns, p.name)
		matched := uint64(0)
		for _, d := range tap.Directions {
			if matched += d.Matched.Packets; len(d.Dropped) != 0 {
				return fmt.Errorf("the tap itself has lost %+v", d.Dropped)
			}
		}
		other := by.Dropped["other"].Packets
		if len(by.Dropped) != 1 || other <= lost || by.Sent.Packets+other != matched {
			return fmt.Errorf("of %d packets the sender has sent %d and lost %+v", matched, by.Sent.Packets, by.Dropped)
		}
		t.Logf("of %d copies %d were sent and %d lost, of those %d datagrams; the node counts %d packets that it did not fragment; %d of %d bytes over TCP arrived",
			matched, by.Sent.Packets, other, lost, failed, connection.payload, 2*large)
		return nil
	})
	log, err := os.ReadFile(must(t, "logs", "n1/containerd"))
	if err != nil {
		t.Fatal(err)
	}
	warned := false
	for _, line := range strings.Split(string(log), "\n") {
		warned = warned || strings.Contains(line, fmt.Sprintf("copies of packets above %d bytes will be lost", most)) && strings.Contains(line, "namespace="+ns+" pod="+p.name)
	}
	if !warned {
		t.Error("ADD has not warned")
	}
}

// sender is a pod's tap and the device that sends its copies.
func sender(t *testing.T, namespace, name string) (node.Tap, node.Sender) {
	t.Helper()
	tap, list := listed(t, namespace, name)
	for _, s := range list.Senders {
		if s.Destination == tap.Destination && s.Node == tap.Node {
			return tap, s
		}
	}
	t.Fatalf("the sender of the pod %s is not in the list: %+v", name, list)
	return node.Tap{}, node.Sender{}
}
