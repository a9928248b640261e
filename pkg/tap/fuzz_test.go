package tap

import (
	"strings"
	"testing"
)

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "null", "5", "veth:", "- veth:\n- wire:", `[{"veth":{"hostInterface":"h"}}]`,
		"{device: a, interface: net1, direction: egress, veth: {}}",
		"vxlan: {vni: 100, remote: 198.18.0.9, port: 8472, ttl: 3, placement: pod, oversize: refuse}",
		`vxlan: {vni: 0x10, remote: "fe80::1%eth0"}`, "vxlan: {vni: 1e3, remote: 0.0.0.0}",
		`wire: {addresses: [198.18.0.2/24, "2001:db8::2/64"], hostAddresses: [198.18.0.1/24], mtu: 1280}`,
		"{veth: {}, filter: tcp}", "{1: 2}", "veth: {1: 2}", "{device: 2001-01-01, veth: {}}",
		"a: &a [x,x]\nb: [*a,*a]", "a: &a {veth: }\n<<: *a", "<<: {veth: {}}", "{veth: {}, veth: }", "? [a]\n: 1",
		"vxlan: {vni: 0100, port: 0x10, ttl: 1_0, remote: \"fe80::1%\\e\"}", "wire: {mtu: 100.0, addresses: [1.1.1.1/8, 1.1.1.1/9]}", "vxlan: !x y", "{veth: {}} x", "veth: !!binary aGk=", "veth:\n---\nveth:", "[[[[", "\ufeffveth:", "veth: \xff",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		taps, err := Parse(text)
		if err != nil {
			if _, ok := err.(Errors); !ok {
				t.Errorf("error is a %T, want Errors", err)
			}
			checkMessage(t, err)
			return
		}
		roundTrip(t, taps)
		// Names that were given twice are the only thing left to refuse.
		if err := Complete(taps, "eth0", func(string) bool { return false }); err != nil {
			if !strings.Contains(err.Error(), "is the name of tap") {
				t.Errorf("Complete: %v", err)
			}
			return
		}
		devices := map[string]bool{}
		for _, tap := range taps {
			if !ValidDeviceName(tap.Device) || devices[tap.Device] || tap.Interface == "" {
				t.Errorf("completed taps are not whole: %s", show(taps))
			}
			devices[tap.Device] = true
		}
		roundTrip(t, taps)
	})
}
