package main

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestADeletedDeviceIsListedByItsRules(t *testing.T) {
	s := newScene(t)
	s.add(s.pod, webID, "default/web", "veth: {}")
	s.pod.Delete("mirror")
	s.pod.Ping(s.node.IPv4(), 20)
	rows := s.table()
	if len(rows) != 3 {
		t.Fatalf("the table is %q", rows)
	}
	for i, row := range rows[1:] {
		if want := []string{s.pod.Path(), "-", "(deleted)", "eth0", []string{"ingress", "egress"}[i], "-", "-"}; !reflect.DeepEqual(row[:7], want) || row[10] != "-" {
			t.Errorf("row is %q, want %q", row, want)
		}
		if !strings.HasSuffix(row[9], " (mirror)") || row[7] == "0" {
			t.Errorf("counts are %q", row[7:10])
		}
	}
	l := s.list()
	if len(l.Taps) != 1 || l.Taps[0].NetNS != s.pod.Path() || l.Taps[0].Device+l.Taps[0].Pod+l.Taps[0].Sink != "" || !l.Taps[0].Since.IsZero() ||
		len(l.Taps[0].Directions) != 2 || l.Taps[0].Directions[0].Dropped["mirror"].Packets < 20 {
		t.Errorf("listed: %+v", l)
	}
}

func TestWhatIsLostBehindTheTapIsTheSenders(t *testing.T) {
	for name, missing := range map[string]bool{"down": false, "deleted": true} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.add(s.pod, webID, "default/web", "vxlan: {vni: 100, remote: COLLECTOR}")
			relay := s.list().Senders[0].Device
			if missing {
				s.node.Delete(relay)
			} else {
				s.node.Down(relay)
			}
			before := s.list()
			s.pod.Ping(s.node.IPv4(), 20)
			after, rows := s.list(), s.table()
			var copied uint64
			for i, d := range after.Taps[0].Directions {
				copied += d.Copied.Packets - before.Taps[0].Directions[i].Copied.Packets
				if len(d.Dropped) != 0 {
					t.Errorf("%s: the tap itself dropped %+v", d.Direction, d.Dropped)
				}
			}
			sender := after.Senders[0]
			if lost := sender.Dropped["down"].Packets - before.Senders[0].Dropped["down"].Packets; copied < 40 || lost != copied ||
				sender.Missing != missing || (sender.Sent == nil) != missing || sender.Device != relay || sender.Taps != 1 {
				t.Errorf("of %d copies %d were lost: %+v", copied, lost, sender)
			}
			row := rows[len(rows)-1]
			if shown := relay + " (deleted)"; missing && (row[0] != shown || row[2] != "-" || row[4] != "-") || !missing && row[0] != relay || !strings.Contains(row[5], "down") {
				t.Errorf("the sender is shown as %q", row)
			}
		})
	}
}

func TestAPodCannotSteerATerminal(t *testing.T) {
	s := newScene(t)
	s.add(s.pod, webID, "default/web", "vxlan: {vni: 7, remote: COLLECTOR, placement: pod}")
	const evil = "\x1b[31mred"
	s.pod.Down("mirror")
	if err := s.pod.Netlink.LinkSetName(s.pod.Link("mirror"), evil); err != nil {
		t.Fatal(err)
	}
	s.pod.Up(evil)
	group := int(s.pod.Link(evil).Attrs().Group)
	for i, alias := range []string{
		"podtap/1 cni pods c9 eth0 m1 if=eth0 dir=both at=1 pod=kube-system/\x1b[2J\x1b[H",
		"podtap/1 cni pods c9 eth0 m2 if=eth0 dir=both pod=x\nPOD", "podtap/1 cni pods c9 eth0 \u009b2J if=\u202ee pod=x",
		"podtap/1 cni pods c9 eth0 m4 if=eth0 dir=both at=9999999999 pod=a/plain-lie",
	} {
		name := "evil" + string(rune('0'+i))
		s.pod.VXLAN(name, 10+i, 5000+i)
		if err := errors.Join(s.pod.Netlink.LinkSetGroup(s.pod.Link(name), group), s.pod.Netlink.LinkSetAlias(s.pod.Link(name), alias)); err != nil {
			t.Fatal(err)
		}
	}
	rows := s.table()
	text := pattern(rows)
	if !strings.Contains(text, `"\x1b[31mred" | default/web | 198.18.0.2:4789/7`) {
		t.Errorf("the renamed device is not shown with its name escaped:\n%s", text)
	}
	if !strings.Contains(text, "a/plain-lie | c9 | m4 | eth0 | both | - (pod) | - | - | - | - | -\n") {
		t.Errorf("a device without rules, of the future, is not shown as one:\n%s", text)
	}
	var plain any
	if err := json.Unmarshal([]byte(s.command("list", "--node", "-o", "json").succeeds().stdout), &plain); err != nil {
		t.Error(err)
	}
}

func TestWithoutTheNamespaceCountersAreUnknown(t *testing.T) {
	s := newScene(t)
	s.add(s.pod, webID, "default/web", "veth: {hostInterface: sensor0}")
	s.pod.Destroy() // its name only: the scene has it open
	if got, want := pattern(s.table()[1:]), "default/web | 0123456789ab | mirror | eth0 | both | sensor0 | - | - | - | - | AGE\n"; got != want {
		t.Errorf("the table is %q, want %q", got, want)
	}
	if l := s.list(); len(l.Taps) != 1 || l.Taps[0].NetNS != "" || l.Taps[0].Directions == nil || len(l.Taps[0].Directions) != 0 {
		t.Errorf("listed: %+v", l)
	}
}
