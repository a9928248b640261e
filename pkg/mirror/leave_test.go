package mirror

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/tap"
)

// claim gives a device podtap's group and an alias, as anybody in its namespace can.
func claim(t *testing.T, at *lab.Space, device, alias string) {
	t.Helper()
	l := at.Link(device)
	if err := errors.Join(at.Netlink.LinkSetAlias(l, alias), at.Netlink.LinkSetGroup(l, deviceGroup)); err != nil {
		t.Fatal(err)
	}
}

// Somebody may have made clsact and be about to use it.
func TestSomebodyElsesEmptyClsactStays(t *testing.T) {
	s := newScene(t, 1450, 1500)
	_, p := open(t, s.node, s.pod)
	lab.Cable(s.pod.Space, "theirs0", s.pod.Space, "theirs1", 1500)
	for _, device := range []string{"eth0", "theirs0"} {
		if _, err := p.addClsact(s.pod.Link(device).Attrs().Index, device); err != nil {
			t.Fatal(err)
		}
	}
	lab.Settle(t, s.pod.Space)
	before := track(t, s.node.Space, s.pod.Space)
	for _, v := range variants {
		add(t, p, ownerOf("c1"), s.want(t, v.text, "direction: both"))
		remove(t, p, ownerOf("c1"))
		before.unchanged("after Remove of " + v.name)
	}
}

func TestTheQueueLengthOfTheTappedInterfaceStays(t *testing.T) {
	s := newScene(t, 1450, 1500)
	_, p := open(t, s.node, s.pod)
	for _, length := range []int{0, 1, 500} {
		if err := s.pod.Netlink.LinkSetTxQLen(s.pod.Link("eth0"), length); err != nil {
			t.Fatal(err)
		}
		for _, when := range []string{"with a tap", "after Remove"} {
			if when == "with a tap" {
				add(t, p, ownerOf("c1"), s.want(t, variants[0].text, "direction: both"))
			} else {
				remove(t, p, ownerOf("c1"))
			}
			if now := s.pod.Link("eth0").Attrs().TxQLen; now != length {
				t.Errorf("%s the queue length is %d; it was %d", when, now, length)
			}
		}
	}
}

// The name was free when Add looked, and somebody took it before Add did.
func TestADeviceThatComesBetweenIsNotTakenForPodtaps(t *testing.T) {
	s := newScene(t, 1450, 1500)
	node, p := open(t, s.node, s.pod)
	for name, text := range map[string]string{
		"in the pod": "{device: late, veth: {}}", "on the node": "{device: mirror, veth: {hostInterface: late}}",
		"a VXLAN device": "{device: late, vxlan: {vni: 1, remote: 198.18.0.9, placement: pod}}",
	} {
		t.Run(name, func(t *testing.T) {
			at := s.pod.Space
			if name == "on the node" {
				at = s.node.Space
			}
			node.before = func(what string) error {
				if strings.HasPrefix(what, "make the v") || strings.HasPrefix(what, "make the VXLAN") {
					node.before = nil
					lab.Cable(at, "late", at, "late1", 1500)
				}
				return nil
			}
			if _, err := p.Add(ownerOf("c1"), parse(t, "%s", text), ""); err == nil {
				t.Error("Add succeeded; want a failure for the name")
			}
			node.before = nil
			if !at.Has("late") {
				t.Fatal("somebody else's device is deleted")
			}
			at.Delete("late")
		})
	}
}

