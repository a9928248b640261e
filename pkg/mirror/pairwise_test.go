package mirror

import (
	"fmt"
	"strings"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/tap"
)

// fields are what a tap may say of its copies, besides where they go. The sinks come last
// but one.
var fields = [][]string{
	{"", `filter: "udp port 5000"`},
	{"", "sampleRate: 3"},
	{"", "snapLength: 96"},
	{"", "maxBitrate: 10G"},
	{"", "oversize: fit", "oversize: fragment"},
	{variants[0].text, variants[1].text, variants[2].text, variants[3].text},
	{"direction: both", "direction: ingress", "direction: egress"},
}

const (
	snapField = 2 + iota
	capField
	oversizeField
	sinkField
)

// writable says whether a tap may have these values together.
func writable(values []int) bool {
	oversize, sink := fields[oversizeField][values[oversizeField]], fields[sinkField][values[sinkField]]
	switch {
	case strings.HasPrefix(sink, "veth"):
		return oversize == ""
	case strings.Contains(sink, "placement: pod"):
		return oversize != "oversize: fit" && values[snapField] == 0
	}
	return true
}

// pairwise are taps among which each two values of two fields that may be together are, by
// their indices: of all that are left the next is always the one with most new pairs.
func pairwise() [][]int {
	var all [][]int
	for n := 0; ; n++ {
		rest, values := n, make([]int, len(fields))
		for i, f := range fields {
			values[i], rest = rest%len(f), rest/len(f)
		}
		if rest > 0 {
			break
		}
		if writable(values) {
			all = append(all, values)
		}
	}
	type pair struct{ field, value, other, otherValue int }
	covered := map[pair]bool{}
	fresh := func(values []int) (out []pair) {
		for i := range values {
			for j := range i {
				if p := (pair{i, values[i], j, values[j]}); !covered[p] {
					out = append(out, p)
				}
			}
		}
		return out
	}
	var chosen [][]int
	for {
		var best []int
		var most []pair
		for _, values := range all {
			if pairs := fresh(values); len(pairs) > len(most) {
				best, most = values, pairs
			}
		}
		if best == nil {
			return chosen
		}
		for _, p := range most {
			covered[p] = true
		}
		chosen = append(chosen, best)
	}
}

// Each field goes with each other: every packet is accounted for, every copy arrives, as
// long as it was asked for, and nothing is left in the end.
func TestEachFieldGoesWithEachOther(t *testing.T) {
	s := newScene(t, 1450, 1500)
	for _, at := range []*lab.Pod{s.pod, s.peer} { // no super-packets, so that copies can be counted
		if err := at.Netlink.LinkSetGSOMaxSegs(at.Link("eth0"), 1); err != nil {
			t.Fatal(err)
		}
	}
	node, p := open(t, s.node, s.pod)
	taps := pairwise()
	if len(taps) < 12 || len(taps) > 30 {
		t.Errorf("there are %d taps", len(taps))
	}
	for i, values := range taps {
		var given []string
		for field, value := range values {
			if text := fields[field][value]; text != "" && field != oversizeField {
				given = append(given, text)
			}
		}
		text := strings.Join(given, ", ")
		if oversize := fields[oversizeField][values[oversizeField]]; oversize != "" {
			text = strings.Replace(text, "vxlan: {", "vxlan: {"+oversize+", ", 1)
		}
		t.Run(fmt.Sprintf("%d", i), func(t *testing.T) {
			t.Log(text)
			if values[snapField] != 0 || values[oversizeField] == 1 {
				needsEBPF(t)
			}
			s.keepsAccount(t, node, p, s.want(t, text, "device: mirror"))
		})
	}
}

