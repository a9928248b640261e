//go:build e2e

package e2e

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/podtap/podtap/api/node"
)

const (
	// crowd is how many pods are started at once.
	crowd = 100
	// atRest is for how long podtapd is watched while nothing happens: it sweeps, and looks at
	// the node's pods, once a minute.
	atRest = 70 * time.Second
	// mostCPU is what it may take then, of one core.
	mostCPU = 0.01
	// mostMemory is what podtapd may have resident, in bytes.
	mostMemory = 64 << 20
)

// rounds is how often the two are measured side by side; `make bench-scale` takes more.
var rounds, _ = strconv.Atoi(cmp.Or(os.Getenv("ROUNDS"), "1"))

// TestPodtapAtScale starts a hundred pods at once, with podtap and without it in turn,
// and reports how much longer they take to be Ready.
func TestPodtapAtScale(t *testing.T) {
	var with, without []float64
	story := []part{{"pods without podtap, to warm up", func(t *testing.T) { wave(t, 0) }}}
	bare := []part{{"a hundred pods at once without podtap", func(t *testing.T) { without = append(without, wave(t, 0)) }}}
	tapped := []part{
		{"podtap is on both nodes", installed},
		{"a hundred tapped pods at once", func(t *testing.T) { with = append(with, wave(t, 170)) }},
		{"podtap goes, and leaves nothing", uninstalled},
	}
	for i := range max(1, rounds) {
		if i%2 == 0 {
			story = slices.Concat(story, bare, tapped)
		} else {
			story = slices.Concat(story, tapped, bare)
		}
	}
	tell(t, "scale", story)
	if len(with) == 0 || len(with) != len(without) {
		return
	}
	var ratios []float64
	for i := range with {
		ratios = append(ratios, with[i]/without[i])
	}
	fmt.Fprintf(os.Stderr, "%d pods to Ready, in s: with podtap %.1f, without %.1f; ratios %.2f, median %.2f\n", crowd, with, without, ratios, median(ratios))
}

func median(of []float64) float64 {
	s := slices.Sorted(slices.Values(of))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// wave starts the crowd, deletes it, and returns how many seconds it took to be Ready.
// With a VNI each pod is tapped, to one collector.
func wave(t *testing.T, vni int) float64 {
	t.Helper()
	namespace := space(t)
	before := warm(t, namespace)
	c := crew{namespace: namespace, size: crowd, vni: vni, server: server(t, namespace, "n2")}
	var at *collector
	if vni != 0 {
		at = collect(t, apart, vni)
	}
	begin := time.Now()
	c.deployment(t)
	took := time.Since(begin).Seconds()
	if vni != 0 {
		defer whereCopiesWent(t)
		c.copied(t, at)
		eachHasItsTap(t, c)
		atEase(t)
	}
	begin = time.Now()
	c.gone(t, before)
	t.Logf("%d pods: Ready after %.1f s, gone after %.1f s", crowd, took, time.Since(begin).Seconds())
	return took
}

// whereCopiesWent says of a test that has failed where the nodes believe that copies have gone:
// what they have sent and the collector has not was lost between the two.
func whereCopiesWent(t *testing.T) {
	if !t.Failed() {
		return
	}
	for _, n := range nodes {
		var sum struct{ matched, copied, dropped uint64 }
		var all node.Taps
		answer, err := get(t, n, node.PathTaps)
		if err == nil {
			_, body, _ := strings.Cut(answer, "\r\n\r\n")
			err = json.Unmarshal([]byte(body), &all)
		}
		for _, tap := range all.Taps {
			for _, d := range tap.Directions {
				sum.matched, sum.copied = sum.matched+d.Matched.Packets, sum.copied+d.Copied.Packets
				for _, lost := range d.Dropped {
					sum.dropped += lost.Packets
				}
			}
		}
		t.Logf("%s: the taps have %+v; the senders %+v; %v", n, sum, all.Senders, err)
	}
}

// eachHasItsTap counts the taps of both nodes: one for each pod, and a relay for all
// those of a node.
func eachHasItsTap(t *testing.T, c crew) {
	t.Helper()
	taps := 0
	for _, n := range nodes {
		var here, relays int
		if _, err := fmt.Sscan(on(t, n, "sh", "-c", "ip -o -d link | grep -c 'alias podtap/1 cni'; ip -o -d link | grep -c 'alias podtap/1 relay'"), &here, &relays); err != nil || relays != 1 {
			t.Errorf("on %s are %d relays, want one for all: %v", n, relays, err)
		}
		taps += here
	}
	if taps != c.size {
		t.Errorf("there are %d taps of %d pods", taps, c.size)
	}
}

// atEase measures what podtapd takes while the crowd is there and does nothing.
func atEase(t *testing.T) {
	t.Helper()
	ticks := func(node string) int {
		t.Helper()
		// The fields after the name, which may have spaces: 12 and 13 are utime and stime.
		f := strings.Fields(on(t, node, "sh", "-c", `sed 's/.*) //' /proc/$(pgrep -x podtapd)/stat`))
		user, _ := strconv.Atoi(f[11])
		system, _ := strconv.Atoi(f[12])
		return user + system
	}
	time.Sleep(5 * time.Second)
	before := map[string]int{}
	for _, n := range nodes {
		before[n] = ticks(n)
	}
	time.Sleep(atRest)
	for _, n := range nodes {
		used := float64(ticks(n)-before[n]) / 100 // a tick is 10 ms on every Linux
		var resident int
		if _, err := fmt.Sscan(on(t, n, "sh", "-c", `awk '/^VmRSS/ {print $2}' /proc/$(pgrep -x podtapd)/status`), &resident); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(os.Stderr, "podtapd on %s, with %d pods on both nodes: %.1f MB resident, %.2f %% of a core in %v\n",
			n, crowd, float64(resident)*1024/1e6, 100*used/atRest.Seconds(), atRest)
		if used > mostCPU*atRest.Seconds() {
			t.Errorf("on %s podtapd has taken %.2f s of a core in %v of rest", n, used, atRest)
		}
		if resident*1024 > mostMemory {
			t.Errorf("on %s podtapd has %d KiB resident, more than %d bytes", n, resident, mostMemory)
		}
	}
}
