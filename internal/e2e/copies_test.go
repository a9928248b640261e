//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// echoes are the datagrams of a pod in these tests, each answered; sent is what it
// sends over TCP, and gets back, in bytes.
const (
	echoes = 100
	sent   = 200000
)

func addr(t *testing.T, p pod) netip.Addr {
	t.Helper()
	a, err := netip.ParseAddr(p.ip(t))
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func udpTo(address string, n int) []string {
	return []string{"netutil", "udp", "-n", fmt.Sprint(n), "-echo", "5s", net.JoinHostPort(address, "7000")}
}

func tcpTo(address string, n int) []string {
	return []string{"netutil", "tcp", "-bytes", fmt.Sprint(n), net.JoinHostPort(address, "7000")}
}

// testCopies starts pods whose very first act is to talk: datagrams from an init
// container, then a connection, and counts on the other node what was said.
func testCopies(t *testing.T) {
	ns := space(t)
	near, far := server(t, ns, "n1"), server(t, ns, "n2")
	for n, c := range []struct{ what, remote, server string }{
		{"a server on the same node", "198.18.0.12", near.ip(t)},
		{"a server on the collector's node", "198.18.0.12", far.ip(t)},
		{"over IPv6", "198.18.0.12", ipv6(t, far)},
		{"to a collector with an IPv6 address", "fd00:198:18::12", near.ip(t)},
	} {
		t.Run(c.what, func(t *testing.T) {
			vni := 110 + n
			var more []string
			if strings.Contains(c.remote, ":") {
				more = []string{"local", "::"}
			}
			at := collect(t, "n2", vni, more...)
			p := pod{namespace: ns, name: fmt.Sprintf("client-%d", n), node: "n1", annotation: fmt.Sprintf(`{vxlan: {vni: %d, remote: "%s"}}`, vni, c.remote),
				init: udpTo(c.server, echoes), command: tcpTo(c.server, sent)}
			apply(t, p.manifest())
			p.ends(t, "Succeeded")
			own := addr(t, p)
			if strings.Contains(c.server, ":") {
				own = netip.MustParseAddr(ipv6(t, p))
			}
			at.counts("each datagram", own, echoes, echoes)
			eventually(t, patience, "the whole connection arrives", func() error {
				out := at.sum("tcp", func(f flow) bool { return f.from.Addr() == own })
				in := at.sum("tcp", func(f flow) bool { return f.to.Addr() == own })
				for _, s := range []seen{out, in} {
					if s.payload != sent || s.packets == 0 || !s.syn || !s.fin {
						return fmt.Errorf("there are %d of %d bytes; its SYN: %v; its FIN: %v", s.payload, sent, s.syn, s.fin)
					}
				}
				return nil
			})
		})
	}
}

// testFilters has a pod say things that its tap's filter takes, and others.
func testFilters(t *testing.T) {
	ns := space(t)
	to := server(t, ns, "n2").ip(t)
	at := collect(t, "n2", 115)
	p := pod{namespace: ns, name: "filtered", node: "n1", annotation: fmt.Sprintf(`{filter: udp port 7000 and host %s, vxlan: {vni: 115, remote: 198.18.0.12}}`, to),
		init: udpTo(to, echoes), command: []string{"sh", "-c", strings.Join(tcpTo(to, sent), " ") + " && sleep 600"}}
	p.start(t)
	at.counts("each datagram", addr(t, p), echoes, echoes)
	eventually(t, patience, "the connection is passed over", func() error {
		is, _ := listed(t, ns, p.name)
		for _, d := range is.Directions {
			if d.Matched.Packets != echoes || d.PassedOver == nil || d.PassedOver.Packets < 10 {
				return fmt.Errorf("%s: %+v", d.Direction, d)
			}
		}
		return nil
	})
	if tcp := at.sum("tcp", func(flow) bool { return true }); tcp.packets != 0 {
		t.Errorf("%d packets of TCP were copied", tcp.packets)
	}
}

// testTrimmed has a tap take less in each way that there is.
func testTrimmed(t *testing.T) {
	ns := space(t)
	to := server(t, ns, "n2").ip(t)
	at := collect(t, "n2", 116)
	const size = 500
	p := pod{namespace: ns, name: "trimmed", node: "n1", annotation: `{filter: udp, sampleRate: 2, snapLength: 96, maxBitrate: 1G, vxlan: {vni: 116, remote: 198.18.0.12}}`,
		init: udpOf(to, echoes, size), command: []string{"sleep", "600"}}
	p.start(t)
	copied := 0
	eventually(t, patience, "each packet is counted", func() error {
		is, _ := listed(t, ns, p.name)
		copied = 0
		for _, d := range is.Directions {
			if d.SampledOut == nil || d.Matched.Packets+d.SampledOut.Packets != echoes || d.Matched.Packets < 20 || len(d.Dropped) != 0 {
				return fmt.Errorf("%s: %+v", d.Direction, d)
			}
			copied += int(d.Copied.Packets)
		}
		if is.Cut == nil || int(is.Cut.Packets) != copied || is.SnapLength != 96 || is.MaxBitrate != 1e9 || is.Capped == nil || is.Capped.Packets != 0 {
			return fmt.Errorf("of %d copies: %+v", copied, is)
		}
		return nil
	})
	eventually(t, patience, "each copy arrives", func() error {
		if got := at.sum("udp", func(flow) bool { return true }); got.packets != copied || got.payload != copied*(96-14-20-8) {
			return fmt.Errorf("%d copies with %d bytes, of %d", got.packets, got.payload, copied)
		}
		return nil
	})
}

// ipv6 is a pod's address of that family.
func ipv6(t *testing.T, p pod) string {
	t.Helper()
	for _, a := range strings.Fields(p.get(t, ".status.podIPs[*].ip")) {
		if strings.Contains(a, ":") {
			return a
		}
	}
	t.Fatalf("the pod %s has no IPv6 address", p.name)
	return ""
}

func testKinds(t *testing.T) {
	ns := space(t)
	to := server(t, ns, "n2").ip(t)
	const annotation = `{vxlan: {vni: %d, remote: 198.18.0.100}}`
	template := func(vni int, p pod) string {
		p.annotation = fmt.Sprintf(annotation, vni)
		return "  template:\n    metadata:\n      labels: {app: tapped}\n" + p.annotations("      ") + "    spec:\n" + p.spec("      ")
	}
	all := func(flow) bool { return true }
	t.Run("a Deployment", func(t *testing.T) {
		at := collect(t, apart, 120)
		p := pod{restart: "always", init: udpTo(to, 20), command: []string{"netutil", "serve", ":7000"}}
		apply(t, "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: many, namespace: "+ns+"}\nspec:\n  replicas: 3\n  selector: {matchLabels: {app: tapped}}\n"+template(120, p))
		kubectl(t, "-n", ns, "rollout", "status", "deployment/many", "--timeout=120s")
		arrives(t, at, 3*20*2, all)
		kubectl(t, "-n", ns, "delete", "deployment", "many", "--timeout=60s")
	})
	t.Run("a Job", func(t *testing.T) {
		at := collect(t, apart, 121)
		apply(t, "apiVersion: batch/v1\nkind: Job\nmetadata: {name: work, namespace: "+ns+"}\nspec:\n  completions: 4\n  parallelism: 2\n  backoffLimit: 0\n"+template(121, pod{command: udpTo(to, 25)}))
		kubectl(t, "-n", ns, "wait", "--for=condition=complete", "job/work", "--timeout=120s")
		arrives(t, at, 4*25*2, all)
	})
	t.Run("a pod that crashes again and again", func(t *testing.T) {
		at := collect(t, apart, 122)
		p := pod{namespace: ns, name: "crashes", annotation: fmt.Sprintf(annotation, 122), restart: "always",
			command: []string{"sh", "-c", strings.Join(udpTo(to, 30), " ") + "; exit 1"}}
		apply(t, p.manifest())
		restarts := 0
		eventually(t, patience, "it has been started twice, and waits", func() error {
			out, err := try("", "kubectl", "-n", ns, "get", "pod", p.name, "-o", "jsonpath={.status.containerStatuses[0].restartCount} {.status.containerStatuses[0].state.waiting.reason}")
			if err == nil {
				if n, _ := fmt.Sscanf(out, "%d CrashLoopBackOff", &restarts); n != 1 || restarts < 1 {
					err = fmt.Errorf("restarts and reason: %s", out)
				}
			}
			return err
		})
		p.delete(t) // before the next start, which is 10 s away
		arrives(t, at, (restarts+1)*30*2, all)
	})
}

// arrives insists on the number of datagrams that a collector gets.
func arrives(t *testing.T, at *collector, want int, is func(flow) bool) {
	t.Helper()
	eventually(t, patience, "all copies arrive", func() error {
		if got := at.sum("udp", is).packets; got < want {
			return fmt.Errorf("%d of %d", got, want)
		}
		return nil
	})
	time.Sleep(settled)
	if got := at.sum("udp", is).packets; got != want {
		t.Errorf("%d copies, want %d", got, want)
	}
}
