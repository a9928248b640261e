package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/podtap/podtap/api/node"
	"github.com/podtap/podtap/cmd/kubectl-podtap/cluster/apitest"
	"github.com/podtap/podtap/internal/lab"
)

func TestWhatPassedIsWhatTheFilterAndTheSampleLeftOut(t *testing.T) {
	amount := func(packets uint64) *node.Amount { return &node.Amount{Packets: packets} }
	for _, c := range []struct {
		passedOver, sampledOut *node.Amount
		want                   string
	}{
		{nil, nil, ""}, {amount(0), nil, "0"}, {amount(300), nil, "300"}, {nil, amount(0), "0"}, {amount(300), amount(0), "300"},
		{nil, amount(900), "900 (sampled out 900)"}, {amount(300), amount(900), "1200 (sampled out 900)"},
	} {
		if got := passed(node.Counters{PassedOver: c.passedOver, SampledOut: c.sampledOut}); got != c.want {
			t.Errorf("%v and %v: %q, want %q", c.passedOver, c.sampledOut, got, c.want)
		}
	}
}

// alteredRows is the table of a single tap, without the tables around it.
func alteredRows(t *testing.T, is node.Tap) string {
	t.Helper()
	var out bytes.Buffer
	if err := writeTable(&out, node.Taps{Taps: []node.Tap{is}}, view{}, someDay); err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(out.String(), "\n\n")
	return cells(rest)
}

func TestATapIsAmongTheAlteredOnlyWhereThereIsSomethingToTell(t *testing.T) {
	none, three := new(uint64), uint64(3)
	nothing, some := &node.Amount{}, &node.Amount{Packets: 3}
	for _, c := range []struct {
		change func(*node.Tap)
		row    string // behind the device
	}{
		{func(*node.Tap) {}, ""},
		{func(t *node.Tap) { t.Cut, t.SegmentsAdded, t.Capped, t.Lost = nothing, none, nothing, nothing }, ""},
		{func(t *node.Tap) { t.SnapLength = 96 }, "96 - - - - -"},
		{func(t *node.Tap) { t.MaxBitrate, t.Capped, t.Lost = 1_500_000, nothing, nothing }, "- 1500k - - 0 0"},
		{func(t *node.Tap) { t.MaxBitrate = 123_456_789 }, "- 123456789 - - - -"},
		{func(t *node.Tap) { t.Cut = some }, "- - 3 - - -"},
		{func(t *node.Tap) { t.Cut, t.SegmentsAdded = nothing, &three }, "- - 0 3 - -"},
		{func(t *node.Tap) { t.Capped = some }, "- - - - 3 -"},
		{func(t *node.Tap) { t.SegmentsAdded, t.Lost = none, some }, "- - - 0 - 3"},
	} {
		is, want := node.Tap{Pod: "default/web", ContainerID: "c1", Device: "mirror"}, ""
		if c.change(&is); c.row != "" {
			want = "POD CONTAINER DEVICE SNAP CAP CUT SEGMENTS CAPPED LOST\ndefault/web c1 mirror " + c.row + "\n"
		}
		if got := alteredRows(t, is); got != want {
			t.Errorf("%+v:\n%s\nwant\n%s", is, got, want)
		}
	}
}

func TestAlteredTapsOfAClusterAreToldApartAsTheTapsAre(t *testing.T) {
	is := oneTap("prod/db", "mirror", collector)
	is.SnapLength, is.MaxBitrate, is.Cut = 96, 10_000_000, &node.Amount{Packets: 5}
	s := apitest.New(t)
	s.AddNode("worker1", apitest.Podtapd(node.Taps{Taps: []node.Tap{is, oneTap("prod/api", "mirror", collector)}, Senders: []node.Sender{oneSender("podtap1", collector, 2)}}, ready("worker1")))
	for command, want := range map[string]string{
		"list -n prod":         "POD DEVICE SNAP CAP CUT SEGMENTS CAPPED LOST\ndb mirror 96 10M 5 - - -\n",
		"list -A":              "NAMESPACE POD DEVICE SNAP CAP CUT SEGMENTS CAPPED LOST\nprod db mirror 96 10M 5 - - -\n",
		"list -A -o wide":      "NAMESPACE POD DEVICE SNAP CAP CUT SEGMENTS CAPPED LOST NODE CONTAINER\nprod db mirror 96 10M 5 - - - worker1 0123456789ab\n",
		"list -n prod -o wide": "POD DEVICE SNAP CAP CUT SEGMENTS CAPPED LOST NODE CONTAINER\ndb mirror 96 10M 5 - - - worker1 0123456789ab\n",
	} {
		got := ask(t, s, command)
		tables := strings.Split(cells(got.out), "\n\n")
		if got.err != nil || len(tables) != 3 || tables[1]+"\n" != want || !strings.HasPrefix(tables[2], "SENDER") {
			t.Errorf("%s: %v\n%s\nwant in the middle\n%s", command, got.err, cells(got.out), want)
		}
	}
}