// Group and alias may be written by anybody; only both together, whole and the
// owner's, make a device of a kind that podtap makes its own.
func TestADeviceThatBearsOnlyPartOfTheMarkIsNotTouched(t *testing.T) {
	s := newScene(t, 1450, 1500)
	node, p := open(t, s.node, s.pod)
	gone := mark{Owner: ownerOf("gone"), Device: "mirror", Interface: "eth0", Direction: tap.Both}.alias()
	relay := collector{address(t, "198.18.0.9"), 1, 4789, 64}
	s.node.Bridge("kind", 1500)
	claim(t, s.node.Space, "kind", gone)
	s.node.VXLAN("group", 5, 9999)
	if err := s.node.Netlink.LinkSetAlias(s.node.Link("group"), relay.alias()); err != nil {
		t.Fatal(err)
	}
	if _, err := node.makeVXLAN(end{name: "name"}, node.namespace, relay); err != nil { // no alias, and not a relay's name
		t.Fatal(err)
	}
	lab.Cable(s.pod.Space, "mirror", s.pod.Space, "mirror1", 1500)
	for _, alias := range []string{"", "podtap/1 cni net c2 eth0 mirror", "podtap/1 cni net c1 eth1 mirror", "podtap/1 cni other c1 eth0 mirror"} {
		claim(t, s.pod.Space, "mirror", alias)
		lab.Settle(t, s.node.Space, s.pod.Space)
		before := track(t, s.node.Space, s.pod.Space)
		if _, err := p.Add(ownerOf("c1"), s.want(t, variants[1].text, "device: mirror"), ""); !errors.Is(err, ErrConflict) {
			t.Errorf("alias %q: Add says %v", alias, err)
		}
		add(t, p, ownerOf("c1"), s.want(t, variants[1].text, "device: ours"))
		remove(t, p, ownerOf("c1"))
		before.unchanged("after Remove, with the alias " + alias)
	}
	claim(t, s.pod.Space, "mirror", "")
	before := track(t, s.node.Space, s.pod.Space)
	if err := node.RemoveStale("net", nil); err != nil {
		t.Error(err)
	}
	before.unchanged("after RemoveStale")
}

// A plugin that was killed between a relay's making and its marking leaves one
// without an alias.
func TestARelayWhoseMakingWasCutShortIsSwept(t *testing.T) {
	s := newScene(t, 1450, 1500)
	node, p := open(t, s.node, s.pod)
	before := track(t, s.node.Space)
	if _, err := node.makeVXLAN(end{name: "podtaphalf"}, node.namespace, collector{address(t, "198.18.0.9"), 1, 4789, 64}); err != nil {
		t.Fatal(err)
	}
	remove(t, p, ownerOf("never tapped"))
	before.unchanged("after Remove")
}

// The pod has as many devices with its own tap's alias before the tap itself as
// Remove deletes of one.
func TestForgedAliasesBeforeATapDoNotHideIt(t *testing.T) {
	s := newScene(t, 1450, 1500)
	node, p := open(t, s.node, s.pod)
	before := track(t, s.node.Space)
	alias := mark{Owner: ownerOf("c1"), Device: "mirror", Interface: "eth0", Direction: tap.Both}.alias()
	for i := range tap.MaxTaps + 4 {
		lab.Cable(s.pod.Space, fmt.Sprintf("f%d", i), s.pod.Space, fmt.Sprintf("g%d", i), 1500)
		claim(t, s.pod.Space, fmt.Sprintf("f%d", i), alias)
	}
	made := add(t, p, ownerOf("c1"), s.want(t, variants[1].text, "direction: both"))
	first := ""
	note := func(what string) error {
		if name, ok := strings.CutPrefix(what, "doom the device "); ok && first == "" {
			first = name
		}
		return nil
	}
	node.before, p.before = note, note
	remove(t, p, ownerOf("c1"))
	node.before, p.before = nil, nil
	if first != made.Host.Name {
		t.Errorf("Remove deleted %s first; want the node's end, which the pod cannot delay", first)
	}
	if s.pod.Has("mirror") {
		t.Error("the tap itself is still there")
	}
	before.unchanged("after Remove")
}

