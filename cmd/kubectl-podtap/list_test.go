package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/api/node"
	"github.com/podtap/podtap/pkg/inventory"
	"github.com/podtap/podtap/pkg/mirror"
	"github.com/podtap/podtap/pkg/tap"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares a text with a file of testdata.
func golden(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if text != string(want) {
		t.Errorf("%s differs; go test -update writes it anew. It is now\n%s", path, text)
	}
}

var (
	someDay = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	// sample has each kind of tap and of sender, and each thing that can be unknown.
	sample = mirror.List{
		Taps: []mirror.ListedTap{
			{NetNS: "/run/netns/cni-1b2c", Interface: "eth0", Counters: []mirror.Counters{
				{Direction: tap.Ingress, Matched: mirror.Amount{Packets: 4, Bytes: 400}, Dropped: map[string]mirror.Amount{"mirror": {Packets: 4, Bytes: 400}}}}},
			{Owner: sampleOwner("0123456789abcdef0123456789abcdef", "pods", "eth0"), Pod: "default/web", NetNS: "/run/netns/cni-77aa", Device: "mirror", Interface: "eth0",
				Sink: tap.SinkVXLAN, Placement: tap.PlacementNode, Destination: "198.18.0.9:4789/100", Since: someDay.Add(-51 * time.Hour), Counters: []mirror.Counters{
					{Direction: tap.Ingress, PassedOver: &mirror.Amount{Packets: 41, Bytes: 4100}, Matched: mirror.Amount{Packets: 120, Bytes: 9000}, Copied: mirror.Amount{Packets: 120, Bytes: 9000}},
					{Direction: tap.Egress, PassedOver: &mirror.Amount{}, Matched: mirror.Amount{Packets: 132, Bytes: 12000}, Copied: mirror.Amount{Packets: 120, BytesUnknown: true},
						Dropped: map[string]mirror.Amount{"mirror": {Packets: 12, BytesUnknown: true}}, Segments: true}}},
			{Owner: sampleOwner("0123456789abcdef0123456789abcdef", "sensor", "net1"), Pod: "default/web", NetNS: "/run/netns/cni-77aa", Device: "net1", Interface: "eth0",
				Sink: tap.SinkVXLAN, Placement: tap.PlacementPod, Destination: "[fd00::9]:4789/7", Since: someDay.Add(-3 * time.Minute), Counters: []mirror.Counters{{Direction: tap.Egress}}},
			{Owner: sampleOwner("fedcba9876543210", "pods", "eth0"), Device: "mirror", Interface: "eth0", Sink: tap.SinkVeth, Destination: "veth0123456789a"},
			{Owner: sampleOwner("c3", "pods", "eth0"), Pod: "default/api", NetNS: "/run/netns/cni-5c5c", Device: "wire", Interface: "eth0", Sink: tap.SinkWire,
				Destination: "vethfedcba98765", Since: someDay.Add(-5 * time.Second)},
			{Owner: sampleOwner("c4", "pods", "eth0"), Pod: "prod/db", NetNS: "/run/netns/cni-3e3e", Device: "mirror", Interface: "eth0", Sink: tap.SinkVXLAN, Placement: tap.PlacementNode,
				Destination: "198.18.0.9:4789/100", Since: someDay.Add(-time.Minute), SnapLength: 96, MaxBitrate: 10_000_000, Counters: []mirror.Counters{
					{Direction: tap.Egress, PassedOver: &mirror.Amount{Packets: 300, Bytes: 30000}, SampledOut: &mirror.Amount{Packets: 900, Bytes: 90000}, Matched: mirror.Amount{Packets: 100, Bytes: 10000},
						Copied: mirror.Amount{Packets: 93, BytesUnknown: true}, Dropped: map[string]mirror.Amount{"mirror": {Packets: 7, BytesUnknown: true}}}},
				Trimmed: &mirror.Trimmed{Cut: mirror.Amount{Packets: 80, Bytes: 6400}, Segments: 11, Lost: 1}, Capped: 7, Lost: 2},
		},
		Senders: []mirror.Sender{
			{Device: "podtap012345678", Taps: 1, Missing: true, Dropped: map[string]mirror.Amount{"down": {Packets: 9, BytesUnknown: true}}},
			{Device: "podtap876543210", Destination: "198.18.0.9:4789/100", Taps: 2, Sent: mirror.Amount{Packets: 240, Bytes: 33000}, Dropped: map[string]mirror.Amount{"noRoute": {Packets: 3, BytesUnknown: true}, "down": {Packets: 12, BytesUnknown: true}}},
			{Device: "net1", Pod: "default/web", Taps: 1},
		},
	}
)

