package mirror

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/tap"
)

// needsTC skips a test whose other party is iproute2 itself.
func needsTC(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("tc"); err != nil {
		t.Skip("iproute2 is not installed; its tc and ip are the other party of this test")
	}
}

// tcDump is what tc itself shows of a pod's eth0.
func tcDump(s *lab.Pod) string {
	return s.Run("tc", "qdisc", "show", "dev", "eth0") +
		s.Run("tc", "filter", "show", "dev", "eth0", "ingress") + s.Run("tc", "filter", "show", "dev", "eth0", "egress")
}

// theirs puts somebody else's mirrors on the pod's eth0: a device of their own,
// and filters that copy to it. A ~ is a space within a word.
func theirs(t *testing.T, s *lab.Pod, qdisc string, filters ...string) *lab.Capture {
	t.Helper()
	lab.Cable(s.Space, "theirs0", s.Space, "theirs1", 9000)
	// The kernel may be a second late to notice that the cable is whole, and gives the
	// devices their addresses after that.
	for deadline := time.Now().Add(5 * time.Second); s.Link("theirs0").Attrs().OperState != netlink.OperUp || s.Link("theirs1").Attrs().OperState != netlink.OperUp; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the cable is not up")
		}
	}
	lab.Settle(t, s.Space)
	s.Run("tc", "qdisc", "add", "dev", "eth0", qdisc)
	for _, f := range filters {
		var args []string
		for _, word := range strings.Fields("filter add dev eth0 " + f) {
			args = append(args, strings.ReplaceAll(word, "~", " "))
		}
		s.Run("tc", args...)
	}
	return s.Capture("theirs1")
}

const theirMirror = " action mirred egress mirror dev theirs0"

func TestSomebodyElsesClsactAndFiltersStayAndWorkOn(t *testing.T) {
	needsTC(t)
	s := newScene(t, 1450, 1500)
	// One before ours, one after, of another kind each; u32 shares tables
	// between the directions where priorities are equal.
	capture := theirs(t, s.pod, "clsact",
		"ingress prio 1 protocol all u32 match u32 0 0"+theirMirror+" continue",
		"egress prio 1 protocol all u32 match u32 0 0"+theirMirror+" continue",
		"ingress prio 40000 protocol all bpf bytecode 1,6~0~0~4294967295"+theirMirror+" pipe")
	s.pod.Ping(s.peer.IPv4, 1)
	capture.Settle(3)
	before, text := track(t, s.pod.Space, s.node.Space), tcDump(s.pod)
	already := echoes(capture.Frames())
	_, p := open(t, s.node, s.pod)
	for _, v := range variants {
		want := s.want(t, v.text, "direction: both")
		ours := s.watch(add(t, p, ownerOf("c1"), want), want)
		seen := echoes(capture.Frames())
		s.pod.Ping(s.peer.IPv4, 3)
		expectPings(t, v.name, ours, 3)
		ours.Stop()
		got := echoes(capture.Settle(len(capture.Frames())))
		// Requests leave once; replies come in past two of their filters.
		if got.requests-seen.requests != 3 || got.replies-seen.replies != 6 {
			t.Errorf("%s: theirs copied %d requests and %d replies more; want 3 and 6", v.name, got.requests-seen.requests, got.replies-seen.replies)
		}
		remove(t, p, ownerOf("c1"))
	}
	if already.requests != 1 || already.replies != 2 {
		t.Fatalf("their mirror did not work to begin with: %+v", already)
	}
	before.unchanged("after Remove")
	if now := tcDump(s.pod); now != text {
		t.Errorf("tc shows\n%s\nand before\n%s", now, text)
	}
}

func TestAnIngressQdiscTakesIngressTapsOnly(t *testing.T) {
	needsTC(t)
	s := newScene(t, 1450, 1500)
	capture := theirs(t, s.pod, "ingress", "parent ffff: prio 1 protocol all u32 match u32 0 0"+theirMirror+" continue")
	before, text := track(t, s.pod.Space, s.node.Space), tcDump(s.pod)
	_, p := open(t, s.node, s.pod)
	for _, direction := range []tap.Direction{tap.Egress, tap.Both} {
		_, err := p.Add(ownerOf("c1"), s.want(t, variants[0].text, "direction: "+string(direction)), "")
		if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "eth0 has an ingress qdisc") {
			t.Errorf("direction %s: %v", direction, err)
		}
		before.unchanged("after the refusal")
	}
	want := s.want(t, variants[0].text, "direction: ingress")
	ours := s.watch(add(t, p, ownerOf("c1"), want), want)
	healthy(t, p, ownerOf("c1"), want)
	s.pod.Ping(s.peer.IPv4, 3)
	if got := echoes(ours.Settle(3)); got.replies != 3 || got.requests != 0 {
		t.Errorf("ours: %+v", got)
	}
	if got := echoes(capture.Settle(3)); got.replies != 3 {
		t.Errorf("theirs: %+v", got)
	}
	remove(t, p, ownerOf("c1"))
	before.unchanged("after Remove")
	if now := tcDump(s.pod); now != text {
		t.Errorf("tc shows\n%s\nand before\n%s", now, text)
	}
}

func TestAClsactThatSomebodyUsesMeanwhileStays(t *testing.T) {
	needsTC(t)
	s := newScene(t, 1450, 1500)
	_, p := open(t, s.node, s.pod)
	add(t, p, ownerOf("c1"), s.want(t, variants[0].text, "direction: both"))
	s.pod.Run("tc", strings.Fields("filter add dev eth0 egress prio 9 protocol ip u32 match u32 0 0 action mirred egress mirror dev lo")...)
	remove(t, p, ownerOf("c1"))
	if dump := tcDump(s.pod); !strings.Contains(dump, "clsact") || !strings.Contains(dump, "pref 9 ") || strings.Contains(dump, "cookie") {
		t.Errorf("tc shows\n%s", dump)
	}
}

func TestADeviceWithAnotherOwnersAliasIsNotTouched(t *testing.T) {
	s := newScene(t, 1450, 1500)
	node, p := open(t, s.node, s.pod)
	lab.Cable(s.node.Space, "foreign", s.pod.Space, "mirror", 1500)
	for _, alias := range []string{"", "podtap", "podtap/1", "podtap/1 cni net c1 eth0", "podtap/1 snmp net c1 eth0 mirror", "podtap/1 tap net c1 eth0 mirror", "podtap/2 cni net c1 eth0 mirror",
		"podtap/1 cni net c2 eth0 mirror", "podtap/1 relay 198.18.0.3 100 4789"} {
		if err := s.node.Netlink.LinkSetAlias(s.node.Link("foreign"), alias); err != nil {
			t.Fatal(err)
		}
		if err := s.pod.Netlink.LinkSetAlias(s.pod.Link("mirror"), alias); err != nil {
			t.Fatal(err)
		}
		before := track(t, s.node.Space, s.pod.Space)
		_, err := p.Add(ownerOf("c1"), s.want(t, variants[0].text, "device: mirror"), "")
		if !errors.Is(err, ErrConflict) {
			t.Errorf("alias %q: Add says %v", alias, err)
		}
		remove(t, p, ownerOf("c1"))
		if err := node.Remove(ownerOf("c1")); err != nil {
			t.Error(err)
		}
		before.unchanged("with the alias " + alias)
	}
}
