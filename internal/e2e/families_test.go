//go:build e2e

package e2e

import (
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
)

// apartIPv6 is the address of that family which apart gets for a test.
const apartIPv6 = "fd00:198:18::100"

// dual gives apart an address of the other family.
func dual(t *testing.T) {
	t.Helper()
	address := func(verb string) error {
		out, err := exec.Command("ip", "-n", networkOf(apart), "addr", verb, apartIPv6+"/64", "dev", "eth0", "nodad").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w %s", err, out)
		}
		return nil
	}
	if err := address("add"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := address("del"); err != nil {
			t.Error(err)
		}
	})
}

// collectFrom starts a collector at an address of apart.
func collectFrom(t *testing.T, vni int, remote string) *collector {
	t.Helper()
	if strings.Contains(remote, ":") {
		return collect(t, apart, vni, "local", "::")
	}
	return collect(t, apart, vni)
}

// all joins commands: each has to succeed.
func all(commands ...[]string) []string {
	var lines []string
	for _, c := range commands {
		lines = append(lines, strings.Join(c, " "))
	}
	return []string{"sh", "-c", strings.Join(lines, " && ")}
}

func testFamilies(t *testing.T) {
	dual(t)
	comesBack(t, "n1")
	ns := space(t)
	far := server(t, ns, "n2")
	servers := []string{far.ip(t), ipv6(t, far)}
	if !strings.Contains(servers[1], ":") || strings.Contains(servers[0], ":") {
		t.Fatalf("the server has the addresses %q", servers)
	}
	vni := 165
	for _, c := range []struct {
		name    string
		subnets []netip.Prefix
	}{
		{"ipv4", []netip.Prefix{half4("n1")}},
		{"ipv6", []netip.Prefix{half6("n1")}},
		{"both", []netip.Prefix{half4("n1"), half6("n1")}},
	} {
		t.Run(c.name, func(t *testing.T) {
			// With this MTU all copies fit, over IPv6 too.
			instead(t, "n1", network{"e2e-" + c.name, []string{bridge(t, "n1", "e2e-"+c.name, 1430, c.subnets...)}})
			var datagrams, connections [][]string
			for _, s := range c.subnets {
				to := servers[0]
				if s.Addr().Is6() {
					to = servers[1]
				}
				datagrams, connections = append(datagrams, udpTo(to, echoes)), append(connections, tcpTo(to, sent))
			}
			for _, remote := range []string{apartAddress, apartIPv6} {
				vni++
				at := collectFrom(t, vni, remote)
				p := pod{namespace: ns, name: fmt.Sprintf("%s-%d", c.name, vni), node: "n1", annotation: vxlan(vni, remote), init: all(datagrams...), command: all(connections...)}
				apply(t, p.manifest())
				p.ends(t, "Succeeded")
				own := strings.Fields(p.get(t, ".status.podIPs[*].ip"))
				if len(own) != len(c.subnets) {
					t.Fatalf("the pod's addresses are %q", own)
				}
				for i, a := range own {
					address := netip.MustParseAddr(a)
					if !c.subnets[i].Contains(address) {
						t.Errorf("the pod's address %s is not one of %s", a, c.subnets[i])
					}
					at.counts(fmt.Sprintf("each datagram of %s to %s", a, remote), address, echoes, echoes)
					at.conversation(address, sent)
				}
				p.delete(t)
			}
		})
	}
}
