//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"path"
	"strings"
	"testing"
	"time"
)

// limit is a pod's, in bits per second. containerd asks for a burst of 512 MB, and the
// bandwidth plugin's 32 bits overflow with it: of this rate 859 kB of burst are left,
// which are soon gone.
const limit = 15600000

const (
	portmap   = `{"type": "portmap", "capabilities": {"portMappings": true}}`
	bandwidth = `{"type": "bandwidth", "capabilities": {"bandwidth": true}}`
)

// testNeighbours has a pod's traffic go through a limit and a host port. The bandwidth
// plugin's rules are on the node's end of the pod's interface, where its redirect would
// hide packets from a rule behind it.
func testNeighbours(t *testing.T) {
	comesBack(t, "n1")
	primary := bridge(t, "n1", "e2e-neighbours", 1450, half4("n1"))
	ns := space(t)
	client := server(t, ns, "n2")
	entry := entryOf(t, "n1")
	for i, c := range []struct {
		name    string
		plugins []string
	}{
		{"bandwidth-first", []string{primary, bandwidth, portmap}},
		{"portmap-first", []string{primary, portmap, bandwidth}},
		// An entry that is as podtapd wants it stays where somebody has put it.
		{"podtap-first", []string{primary, entry, bandwidth, portmap}},
	} {
		t.Run(c.name, func(t *testing.T) {
			instead(t, "n1", network{"e2e-" + c.name, c.plugins})
			neighbours(t, ns, c.name, client, 175+i)
		})
	}
	t.Run("another entry before them", func(t *testing.T) {
		other := network{"e2e-entry", []string{primary, `{"type": "podtap", "failurePolicy": "Ignore"}`, bandwidth, portmap}}
		write(t, "n1", ownFile["n1"], other.text())
		chained(t, "n1", other.name, []string{"bridge", "bandwidth", "portmap", "podtap"})
		if got := entryOf(t, "n1"); got != entry {
			t.Errorf("podtap's entry is %s, want %s", got, entry)
		}
	})
}

// entryOf is podtap's entry in a node's network, of which it is the last plugin.
func entryOf(t *testing.T, n string) string {
	t.Helper()
	var list struct{ Plugins []json.RawMessage }
	if err := json.Unmarshal([]byte(on(t, n, "cat", path.Join(folder, ownFile[n]))), &list); err != nil {
		t.Fatal(err)
	}
	last := string(list.Plugins[len(list.Plugins)-1])
	if kindOf(t, last) != "podtap" {
		t.Fatalf("the last plugin is %s", last)
	}
	return last
}

func neighbours(t *testing.T, ns, name string, client pod, vni int) {
	before := remains(t, "n1")
	at := collect(t, apart, vni)
	// With a veth mirror too: its end is one more of the node's devices in the result that
	// the neighbours get.
	p := pod{namespace: ns, name: name, node: "n1", annotation: fmt.Sprintf(`[{device: local, veth: {}}, {vxlan: {vni: %d, remote: %s}}]`, vni, apartAddress),
		annotated: fmt.Sprintf(`kubernetes.io/ingress-bandwidth: "%[1]d", kubernetes.io/egress-bandwidth: "%[1]d"`, limit),
		init:      udpTo(client.ip(t), echoes), command: []string{"netutil", "serve", ":7000"},
		ports: `{containerPort: 7000, hostPort: 8080}, {containerPort: 7000, hostPort: 8080, protocol: UDP}`}.start(t)
	own := addr(t, p)
	at.counts("each datagram", own, echoes, echoes)

	const behindPort = 40
	for _, args := range [][]string{
		{"netutil", "udp", "-n", fmt.Sprint(behindPort), "-echo", "5s", "198.18.0.11:8080"},
		{"netutil", "tcp", "-bytes", fmt.Sprint(sent), "198.18.0.11:8080"},
	} {
		kubectl(t, append([]string{"-n", ns, "exec", client.name, "--"}, args...)...)
	}
	at.counts("each datagram through the host port", own, echoes+behindPort, echoes+behindPort)
	at.conversation(own, sent)

	// What goes beyond the burst takes its time.
	burst, rate := limits(t, "n1")
	bytes := burst + 3*rate
	begin := time.Now()
	kubectl(t, "-n", ns, "exec", p.name, "--", "netutil", "tcp", "-bytes", fmt.Sprint(bytes), client.ip(t)+":7000")
	took := time.Since(begin)
	t.Logf("%d bytes each way took %.1f s, with a limit of %d bytes per second after %d", bytes, took.Seconds(), rate, burst)
	if took < 3*time.Second {
		t.Errorf("%d bytes took %v: there is no limit", bytes, took)
	}
	at.conversation(own, sent+bytes)
	tap, _ := listed(t, ns, p.name)
	for _, d := range tap.Directions {
		if d.Copied.Packets != d.Matched.Packets || len(d.Dropped) != 0 {
			t.Errorf("the counters are %+v", d)
		}
	}
	p.delete(t)
	leavesNothing(t, "n1", before)
}

// limits are the burst, in bytes, and the rate, in bytes per second, of the one pod with
// limits on a node; they are the same both ways.
func limits(t *testing.T, n string) (burst, rate int) {
	t.Helper()
	var found []string
	for _, line := range strings.Split(on(t, n, "sh", "-c", "for d in $(ls /sys/class/net); do tc -j qdisc show dev $d; echo; done"), "\n") {
		var list []struct {
			Kind    string
			Options struct{ Rate, Burst int }
		}
		if err := json.Unmarshal([]byte(line), &list); line != "" && err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		for _, q := range list {
			if q.Kind == "tbf" {
				found = append(found, line)
				burst, rate = q.Options.Burst, q.Options.Rate
			}
		}
	}
	if len(found) != 2 || rate != limit/8 || burst > 10e6 {
		t.Fatalf("the limits are %s", found)
	}
	return burst, rate
}
