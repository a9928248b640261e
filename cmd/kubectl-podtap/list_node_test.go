package main

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/mirror"
)

const allSinks = `[{veth: {hostInterface: sensor0}, device: m0},
	{vxlan: {vni: 100, remote: COLLECTOR}, device: m1, direction: egress},
	{vxlan: {vni: 7, remote: COLLECTOR, port: 4790, placement: pod}, device: m2, direction: ingress},
	{wire: {hostInterface: plug0, addresses: [198.19.0.2/24]}, device: m3}]`

var (
	number = regexp.MustCompile(`^[0-9]+$`)
	recent = regexp.MustCompile(`^[0-9]+s$`)
)

// pattern is a table with N for numbers and AGE for recent ages.
func pattern(rows [][]string) string {
	var b strings.Builder
	for _, row := range rows {
		for i, cell := range row {
			if number.MatchString(cell) {
				cell = "N"
			} else if recent.MatchString(cell) {
				cell = "AGE"
			}
			if i > 0 {
				b.WriteString(" | ")
			}
			b.WriteString(cell)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func TestTheTableHasEachTapOfTheNode(t *testing.T) {
	s := newScene(t)
	second := s.node.Pod("second", 1430)
	s.add(s.pod, webID, "default/web", allSinks)
	s.add(second, "c2", "default/api", "{filter: icmp, vxlan: {vni: 100, remote: COLLECTOR}}")
	s.pod.Ping(s.node.IPv4(), 3)
	const want = `POD | CONTAINER | DEVICE | INTERFACE | DIRECTION | DESTINATION | PASSED | MATCHED | COPIED | DROPPED | AGE
default/api | c2 | mirror | eth0 | ingress | 198.18.0.2:4789/100 | N | N | N | N | AGE
default/api | c2 | mirror | eth0 | egress | 198.18.0.2:4789/100 | N | N | N | N | AGE
default/web | 0123456789ab | m0 | eth0 | ingress | sensor0 | - | N | N | N | AGE
default/web | 0123456789ab | m0 | eth0 | egress | sensor0 | - | N | N | N | AGE
default/web | 0123456789ab | m1 | eth0 | egress | 198.18.0.2:4789/100 | - | N | N | N | AGE
default/web | 0123456789ab | m2 | eth0 | ingress | 198.18.0.2:4790/7 (pod) | - | N | N | N | AGE
default/web | 0123456789ab | m3 | eth0 | - | plug0 | - | - | - | - | AGE

SENDER | POD | DESTINATION | TAPS | SENT | DROPPED
RELAY | - | 198.18.0.2:4789/100 | N | N | N
m2 | default/web | 198.18.0.2:4790/7 | N | N | N
`
	got := regexp.MustCompile(`(?m)^podtap[0-9a-f]{9} `).ReplaceAllString(pattern(s.table()), "RELAY ")
	if got != want {
		t.Errorf("the table is\n%s\nwant\n%s", got, want)
	}
}

func TestTheJSONCountsWhatTheInterfaceHadAndWhatArrived(t *testing.T) {
	s := newScene(t)
	began := time.Now()
	s.add(s.pod, webID, "default/web", allSinks)
	eth0 := s.pod.Capture("eth0")
	node, pod := s.node.UDP("198.18.101.1:7001"), s.pod.UDP(s.pod.IPv4+":7001")
	before, framesBefore := s.settled(eth0)
	if n := s.pod.Ping(s.node.IPv4(), 20); n != 20 {
		t.Fatalf("%d of 20 pings are answered", n)
	}
	if n := lab.Burst(t, pod, node, "198.18.101.1:7001", 300, 700, eth0); n != 300 {
		t.Fatalf("%d of 300 datagrams arrive", n)
	}
	after, frames := s.settled(eth0)

	packets, bytes := map[string]uint64{}, map[string]uint64{}
	for _, f := range frames[len(framesBefore):] {
		d := "ingress"
		if f.Outgoing {
			d = "egress"
		}
		packets[d]++
		bytes[d] += uint64(len(f.Data))
	}
	if packets["egress"] < 320 || packets["ingress"] < 20 {
		t.Fatalf("captured %v", packets)
	}
	directions := 0
	for i, is := range after.Taps {
		if is.Pod != "default/web" || is.Namespace != "default" || is.Name != "web" || is.ContainerID != webID || is.Network != "pods" || is.IfName != "eth0" ||
			is.NetNS != s.pod.Path() || is.Interface != "eth0" || is.Since.Before(began.Add(-2*time.Second)) || is.Since.After(time.Now()) {
			t.Errorf("%s is %+v", is.Device, is)
		}
		for j, d := range is.Directions {
			directions++
			was := before.Taps[i].Directions[j]
			if got := d.Matched.Packets - was.Matched.Packets; got != packets[d.Direction] {
				t.Errorf("%s %s: %d packets matched, %d were captured", is.Device, d.Direction, got, packets[d.Direction])
			}
			if got := *d.Matched.Bytes - *was.Matched.Bytes; got != bytes[d.Direction] {
				t.Errorf("%s %s: %d bytes matched, %d were captured", is.Device, d.Direction, got, bytes[d.Direction])
			}
			if len(d.Dropped) != 0 || d.Unit != "packets" {
				t.Errorf("%s %s is %+v", is.Device, d.Direction, d)
			}
		}
	}
	if directions != 4 || len(after.Senders) != 2 {
		t.Errorf("%d directions, senders %+v", directions, after.Senders)
	}
	for i, sender := range after.Senders {
		want := packets[map[string]string{s.collector.IPv4() + ":4789/100": "egress", s.collector.IPv4() + ":4790/7": "ingress"}[sender.Destination]]
		if got := sender.Sent.Packets - before.Senders[i].Sent.Packets; got != want || len(sender.Dropped) != 0 || sender.Taps != 1 {
			t.Errorf("%s sent %d, want %d: %+v", sender.Device, got, want, sender)
		}
	}
}

// What the command prints is checked for each call: see commandIn.
// A namespace that no name leads to any more: the node still knows the tap.
func TestAnEmptyNodeHasNoTaps(t *testing.T) {
	s := newScene(t)
	if a := s.command("list", "--node"); a.code != 0 || a.stdout != "" || a.stderr != "No taps on this node.\n" {
		t.Errorf("%+v", a)
	}
	var out bytes.Buffer
	if err := json.Compact(&out, []byte(s.command("list", "--node", "-o", "json").succeeds().stdout)); err != nil || out.String() != `{"taps":[],"senders":[]}` {
		t.Errorf("%v: %s", err, &out)
	}
}

// Whoever holds locks, and however long, a list is made, and nothing changes.
func TestAListTakesNoLocksAndChangesNothing(t *testing.T) {
	s := newScene(t)
	if err := os.RemoveAll("/run/podtap"); err != nil {
		t.Fatal(err)
	}
	s.list()
	if _, err := os.Stat("/run/podtap"); !os.IsNotExist(err) {
		t.Errorf("on an empty node, /run/podtap has come: %v", err)
	}
	s.add(s.pod, webID, "default/web", allSinks)
	lab.Settle(t, s.node.Space, s.pod.Space)
	unlock, err := mirror.LockPod(webID)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	f, err := os.Create("/run/podtap/lock/node")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.Remove(f.Name()); _ = f.Close() }()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	s.list() // the kernel notes for itself, once, that an action's counters were asked for
	locks, before := len(lab.Locks(t)), s.node.Snapshot()+s.pod.Snapshot()
	began := time.Now()
	s.list()
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
	if d := lab.Difference(before, s.node.Snapshot()+s.pod.Snapshot()); d != "" || len(lab.Locks(t)) != locks {
		t.Errorf("changed, with %d locks before and %d now:\n%s", locks, len(lab.Locks(t)), d)
	}
}

// In a user namespace of its own, a process has no rights over the node.
func TestWhoIsNotRootIsTold(t *testing.T) {
	s := newScene(t)
	s.add(s.pod, webID, "default/web", "veth: {}")
	a := s.commandIn(&syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER}, "list", "--node")
	if a.code != 1 || a.stdout != "" || !strings.Contains(a.stderr, "operation not permitted; run it as root, on the node itself") {
		t.Errorf("%+v", a)
	}
}