// No packet is copied before its whole way is there, nor to a device that goes.
func TestTheRulesComeLastAndGoFirst(t *testing.T) {
	s := newScene(t, 1450, 1500)
	node, p := open(t, s.node, s.pod)
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			attached, deleted := 0, 0
			watch := func(what string) error {
				switch {
				case what == "attach the tap to eth0":
					attached++
					for at, name := range map[*lab.Space]string{s.pod.Space: "mirror", s.node.Space: hostName(ownerOf("c1"), "mirror")} {
						if at.Has(name) && at.Link(name).Attrs().Flags&net.FlagUp == 0 {
							t.Errorf("at %q %s is down", what, name)
						}
					}
				case strings.HasPrefix(what, "delete the device"), strings.HasPrefix(what, "doom the device"):
					deleted++
					rules, err := p.allRules(s.pod.Link("eth0").Attrs().Index, "clsact")
					if err != nil || slices.ContainsFunc(rules, func(r installed) bool { return r.marked }) {
						t.Errorf("at %q there are still rules (%v)", what, err)
					}
				}
				return nil
			}
			node.before, p.before = watch, watch
			add(t, p, ownerOf("c1"), s.want(t, v.text, "direction: both"))
			remove(t, p, ownerOf("c1"))
			node.before, p.before = nil, nil
			if attached != 2 || deleted == 0 {
				t.Errorf("%d rules were attached and %d devices deleted", attached, deleted)
			}
		})
	}
}

// Two directions' rules at one priority would share a u32 table, and somebody who
// wants to see packets before us must find a priority for it.
func TestRulesLeaveRoomForOthers(t *testing.T) {
	s := newScene(t, 1450, 1500)
	_, p := open(t, s.node, s.pod)
	add(t, p, ownerOf("c1"), s.want(t, variants[0].text, "direction: both"))
	eth0 := s.pod.Link("eth0").Attrs().Index
	ours, err := p.allRules(eth0, "clsact")
	if err != nil || len(ours) != 2 || ours[0].priority == ours[1].priority {
		t.Fatalf("rules %+v (%v); want two of two priorities", ours, err)
	}
	for priority := range uint16(256) { // 0 lets the kernel choose
		theirs := rule{index: eth0, hook: hookIngress, priority: priority, program: matchAll(), mirred: &mirred{to: s.pod.Link("lo").Attrs().Index}}
		if err := p.requestRule(theirs, "bpf", bpfOptions(theirs)); err != nil {
			t.Fatalf("somebody else's rule at priority %d: %v", priority, err)
		}
	}
	rules, err := p.rules(eth0, hookIngress)
	if err != nil || len(rules) != 257 || !rules[255].marked {
		t.Errorf("%d rules (%v), and ours is not behind the 255 that were to come before it", len(rules), err)
	}
}

// tc shows all rules below an ingress qdisc under the name that the last one came
// with: ours must not change theirs while it is there either.
func TestARuleBelowAnIngressQdiscHasTheNameOfTheOthers(t *testing.T) {
	needsTC(t)
	for _, parent := range []string{"ingress", "parent ffff:"} {
		t.Run(parent, func(t *testing.T) {
			s := newScene(t, 1450, 1500)
			theirs(t, s.pod, "ingress", parent+" prio 1 protocol all u32 match u32 0 0"+theirMirror+" continue")
			before := tcDump(s.pod)
			_, p := open(t, s.node, s.pod)
			want := s.want(t, variants[0].text, "direction: ingress")
			want.Filter = "icmp" // with the rule that counts, too
			add(t, p, ownerOf("c1"), want)
			healthy(t, p, ownerOf("c1"), want)
			text := tcDump(s.pod)
			for _, line := range strings.Split(before, "\n") {
				if !strings.Contains(text, line) {
					t.Errorf("tc shows no longer %q:\n%s", line, text)
				}
			}
			if !strings.Contains(text, "cookie") {
				t.Errorf("tc does not show ours:\n%s", text)
			}
			remove(t, p, ownerOf("c1"))
			if now := tcDump(s.pod); strings.Contains(now, "cookie") || !strings.Contains(now, "qdisc ingress") {
				t.Errorf("after Remove tc shows\n%s", now)
			}
		})
	}
}