func sampleOwner(container, network, iface string) mirror.Owner {
	return mirror.Owner{Source: mirror.SourceCNI, Network: network, ContainerID: container, IfName: iface}
}

func TestTheTableShowsWhatIsKnown(t *testing.T) {
	var out bytes.Buffer
	if err := writeTable(&out, inventory.Of(sample), view{}, someDay); err != nil {
		t.Fatal(err)
	}
	golden(t, "list.txt", out.String())
}

func TestTheJSONHasWhatIsKnown(t *testing.T) {
	var out bytes.Buffer
	if err := writeDocument(&out, formatJSON, inventory.Of(sample)); err != nil {
		t.Fatal(err)
	}
	golden(t, "list.json", out.String())
}

func TestSendersWithoutTapsAreShown(t *testing.T) {
	var out, notes bytes.Buffer
	err := show(&out, &notes, formatTable, inventory.Of(mirror.List{Senders: sample.Senders[1:2]}), nil)
	if err != nil || !strings.HasPrefix(out.String(), "SENDER ") || !strings.Contains(notes.String(), "No taps on this node.") {
		t.Errorf("%v\n%s%s", err, &out, &notes)
	}
}

func TestAnAgeIsAsKubectlShowsIt(t *testing.T) {
	const day = 24 * time.Hour
	for d, want := range map[time.Duration]string{
		0: "0s", 5*time.Second + 900*time.Millisecond: "5s", 119 * time.Second: "119s", 120 * time.Second: "2m",
		182 * time.Second: "3m2s", 599 * time.Second: "9m59s", 601 * time.Second: "10m", 179*time.Minute + 59*time.Second: "179m",
		3 * time.Hour: "3h", 4*time.Hour + 10*time.Minute: "4h10m", 8*time.Hour + time.Minute: "8h", 47 * time.Hour: "47h", 2 * day: "2d",
		2*day + 3*time.Hour: "2d3h", 8*day + time.Hour: "8d", 729 * day: "729d", 730 * day: "2y", 731 * day: "2y1d", -time.Second: "-",
	} {
		if got := age(someDay.Add(-d), someDay); got != want {
			t.Errorf("%v is %q, want %q", d, got, want)
		}
	}
	if got := age(time.Time{}, someDay); got != "-" {
		t.Errorf("an unknown one is %q", got)
	}
	if got := age(time.Unix(9999999999, 0), someDay); got != "-" { // a pod may write that
		t.Errorf("one of the year 2286 is %q", got)
	}
}

// fill sets all strings of a value to a text, also those of lists and maps, which
// get one element.
func fill(v reflect.Value, text string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), text)
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, text)
		fill(value, text)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), text)
	case reflect.Uint64:
		v.SetUint(7)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				fill(v.Field(i), text)
			}
		}
	default:
	}
}