// keepsAccount adds a tap, sends packets of each kind, and accounts for each of them.
func (s *scene) keepsAccount(t *testing.T, node *Node, p *Pod, want tap.Tap) {
	t.Helper()
	left := track(t, s.node.Space, s.pod.Space)
	capture := s.watch(add(t, p, ownerOf("c1"), want), want)
	defer capture.Stop()
	healthy(t, p, ownerOf("c1"), want)
	before := s.settled(t, node, capture)
	const count = 100
	s.eachKind(t, count, want, capture)
	now := s.settled(t, node, capture)
	total := counts{}
	for d, interfaces := range now.interfaces {
		if !want.Includes(d) {
			continue
		}
		c := direction(t, before.Counters, d).until(direction(t, now.Counters, d))
		if interfaces -= before.interfaces[d]; c.passedOver+c.sampledOut+c.copied+c.dropped != interfaces || interfaces < 2*count {
			t.Errorf("%s: %+v; the interface counted %d", d, c, interfaces)
		}
		if (c.passedOver > 0) != (want.Filter != "") || (c.sampledOut > 0) != want.Samples() || c.copied < count/8 || c.dropped > 0 {
			t.Errorf("%s: %+v", d, c)
		}
		total.copied += c.copied
		total.dropped += c.dropped
	}
	if len(now.Counters) != len(hooksOf(want)) || now.MaxBitrate != want.MaxBitrate || now.SnapLength != int(want.SnapLength) {
		t.Errorf("listed is %+v", now)
	}
	expected := int(total.copied - (now.Capped - before.Capped))
	if now.Trimmed != nil {
		expected += int(now.Trimmed.Segments - before.Trimmed.Segments)
	}
	copies := capture.Frames()[before.copies:now.copies]
	if len(copies) != expected {
		t.Errorf("there are %d copies; want %d", len(copies), expected)
	}
	for _, f := range copies {
		s.asLongAsAsked(t, want, f)
	}
	remove(t, p, ownerOf("c1"))
	left.unchanged("after Remove")
}

// eachKind has the pod and its peer exchange datagrams that a filter takes and some that it
// does not, and TCP: in packets of full size, but where those cannot arrive.
func (s *scene) eachKind(t *testing.T, count int, want tap.Tap, capture *lab.Capture) {
	t.Helper()
	caughtUp := func() {
		if !lab.Privileged() { // then a capture holds little
			capture.Settle(0)
		}
	}
	for _, port := range []int{5000, 6000} {
		inPod, atPeer := s.pod.UDP(fmt.Sprintf("[::]:%d", port)), s.peer.UDP(fmt.Sprintf("[::]:%d", port))
		defer inPod.Close()
		defer atPeer.Close()
		_, there := lab.Flow(t, inPod, atPeer, fmt.Sprintf("[%s]:%d", mapped(s.peer.IPv4), port), count, 300, never)
		caughtUp()
		_, back := lab.Flow(t, atPeer, inPod, fmt.Sprintf("[%s]:%d", mapped(s.pod.IPv4), port), count, 300, never)
		caughtUp()
		if there != count || back != count {
			t.Errorf("of %d datagrams %d and %d arrived", count, there, back)
		}
	}
	size := 20_000
	if v := want.VXLAN; v != nil && v.Remote.Is6() && want.SnapLength == 0 && !(fits(v) && lab.Privileged()) {
		size = 1000 // over IPv6 the copies of larger packets are lost
	}
	if n := lab.Stream(t, s.pod.Space, s.peer.Space, s.peer.IPv4, size); n != size {
		t.Errorf("%d of %d bytes came back", n, size)
	}
}

// asLongAsAsked fails where a copy is longer than the tap lets it be, or shorter.
func (s *scene) asLongAsAsked(t *testing.T, want tap.Tap, f lab.Frame) {
	t.Helper()
	ip, ok := decode(f).NetworkLayer().(*layers.IPv4)
	if !ok {
		return
	}
	whole := ethernetHeader + int(ip.Length)
	switch v := want.VXLAN; {
	case want.SnapLength > 0:
		whole = min(whole, int(want.SnapLength))
	case v != nil && v.Placement == tap.PlacementNode && v.Oversize != tap.Fragment:
		if most := 1500 - overhead(v) + ethernetHeader; whole > most {
			t.Errorf("a copy has %d bytes; %d fit", whole, most)
		}
	}
	if len(f.Data) != whole {
		t.Errorf("a copy has %d bytes; want %d", len(f.Data), whole)
	}
}
