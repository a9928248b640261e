//go:build e2e

package e2e

import (
	"fmt"
	"path"
	"strings"
	"testing"
)

// testOnePlugin gives a node a network that is no chain but one plugin's `.conf`, and
// takes podtap off then.
func testOnePlugin(t *testing.T) {
	const file = "05-one.conf"
	text := fmt.Sprintf("{\n\t\"cniVersion\": \"1.0.0\", \"name\": \"e2e-one\",\n\t\"type\": \"ptp\", \"mtu\": 1450, %s\n}\n", addresses(half4("n1")))
	t.Cleanup(func() {
		write(t, "n1", ownFile["n1"], pristine["n1"])
		on(t, "n1", "rm", "-f", path.Join(folder, file), path.Join(folder, "05-one.conflist"))
	})
	empty(t, "n1")
	write(t, "n1", file, text)
	on(t, "n1", "rm", path.Join(folder, ownFile["n1"]))
	t.Run("tapped", func(t *testing.T) {
		chained(t, "n1", "e2e-one", []string{"ptp", "podtap"})
		if got := on(t, "n1", "ls", folder); got != "05-one.conflist" {
			t.Errorf("the network configurations are %s", got)
		}
		ns := space(t)
		to := server(t, ns, "n2").ip(t)
		before := remains(t, "n1")
		at := collect(t, apart, 190)
		p := pod{namespace: ns, name: "one", node: "n1", annotation: vxlan(190, apartAddress), init: udpTo(to, echoes), command: tcpTo(to, sent)}
		apply(t, p.manifest())
		p.ends(t, "Succeeded")
		at.counts("each datagram", addr(t, p), echoes, echoes)
		at.conversation(addr(t, p), sent)
		p.delete(t)
		leavesNothing(t, "n1", before)
	})
	uninstalled(t)
	for n, want := range map[string]map[string]string{"n1": {file: text}, "n2": {ownFile["n2"]: pristine["n2"]}} {
		if got := strings.Fields(on(t, n, "ls", folder)); len(got) != len(want) {
			t.Errorf("on %s there are the network configurations %q", n, got)
		}
		for name, text := range want {
			if got, err := try("", "sh", n, "cat", path.Join(folder, name)); err != nil || got != text {
				t.Errorf("on %s %s is\n%s\nwant\n%s\n%v", n, name, got, text, err)
			}
		}
	}
}
