//go:build e2e

package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// nodes are those of the cluster.
var nodes = []string{"n1", "n2"}

// inventory prints what a node has for its pods: of each network namespace its devices,
// qdiscs, filters, actions, UDP sockets, a VXLAN device's among them, raw ones and packet
// sockets; the namespaces; CNI's results and leases; podtap's locks and running plugins. Numbers and addresses that the
// kernel draws anew at each boot are left out, and whether there is a carrier, which a
// bridge without ports loses some time later. A namespace that has only lo is not CNI's
// yet: containerd leaves some, or a file that is to become one, where it is killed just
// before it calls CNI.
const inventory = `
for n in . $(cd /run/netns && stat -f -c '%T %n' * 2>/dev/null | sed -n 's/^nsfs //p'); do
	run=
	if [ $n != . ]; then
		run="ip netns exec $n"
		[ "$($run ls /sys/class/net)" != lo ] || continue
		echo "namespace: $n"
	fi
	$run ip -o -d link | sed -E "s/^[0-9]+: //; s/@if[0-9]+//; s/ link-netnsid [0-9]+//; s/ (brd )?([0-9a-f]{2}:){5}[0-9a-f]{2}//g; s/ (designated_root|bridge_id) [^ ]+//g; s/ [a-z_]*timer +[0-9.]+//g; s/NO-CARRIER,|,LOWER_UP| state [A-Z]+//g; s|^|$n device: |"
	$run tc qdisc show | sed "s|^|$n qdisc: |"
	for d in $($run ls /sys/class/net); do
		for way in ingress egress; do $run tc filter show dev $d $way 2>/dev/null | sed "s|^|$n filter of $d $way: |"; done
	done
	for kind in mirred police; do $run tc actions ls action $kind 2>/dev/null | sed -nE "s/^\s*action order [0-9]+: +($kind [^)]*\)?).*/\1/p" | sed "s|^|$n action: |"; done
	$run ss -Hna -u -w -0 | awk -v n=$n '{print n " socket: " $1 " " $5 " " $6}'
done
find /var/lib/cni -type f ! -name lock ! -path '*/.full/*' ! -name 'last_reserved_ip*' | sed 's/^/CNI: /'
ls /run/podtap/lock 2>/dev/null | sed 's/^/lock: /'
pgrep -x podtap -a | sed 's/^/plugin: /'
true`

// holdings is what each node has now.
func holdings(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, node := range nodes {
		all[node] = on(t, node, "sh", "-c", inventory)
	}
	return all
}

// asBefore insists that nodes come to have what they had, no more and no less.
func asBefore(t *testing.T, before map[string]string, of ...string) {
	t.Helper()
	for _, node := range of {
		eventually(t, patience, node+" has what it had before", func() error {
			now, err := try("", "sh", node, "sh", "-c", inventory)
			if err != nil {
				return err
			}
			return difference(before[node], now)
		})
	}
}

// difference is an error that names the lines that only one of two texts has.
func difference(before, now string) error {
	count := map[string]int{}
	for _, line := range strings.Split(before, "\n") {
		count[strings.TrimSpace(line)]--
	}
	for _, line := range strings.Split(now, "\n") {
		count[strings.TrimSpace(line)]++
	}
	var out []string
	for line, n := range count {
		switch {
		case n > 0 && line != "":
			out = append(out, fmt.Sprintf("new, %d times: %s", n, line))
		case n < 0 && line != "":
			out = append(out, fmt.Sprintf("missing, %d times: %s", -n, line))
		}
	}
	if len(out) == 0 {
		return nil
	}
	slices.Sort(out)
	return fmt.Errorf("%d lines differ:\n%s", len(out), strings.Join(out[:min(len(out), 20)], "\n"))
}
