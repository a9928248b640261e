package mirror

import (
	"testing"
	"time"

	"github.com/podtap/podtap/internal/lab"
)

// An idle pod's taps send nothing for ten seconds: no router solicitation, no
// multicast report, no address detection.
func TestATapOfAnIdlePodIsSilent(t *testing.T) {
	s := newScene(t, 1450, 1500)
	_, p := open(t, s.node, s.pod)
	// The pod's own interface has to be silent too; a tap's device is on its own.
	s.pod.Sysctl("ipv6", "eth0", "disable_ipv6", "1")
	for _, device := range []string{"eth0", "cni0", "pod1"} {
		s.node.Sysctl("ipv6", device, "disable_ipv6", "1")
	}
	s.collector.Sysctl("ipv6", "eth0", "disable_ipv6", "1")
	for i, v := range variants {
		want := s.want(t, v.text, "direction: both")
		want.Device = []string{"a", "b", "c", "d", "e"}[i]
		made := add(t, p, ownerOf("c1"), want)
		capture := s.pod.Capture(want.Device)
		t.Cleanup(func() { expectSilence(t, v.name+" in the pod", capture) })
		if made.Host != nil {
			host := s.node.Capture(made.Host.Name)
			t.Cleanup(func() { expectSilence(t, v.name+" on the node", host) })
		}
	}
	wire := s.node.Capture("eth0")
	t.Cleanup(func() { expectSilence(t, "the node's wire", wire) })
	time.Sleep(10 * time.Second)
}

func expectSilence(t *testing.T, where string, c *lab.Capture) {
	t.Helper()
	for _, f := range c.Frames() {
		if !f.Outgoing && where == "the node's wire" {
			continue // the neighbours are not idle
		}
		t.Errorf("%s: %s", where, decode(f))
	}
}
