package tap

import (
	"bytes"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/podtap/podtap/pkg/pcapfilter"
)

// The corpus is in testdata/fuzz/FuzzParse; here is what is too large for it.
func FuzzParse(f *testing.F) {
	f.Add(bytes.Repeat([]byte("# "), 512<<10))
	f.Add([]byte(strings.Repeat("[", 20000) + strings.Repeat("]", 20000)))
	f.Add([]byte("veth: {hostInterface: " + strings.Repeat("\U0010fffd", 10000) + "}"))
	f.Add([]byte(strings.Repeat("- {device: a a, interface: b b, direction: up, vxlan: {vni: 0}}\n", 16)))
	f.Fuzz(func(t *testing.T, text []byte) {
		taps, err := Parse(text)
		again, errAgain := Parse(text)
		if !reflect.DeepEqual(taps, again) || !reflect.DeepEqual(err, errAgain) {
			t.Errorf("two answers: %s, %v and %s, %v", show(taps), err, show(again), errAgain)
		}
		if err != nil {
			checkMistakes(t, err)
			if taps != nil {
				t.Errorf("taps beside the error: %s", show(taps))
			}
			return
		}
		if len(text) > MaxBytes || len(taps) > MaxTaps {
			t.Errorf("%d taps out of %d bytes", len(taps), len(text))
		}
		for _, tap := range taps {
			checkTap(t, tap)
		}
		roundTrip(t, taps)
		complete(t, taps)
	})
}

// complete has taps completed in a pod where the first two default names are taken.
func complete(t *testing.T, taps []Tap) {
	t.Helper()
	given := slices.Clone(taps)
	taken := func(name string) bool { return name == "mirror" || name == "mirror1" }
	if err := Complete(taps, "eth7", taken); err != nil {
		checkMistakes(t, err)
		// Names that were given twice are the only thing left to refuse.
		for _, mistake := range err.(Errors) {
			if !strings.Contains(mistake.Problem, "is the name of tap") {
				t.Errorf("Complete: %v", mistake)
			}
		}
		return
	}
	devices, hosts := map[string]bool{}, map[string]bool{"": true}
	for i, tap := range taps {
		checkTap(t, tap)
		want := given[i]
		if want.Interface == "" {
			want.Interface = "eth7"
		}
		if want.Device == "" {
			want.Device = tap.Device
			if !strings.HasPrefix(tap.Device, DefaultDevice) || taken(tap.Device) {
				t.Errorf("the default device of tap %d is %q", i+1, tap.Device)
			}
		}
		if tap.Device == "" || devices[tap.Device] || hosts[tap.HostInterface()] && tap.HostInterface() != "" || !reflect.DeepEqual(tap, want) {
			t.Errorf("taps were completed to %s, want what was given: %s", show(taps), show(given))
		}
		devices[tap.Device], hosts[tap.HostInterface()] = true, true
	}
	roundTrip(t, taps)
	once := slices.Clone(taps)
	if err := Complete(taps, "other", taken); err != nil || !reflect.DeepEqual(taps, once) {
		t.Errorf("completing a second time: %v, %s, want %s", err, show(taps), show(once))
	}
}

// checkMistakes insists on Errors that a log shows on one line, every rune of it.
func checkMistakes(t *testing.T, err error) {
	t.Helper()
	if errs, ok := err.(Errors); !ok || len(errs) == 0 {
		t.Errorf("error is a %T, want Errors", err)
	}
	checkMessage(t, err)
	if i := strings.IndexFunc(err.Error(), func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
		t.Errorf("byte %d of the message does not print: %q", i, err.Error())
	}
}

// checkTap holds a tap against what the reference says of each field.
func checkTap(t *testing.T, tap Tap) {
	t.Helper()
	sinks := 0
	for _, is := range []bool{tap.Veth != nil, tap.VXLAN != nil, tap.Wire != nil} {
		if is {
			sinks++
		}
	}
	ok := sinks == 1 && documentedName(tap.Interface) && newDevice(tap.Device) && newDevice(tap.HostInterface()) && documentedCopies(tap)
	if v := tap.VXLAN; v != nil {
		ok = ok && v.VNI >= 1 && v.VNI <= 16777215 && v.Port >= 1 && v.TTL >= 1 && collector(v.Remote) &&
			(v.Placement == "node" && slices.Contains([]Oversize{"", "fit", "fragment", "refuse"}, v.Oversize) ||
				v.Placement == "pod" && slices.Contains([]Oversize{"fragment", "refuse"}, v.Oversize) && tap.SnapLength == 0)
	}
	if w := tap.Wire; w != nil {
		seen := map[netip.Addr]bool{}
		least := 68
		for _, p := range slices.Concat(w.Addresses, w.HostAddresses) {
			a := p.Addr()
			ok = ok && p.Bits() > 0 && collector(a) && !seen[a]
			seen[a] = true
			if a.Is6() {
				least = 1280
			}
		}
		ok = ok && len(w.Addresses) <= 16 && len(w.HostAddresses) <= 16 && (w.MTU == 0 || w.MTU >= least && w.MTU <= 65535)
	}
	if !ok {
		t.Errorf("the reference does not allow %s", show(tap))
	}
}

// documentedCopies takes what the reference allows to be said of copies, and nothing where
// there are none.
func documentedCopies(tap Tap) bool {
	if tap.Wire != nil {
		return tap.Direction == "" && tap.Filter == "" && tap.SampleRate == 0 && tap.SnapLength == 0 && tap.MaxBitrate == 0
	}
	_, err := pcapfilter.Compile(tap.Filter, pcapfilter.Kernel)
	return err == nil && slices.Contains([]Direction{Ingress, Egress, Both}, tap.Direction) &&
		tap.SampleRate >= 1 && tap.SampleRate <= 1_000_000 &&
		(tap.SnapLength == 0 || tap.SnapLength >= 64) &&
		(tap.MaxBitrate == 0 || tap.MaxBitrate >= 64_000 && tap.MaxBitrate <= 1_000_000_000_000)
}

// collector says whether an address is one of one host's, on any network.
func collector(a netip.Addr) bool {
	return a.IsValid() && !a.Is4In6() && a.Zone() == "" && !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() &&
		!a.IsLinkLocalUnicast() && a.String() != "255.255.255.255"
}

func newDevice(name string) bool {
	return documentedName(name) && !slices.Contains([]string{"lo", "all", "default"}, name) && !strings.Contains(name, "%")
}

// documentedName takes names as the reference words it, and none at all.
func documentedName(name string) bool {
	odd := func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) || r == '/' || r == ':' }
	return len(name) <= 15 && name != "." && name != ".." && utf8.ValidString(name) && !strings.ContainsFunc(name, odd)
}