func TestWhatCopiesLoseAndGainIsListedAsTheKernelHasIt(t *testing.T) {
	if !lab.Privileged() {
		t.Skip("copies are cut by eBPF programs, which only the machine's own root may load")
	}
	s := newScene(t)
	s.add(s.pod, webID, "default/web", `[{filter: udp port 7001, sampleRate: 4, snapLength: 96, maxBitrate: 64k, direction: egress, device: m0, vxlan: {vni: 100, remote: COLLECTOR}},
		{direction: egress, device: m1, veth: {hostInterface: sensor0}}]`)
	eth0 := s.pod.Capture("eth0")
	there, pod := s.node.UDP("198.18.101.1:7001"), s.pod.UDP(s.pod.IPv4+":7001")
	before, framesBefore := s.settled(eth0)
	if n := lab.Burst(t, pod, there, "198.18.101.1:7001", 3000, 1200, eth0); n != 3000 {
		t.Fatalf("%d of 3000 datagrams arrive", n)
	}
	after, frames := s.settled(eth0)
	is, was := after.Taps[0], before.Taps[0]
	if is.Device != "m0" || is.SnapLength != 96 || is.MaxBitrate != 64000 || is.Cut == nil || is.SegmentsAdded == nil || is.Capped == nil || is.Lost == nil {
		t.Fatalf("listed: %+v", is)
	}
	sent := uint64(0)
	for _, f := range frames[len(framesBefore):] {
		if f.Outgoing {
			sent++
		}
	}
	d := is.Directions[0]
	if d.SampledOut == nil || d.PassedOver == nil {
		t.Fatalf("counted: %+v", d)
	}
	since := func(now, then amount) uint64 { return now.Packets - then.Packets }
	b := was.Directions[0]
	sampled, all := since(*d.SampledOut, *b.SampledOut), since(d.Matched, b.Matched)
	if all += sampled + since(*d.PassedOver, *b.PassedOver); all != sent || sampled < 1500 || sampled > 3000 {
		t.Errorf("%d packets are counted, of which %d were sampled out; captured were %d", all, sampled, sent)
	}
	if dropped := since(d.Dropped["mirror"], b.Dropped["mirror"]); dropped == 0 || since(*is.Capped, *was.Capped) != dropped {
		t.Errorf("%d were capped, and %d dropped", is.Capped.Packets, dropped)
	}
	if cut := since(*is.Cut, *was.Cut); cut == 0 || cut > since(d.Copied, b.Copied) || is.Cut.Bytes == nil || *is.Cut.Bytes < 1000*cut || is.Lost.Packets != 0 || is.Lost.Bytes != nil {
		t.Errorf("cut %+v, lost %+v, of %+v", is.Cut, is.Lost, d)
	}
	const want = "POD | CONTAINER | DEVICE | SNAP | CAP | CUT | SEGMENTS | CAPPED | LOST\ndefault/web | 0123456789ab | m0 | N | 64k | N | N | N | N\n\nSENDER |"
	if rows := pattern(s.table()); !strings.Contains(rows, want) || !strings.Contains(rows, " (sampled out ") {
		t.Errorf("the table is\n%s", rows)
	}
	if plain := after.Taps[1]; plain.SnapLength != 0 || plain.MaxBitrate != 0 || plain.Cut != nil || plain.Capped != nil || plain.Lost != nil || plain.Directions[0].SampledOut != nil {
		t.Errorf("a tap of whole copies is listed as %+v", plain)
	}
}