// All strings of a list, also those that a later field brings, must be visible.
func TestNothingInAListSteersATerminal(t *testing.T) {
	for _, evil := range []string{"\x1b[2J\x1b[31m", "a\nPOD", "a\tb", "a\rb", "\x9b2J", "\u009b2J", "\u202egnp", "\x7f", "\x00", "\u2028", "\u200b"} {
		var l node.Taps
		fill(reflect.ValueOf(&l).Elem(), evil)
		l.Taps[0].Placement = tap.PlacementPod // adds to the destination
		for _, format := range []string{"table", "json"} {
			var out, notes bytes.Buffer
			err := show(&out, &notes, format, l, fmt.Errorf("list devices of %s", evil))
			for what, text := range map[string]string{"output": out.String(), "notes": notes.String(), "error": err.Error()} {
				if bad := steering(text); bad != "" && !(what == "error" && evil == "a\nPOD") {
					t.Errorf("%q: the %s %s has %q:\n%q", evil, format, what, bad, text)
				}
			}
			if format == "table" && strings.Count(out.String(), "\n") != 8 {
				t.Errorf("%q adds lines:\n%q", evil, out.String())
			}
			// Nor may `jq -r` print anything that steers.
			var plain any
			if format == "json" {
				if err := json.Unmarshal(out.Bytes(), &plain); err != nil || steering(fmt.Sprint(plain)) != "" {
					t.Errorf("%q: the JSON's strings are %v, %q", evil, err, plain)
				}
			}
		}
	}
}

// steering is the first thing in a text that a terminal would obey.
func steering(text string) string {
	for line := range strings.SplitSeq(text, "\n") {
		if visibleText(line) != line {
			return line
		}
	}
	return ""
}

func TestWhatCouldBeReadIsShownBesideTheError(t *testing.T) {
	for format, empty := range map[string]string{"table": "", "json": "{\n  \"taps\": [],\n  \"senders\": []\n}\n"} {
		for _, l := range []mirror.List{sample, {}} {
			var out, notes bytes.Buffer
			err := show(&out, &notes, format, inventory.Of(l), errors.Join(errors.New("list devices"), unix.EPERM))
			if err == nil || !strings.Contains(err.Error(), "list devices") || !strings.Contains(err.Error(), "run it as root") || notes.Len() > 0 {
				t.Errorf("%s: %v; notes %q", format, err, &notes)
			}
			if shown := out.String(); len(l.Taps) == 0 && shown != empty || len(l.Taps) > 0 && !strings.Contains(shown, "default/web") {
				t.Errorf("%s shows %q", format, shown)
			}
		}
	}
}

func TestAWrongListIsExplained(t *testing.T) {
	for command, says := range map[string]string{
		"list --node worker1":          "list --node takes no names, such as \"worker1\"; it lists the node that it runs on",
		"list --node -A":               "--all-namespaces is for a cluster",
		"list --node -n prod":          "--namespace is for a cluster; list --node lists all taps",
		"list --node --context c":      "--context is for a cluster",
		"list -o xml":                  `--output "xml" is unknown; known are table, wide, json and yaml`,
		"list --node --output=":        "known are table, wide, json and yaml",
		"list --nodes":                 "unknown flag: --nodes",
		"list --kubeconfig /none":      "/none",
		"doctor -o wide":               `--output "wide" is unknown; known are table, json and yaml`,
		"doctor worker1":               `unknown command "worker1"`,
		"doctor --kubeconfig /none -o": "flag needs an argument",
	} {
		if out, err := run(strings.Fields(command)...); err == nil || !strings.Contains(err.Error(), says) || out != "" {
			t.Errorf("%s: %v; want %q; output %q", command, err, says, out)
		}
	}
	for _, words := range []string{"list --node", "-o json", "as root", "exit code", "kubectl debug node/", "--profile=sysadmin", "pods/portforward", "list -n prod"} {
		if out, err := run("list", "--help"); err != nil || !strings.Contains(out, words) {
			t.Errorf("list --help does not say %q (%v):\n%s", words, err, out)
		}
	}
}

func TestWithoutAKubeconfigTheWayOnIsTold(t *testing.T) {
	t.Setenv("KUBECONFIG", "/none")
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	for _, command := range []string{"list", "doctor"} {
		if out, err := run(command); err == nil || out != "" || !strings.Contains(err.Error(), "there is no kubeconfig; name one with --kubeconfig") ||
			!strings.Contains(err.Error(), "list --node") {
			t.Errorf("%s: %v, %q", command, err, out)
		}
	}
}
