package tap

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

// parse is Parse of a text that has to be fine.
func parse(t *testing.T, text string) []Tap {
	t.Helper()
	taps, err := Parse([]byte(text))
	if err != nil {
		t.Fatalf("Parse(%s): %v", text, err)
	}
	return taps
}

// one is the only tap of a text.
func one(t *testing.T, text string) Tap {
	t.Helper()
	taps := parse(t, text)
	if len(taps) != 1 {
		t.Fatalf("Parse(%s) has %d taps, want 1", text, len(taps))
	}
	return taps[0]
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s is\n%s\nwant\n%s", what, show(got), show(want))
	}
}

// show prints what pointers point to, which %+v does not.
func show(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

func TestEveryNotationOfATapMeansTheSame(t *testing.T) {
	want := []Tap{{Direction: Both, SampleRate: 1, Veth: &Veth{}}}
	for _, text := range []string{
		"veth:",
		"veth: ",
		"veth: ~",
		"veth: {}",
		"{veth: {}}",
		"- veth:",
		"[veth: {}]",
		"---\nveth:\n",
		"# one tap\nveth: # no name\n",
		`{"veth":{}}`,
		`{"veth":null}`,
		`[{"veth":{}}]`,
		" \n[ { \"veth\" : { } } ]\n",
		"{\n\t\"veth\": {\n\t}\n}\n",
		"\ufeffveth:",
		"veth:\r\n",
	} {
		equal(t, "Parse("+text+")", parse(t, text), want)
	}
}

func TestAListKeepsItsOrder(t *testing.T) {
	for _, text := range []string{
		"- {device: b, veth: }\n- {device: a, wire: }\n- {device: c, vxlan: {vni: 7, remote: 198.18.0.9}}\n",
		`[{"device":"b","veth":{}},{"device":"a","wire":{}},{"device":"c","vxlan":{"vni":7,"remote":"198.18.0.9"}}]`,
	} {
		var order []string
		for _, tap := range parse(t, text) {
			order = append(order, tap.Device+" "+string(tap.Sink()))
		}
		equal(t, "order", order, []string{"b veth", "a wire", "c vxlan"})
	}
}

func TestNothingIsNoTap(t *testing.T) {
	for _, text := range []string{"", " \n \n", "null", "~", "# nothing", "---", "[]", "[ ]\n"} {
		if taps := parse(t, text); len(taps) != 0 {
			t.Errorf("Parse(%q) = %s, want no tap", text, show(taps))
		}
	}
}

func TestFieldsLeftOutHaveTheirDefaults(t *testing.T) {
	remote := netip.MustParseAddr("198.18.0.9")
	vxlan := func(placement Placement, oversize Oversize) Tap {
		return Tap{Direction: Both, SampleRate: 1, VXLAN: &VXLAN{VNI: 100, Remote: remote, Port: 4789, TTL: 64, Placement: placement, Oversize: oversize}}
	}
	for text, want := range map[string]Tap{
		"veth:":                                 {Direction: Both, SampleRate: 1, Veth: &Veth{}},
		"wire:":                                 {Wire: &Wire{}},
		"vxlan: {vni: 100, remote: 198.18.0.9}": vxlan(PlacementNode, FitIfPossible),
		"vxlan: {vni: 100, remote: 198.18.0.9, placement: node}": vxlan(PlacementNode, FitIfPossible),
		"vxlan: {vni: 100, remote: 198.18.0.9, placement: pod}":  vxlan(PlacementPod, Refuse),
	} {
		equal(t, text, one(t, text), want)
	}
}

func TestEveryFieldIsRead(t *testing.T) {
	const head = "device: cap0\ninterface: net1\n"
	for text, want := range map[string]Tap{
		head + "direction: ingress\nveth: {hostInterface: tap-of-web}": {Device: "cap0", Interface: "net1", Direction: Ingress, SampleRate: 1,
			Veth: &Veth{HostInterface: "tap-of-web"}},
		head + "filter: tcp\nsampleRate: 100\nsnapLength: 96\nmaxBitrate: 100M\nveth:": {Device: "cap0", Interface: "net1", Direction: Both,
			Filter: "tcp", SampleRate: 100, SnapLength: 96, MaxBitrate: 100_000_000, Veth: &Veth{}},
		head + `
direction: egress
vxlan: {vni: 16777215, remote: "2001:db8::9", port: 65535, ttl: 255, placement: pod, oversize: fragment}`: {
			Device: "cap0", Interface: "net1", Direction: Egress, SampleRate: 1,
			VXLAN: &VXLAN{VNI: MaxVNI, Remote: netip.MustParseAddr("2001:db8::9"), Port: 65535, TTL: 255, Placement: PlacementPod, Oversize: Fragment}},
		`direction: both
vxlan: {vni: 1, remote: 198.18.0.9, port: 1, ttl: 1, placement: node, oversize: refuse}`: {Direction: Both, SampleRate: 1,
			VXLAN: &VXLAN{VNI: 1, Remote: netip.MustParseAddr("198.18.0.9"), Port: 1, TTL: 1, Placement: PlacementNode, Oversize: Refuse}},
		head + `
wire:
  hostInterface: wire-of-web
  addresses: [198.18.0.2/24, "2001:db8::2/64"]
  hostAddresses: [198.18.0.1/24, "2001:db8::1/64"]
  mtu: 1280`: {Device: "cap0", Interface: "net1", Wire: &Wire{HostInterface: "wire-of-web", MTU: 1280,
			Addresses:     []netip.Prefix{netip.MustParsePrefix("198.18.0.2/24"), netip.MustParsePrefix("2001:db8::2/64")},
			HostAddresses: []netip.Prefix{netip.MustParsePrefix("198.18.0.1/24"), netip.MustParsePrefix("2001:db8::1/64")}}},
		"wire: {mtu: 68}":    {Wire: &Wire{MTU: 68}},
		"wire: {mtu: 65535}": {Wire: &Wire{MTU: 65535}},
	} {
		equal(t, text, one(t, text), want)
	}
}

func TestAMappedRemoteIsItsIPv4Address(t *testing.T) {
	got := one(t, `vxlan: {vni: 1, remote: "::ffff:198.18.0.9"}`).VXLAN.Remote
	equal(t, "remote", got, netip.MustParseAddr("198.18.0.9"))
}

func TestUsualNamesOfDevicesAreAllowed(t *testing.T) {
	for _, name := range []string{"m", "mirror", "a-b_c.d", "eth0@x", "...", "lo0", "LO", "All", strings.Repeat("x", 15), "miró", "日本語0"} {
		equal(t, "device", one(t, "veth:\ndevice: '"+name+"'").Device, name)
		if !ValidDeviceName(name) {
			t.Errorf("ValidDeviceName(%q) = false", name)
		}
	}
}

func TestATapKnowsItsSinkAndHostInterface(t *testing.T) {
	for text, want := range map[string]struct {
		sink Sink
		host string
	}{
		"veth:":                                {SinkVeth, ""},
		"veth: {hostInterface: a}":             {SinkVeth, "a"},
		"wire:":                                {SinkWire, ""},
		"wire: {hostInterface: b}":             {SinkWire, "b"},
		"vxlan: {vni: 1, remote: 198.18.0.9}":  {SinkVXLAN, ""},
		"vxlan: {vni: 1, remote: 2001:db8::9}": {SinkVXLAN, ""},
	} {
		tap := one(t, text)
		if tap.Sink() != want.sink || tap.HostInterface() != want.host {
			t.Errorf("%s: sink %q with host interface %q, want %q with %q", text, tap.Sink(), tap.HostInterface(), want.sink, want.host)
		}
	}
}

func TestADirectionIncludesItselfAndBothIncludesEach(t *testing.T) {
	for direction, want := range map[Direction][2]bool{Both: {true, true}, Ingress: {true, false}, Egress: {false, true}, "": {false, false}} {
		tap := Tap{Direction: direction}
		equal(t, "includes of "+string(direction), [2]bool{tap.Includes(Ingress), tap.Includes(Egress)}, want)
	}
}

func TestATapSamplesUnlessItCopiesEachPacket(t *testing.T) {
	for rate, want := range map[uint32]bool{0: false, 1: false, 2: true, MaxSampleRate: true} {
		equal(t, fmt.Sprint("samples at ", rate), Tap{SampleRate: rate}.Samples(), want)
	}
}

func TestMarshalledTapsParseBackToTheSame(t *testing.T) {
	roundTrip(t, parse(t, `
- veth:
- {device: a, interface: net1, direction: ingress, veth: {hostInterface: tap-a}}
- {filter: 'tcp[13] & 2 != 0 and ip proto \tcp', veth: }
- {sampleRate: 1000000, snapLength: 65535, maxBitrate: 1T, veth: }
- {sampleRate: 10, snapLength: 64, maxBitrate: 64001, vxlan: {vni: 100, remote: 198.18.0.9, oversize: fit}}
- vxlan: {vni: 100, remote: 198.18.0.9}
- vxlan: {vni: 100, remote: "2001:db8::9", port: 8472, ttl: 3, placement: pod, oversize: fragment}
- vxlan: {vni: 100, remote: "::ffff:198.18.0.9", placement: pod}
- wire:
- wire: {hostInterface: w, addresses: [198.18.0.2/24, "2001:db8::2/64"], hostAddresses: [198.18.0.1/24], mtu: 1400}
`))
}

func roundTrip(t *testing.T, taps []Tap) {
	t.Helper()
	text, err := json.Marshal(taps)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse(text)
	if err != nil {
		t.Fatalf("Parse(%s): %v", text, err)
	}
	if len(again) != len(taps) || (len(taps) > 0 && !reflect.DeepEqual(again, taps)) {
		t.Fatalf("taps came back as\n%s\nwant\n%s", show(again), text)
	}
}
