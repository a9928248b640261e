package demo

import (
	"fmt"
	"strings"
	"testing"
)

// some makes packets of a kind and direction, each different.
func some(k kind, sent bool, count int) []packet {
	var out []packet
	for i := range count {
		out = append(out, packet{kind: k, sent: sent, data: fmt.Sprint(k, sent, i)})
	}
	return out
}

func TestOnlyExactAndIdenticalCopiesAreRight(t *testing.T) {
	rows := []row{{kind: kindUDP, judged: true, want: 3}, {kind: kindUDP, sent: true, judged: true, want: 2}}
	good := append(some(kindUDP, false, 3), some(kindUDP, true, 2)...)
	changed := append([]packet(nil), good...)
	changed[1].data = "another"
	for _, c := range []struct {
		name          string
		atPod, copies []packet
		wrong         string // of all rows
		identical     int
	}{
		{"all", good, good, "", 5},
		{"in another order", good, append(some(kindUDP, true, 2), some(kindUDP, false, 3)...), "", 5},
		{"with extras", good, append(some(kindNeighbours, true, 4), good...), "", 5},
		{"none", good, nil, "3 UDP packets received by the pod, but 0 copies; 2 UDP packets sent by the pod, but 0 copies", 0},
		{"one missing", good, good[:4], "2 UDP packets sent by the pod, but 1 copies", 4},
		{"one twice", good, append(good[:1:1], good...), "3 UDP packets received by the pod, but 4 copies", 5},
		{"one twice, another missing", good, append(good[:1:1], good[0], good[1], good[3], good[4]),
			"3 copies of UDP packets received by the pod, but only 2 identical to them", 4},
		{"one changed", good, changed, "3 copies of UDP packets received by the pod, but only 2 identical to them", 4},
		{"lost before the pod", good[1:], good[1:], "2 UDP packets received by the pod, not 3: the network between the pods failed, not the tap", 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := compare(rows, c.atPod, c.copies)
			var wrong []string
			for _, r := range got {
				if w := r.wrong(); w != "" {
					wrong = append(wrong, w)
				}
			}
			if s := strings.Join(wrong, "; "); s != c.wrong {
				t.Errorf("wrong: %q, want %q", s, c.wrong)
			}
			if want, identical := total(got); want != 5 || identical != c.identical {
				t.Errorf("%d of %d identical, want %d of 5", identical, want, c.identical)
			}
		})
	}
}

func TestAnInventorysDifferenceKnowsTheBridgePluginsBridge(t *testing.T) {
	before := []string{"device lo", "device eth0", "qdisc noqueue on lo"}
	after := []string{"device lo", "device cni0", "qdisc noqueue on cni0", "filter bpf on lo", "filter bpf on lo", "qdisc noqueue on lo"}
	want := "+ filter bpf on lo - device eth0"
	if got := strings.Join(difference(before, after), " "); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestWhatWasBuiltIsTakenDownInReverseEvenAfterAFailure(t *testing.T) {
	var order []string
	s := &session{}
	err := s.run(func() {
		s.Cleanup(func() { order = append(order, "first") })
		s.Cleanup(func() { s.Fatalf("cleanup %d", 2) })
		s.Cleanup(func() { order = append(order, "third") })
		s.Fatalf("no %s", "luck")
	})
	if err == nil || err.Error() != "no luck\ncleanup 2" {
		t.Errorf("error %v", err)
	}
	if strings.Join(order, " ") != "third first" {
		t.Errorf("cleaned up in the order %v", order)
	}
}
