package tap

import (
	"strings"
	"testing"
)

// taken says which names are those of devices that are there.
func taken(names ...string) func(string) bool {
	return func(name string) bool {
		for _, n := range names {
			if n == name {
				return true
			}
		}
		return false
	}
}

func TestTapsWithoutADeviceGetTheNextFreeName(t *testing.T) {
	for _, c := range []struct {
		what  string
		taps  string
		taken []string
		want  string
	}{
		{"one", "- veth:", nil, "mirror"},
		{"three", "- veth:\n- wire:\n- veth:", nil, "mirror mirror1 mirror2"},
		{"taken", "- veth:\n- veth:", []string{"mirror", "mirror2"}, "mirror1 mirror3"},
		{"named before", "- {device: mirror, veth: }\n- veth:", nil, "mirror mirror1"},
		{"named after", "- veth:\n- veth:\n- {device: mirror1, veth: }", nil, "mirror mirror2 mirror1"},
		{"named and taken", "- veth:\n- {device: mirror, veth: }\n- veth:", []string{"mirror1"}, "mirror2 mirror mirror3"},
		// A tap that is there already keeps its name: only those without one look for a free one.
		{"named as taken", "- {device: cap0, veth: }\n- veth:", []string{"cap0"}, "cap0 mirror"},
		{"sixteen", strings.Repeat("- veth:\n", 16), nil,
			"mirror mirror1 mirror2 mirror3 mirror4 mirror5 mirror6 mirror7 mirror8 mirror9 mirror10 mirror11 mirror12 mirror13 mirror14 mirror15"},
	} {
		taps := parse(t, c.taps)
		if err := Complete(taps, "eth0", taken(c.taken...)); err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		var got []string
		for _, tap := range taps {
			got = append(got, tap.Device)
		}
		equal(t, c.what, strings.Join(got, " "), c.want)
	}
}

func TestTapsWithoutAnInterfaceGetTheSurroundings(t *testing.T) {
	taps := parse(t, "[veth: {}, {interface: net1, veth: {}}, wire: {}, {vxlan: {vni: 1, remote: 198.18.0.9}}]")
	if err := Complete(taps, "eth7", taken()); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, tap := range taps {
		got = append(got, tap.Interface)
	}
	equal(t, "interfaces", got, []string{"eth7", "net1", "eth7", "eth7"})
}

func TestDuplicateNamesAreRefusedTogether(t *testing.T) {
	taps := parse(t, `
- {device: cap0, veth: {hostInterface: h}}
- {device: cap1, wire: {hostInterface: h}}
- {device: cap0, veth: }
- {device: cap0, vxlan: {vni: 1, remote: 198.18.0.9}}
`)
	err := Complete(taps, "eth0", taken())
	errs, ok := err.(Errors)
	if !ok {
		t.Fatalf("error is %#v, want Errors", err)
	}
	equal(t, "message", strings.Split(errs.Error(), "; tap"), []string{
		`tap 2 ("cap1"): wire.hostInterface: "h" is the name of tap 1's too; each needs its own`,
		` 3 ("cap0"): device: "cap0" is the name of tap 1's too; each needs its own`,
		` 4 ("cap0"): device: "cap0" is the name of tap 1's too; each needs its own`,
	})
	if taps[0].Interface != "" {
		t.Error("taps are changed although they were refused")
	}
}

func TestADeviceMayHaveTheNameOfAHostInterface(t *testing.T) {
	// They are in different network namespaces.
	taps := parse(t, "[{device: a, veth: {hostInterface: a}}, {device: b, veth: {hostInterface: c}}]")
	if err := Complete(taps, "eth0", taken()); err != nil {
		t.Error(err)
	}
}

func TestTapsOfSeveralSourcesAreAtMostSixteen(t *testing.T) {
	// Each source may be within the limit while both together are not.
	taps := append(parse(t, strings.Repeat("- veth:\n", 10)), parse(t, strings.Repeat("- veth:\n", 7))...)
	err := Complete(taps, "eth0", taken())
	if _, ok := err.(Errors); !ok || err.Error() != "17 taps are too many; a pod may have at most 16" {
		t.Errorf("error is %#v", err)
	}
	if err := Complete(taps[:16], "eth0", taken()); err != nil {
		t.Errorf("16 taps: %v", err)
	}
	if err := Complete(nil, "eth0", taken()); err != nil {
		t.Errorf("no taps: %v", err)
	}
}
