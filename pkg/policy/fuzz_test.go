package policy

import (
	"encoding/json"
	"net"
	"net/netip"
	"path"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/podtap/podtap/pkg/tap"
)

// The corpus is in testdata/fuzz/FuzzParse; here is what is too large for it.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"rules":[` + strings.Repeat(`{"x":1},`, 2000) + `{}]}`))
	f.Add([]byte(`{"` + strings.Repeat("z", 1<<20) + `":1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Parse(text)
		again, errAgain := Parse(text)
		if !reflect.DeepEqual(p, again) || (err == nil) != (errAgain == nil) || err != nil && err.Error() != errAgain.Error() {
			t.Errorf("two answers: %+v, %v and %+v, %v", p, err, again, errAgain)
		}
		if err != nil {
			checkError(t, err, len(text))
			if !reflect.DeepEqual(p, Policy{}) {
				t.Errorf("a policy beside the error: %+v", p)
			}
			return
		}
		if p.MaxTaps < 0 || p.MaxTaps > tap.MaxTaps {
			t.Errorf("MaxTaps = %d", p.MaxTaps)
		}
		for _, r := range p.Rules {
			checkRanges(t, r.Ports, 65535)
			checkRanges(t, r.VNIs, tap.MaxVNI)
			if b := r.MaxBitrate; b != 0 && (b < 64_000 || b > 1_000_000_000_000) {
				t.Errorf("bitrate %d", b)
			}
			for _, list := range [][]netip.Prefix{r.Destinations, r.Addresses} {
				for _, d := range list {
					if !d.IsValid() || d != d.Masked() || d.Addr().Is4In6() {
						t.Errorf("prefix %v", d)
					}
				}
			}
		}
		for _, wanted := range []tap.Tap{veth, vethHost, wireHost, vxlan("198.18.0.9"), vxlan("2001:db8::9", inPod)} {
			for _, namespace := range []string{"", "prod-eu"} {
				if err := p.Allow(wanted, tap.MaxTaps, namespace); err == nil {
					t.Error("a 17th tap is allowed")
				}
			}
		}
	})
}

// checkError insists on a message that has a line for each mistake, which says
// where in the policy it is, and that the mistake is shown no longer than it is.
func checkError(t *testing.T, err error, size int) {
	t.Helper()
	for _, line := range strings.Split(err.Error(), "\n") {
		// Quoting makes 4 bytes of one that does not print, at most.
		if !strings.HasPrefix(line, "policy") || len(line) > 512+4*size || !utf8.ValidString(line) {
			t.Errorf("line of %d bytes for a policy of %d: %.600q", len(line), size, line)
		}
	}
}

func checkRanges(t *testing.T, ranges []Range, most uint32) {
	t.Helper()
	for _, r := range ranges {
		if r.First < 1 || r.First > r.Last || r.Last > most {
			t.Errorf("range %v is not within 1-%d", r, most)
		}
	}
}

// FuzzAllow decides on taps as their author writes them, under a policy as its
// administrator does, and holds the answers against another reading of both.
func FuzzAllow(f *testing.F) {
	f.Fuzz(func(t *testing.T, policy, taps []byte, namespace string, before uint8) {
		p, err := Parse(policy)
		if err != nil {
			return
		}
		wanted, err := tap.Parse(taps)
		if err != nil {
			return
		}
		for i, w := range wanted {
			index := int(before)%(tap.MaxTaps+2) + i
			err, again := p.Allow(w, index, namespace), p.Allow(w, index, namespace)
			if (err == nil) != (again == nil) || err != nil && err.Error() != again.Error() {
				t.Errorf("two answers: %v and %v", err, again)
			}
			if want := allowed(t, policy, w, index, namespace); (err == nil) != want {
				t.Errorf("tap %+v, the pod's %dth, in namespace %q is answered %v; want it allowed: %v", w, index+1, namespace, err, want)
			}
			// At most 32 addresses of a wire are objected to, each with 5 prefixes.
			if err != nil && (err.Error() == "" || len(err.Error()) > 16<<10+4*(len(policy)+2*len(namespace))) {
				t.Errorf("message of %d bytes: %.600q", len(err.Error()), err)
			}
			if closed := index < 16 && w.Veth != nil && w.Veth.HostInterface == ""; (Closed().Allow(w, index, namespace) == nil) != closed {
				t.Errorf("without a policy %+v is allowed: %v", w, !closed)
			}
			checkRefused(t, w)
		}
	})
}

// checkRefused insists that a collector in the pod, and another device's network,
// are refused, and nothing else is.
func checkRefused(t *testing.T, w tap.Tap) {
	t.Helper()
	if w.VXLAN == nil {
		if err := Refused(w, facts); err != nil {
			t.Errorf("refused to all: %v", err)
		}
		return
	}
	v := *w.VXLAN
	for _, c := range []struct {
		facts Facts
		want  bool
	}{
		{Facts{}, false},
		{Facts{PodAddresses: []netip.Addr{v.Remote.Next()}, NodeVXLANs: []NodeVXLAN{{"a", v.Port + 1, v.VNI}, {"b", v.Port, v.VNI + 1}}}, false},
		{Facts{PodAddresses: []netip.Addr{v.Remote.Next(), v.Remote}}, true},
		{Facts{NodeVXLANs: []NodeVXLAN{{"a", v.Port + 1, v.VNI}, {"c", v.Port, v.VNI}}}, true},
	} {
		if err := Refused(w, c.facts); (err != nil) != c.want || err != nil && (len(err.Error()) == 0 || len(err.Error()) > 512) {
			t.Errorf("%+v with %+v is answered %v; want it refused: %v", v, c.facts, err, c.want)
		}
	}
}

// allowed reads a policy as the reference words it: of a policy without mistakes
// it says whether a tap, the pod's index-th, may be made.
func allowed(t *testing.T, policy []byte, w tap.Tap, index int, namespace string) bool {
	t.Helper()
	var p struct {
		MaxTaps *int               `json:"maxTaps"`
		Rules   *[]json.RawMessage `json:"rules"`
	}
	if err := json.Unmarshal(policy, &p); err != nil && len(policy) > 0 {
		t.Fatalf("%v in %s", err, policy)
	}
	if index >= 16 || p.MaxTaps != nil && index >= *p.MaxTaps {
		return false
	}
	if p.Rules == nil {
		return w.Veth != nil && w.Veth.HostInterface == ""
	}
	for _, text := range *p.Rules {
		var r wordedRule
		if err := json.Unmarshal(text, &r); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		if r.allows(w, namespace) {
			return true
		}
	}
	return false
}

// wordedRule is a rule as the reference words it: a second reading for FuzzAllow,
// out of other functions of the standard library.
type wordedRule struct {
	Namespaces   []string `json:"namespaces"`
	Sinks        []string `json:"sinks"`
	Destinations []string `json:"destinations"`
	Ports        []string `json:"ports"`
	VNIs         []string `json:"vnis"`
	Placements   []string `json:"placements"`
	Addresses    []string `json:"addresses"`
	HostNames    bool     `json:"hostNames"`
	MaxBitrate   *string  `json:"maxBitrate"`
}

func (r wordedRule) allows(w tap.Tap, namespace string) bool {
	named := func(pattern string) bool {
		ok, err := path.Match(pattern, namespace)
		return ok && err == nil && namespace != ""
	}
	if r.Namespaces != nil && !slices.ContainsFunc(r.Namespaces, named) || w.HostInterface() != "" && !r.HostNames {
		return false
	}
	if r.MaxBitrate != nil && w.Wire == nil && (w.MaxBitrate == 0 || int(w.MaxBitrate) > bitsPerSecond(*r.MaxBitrate)) {
		return false
	}
	switch {
	case w.Veth != nil:
		return r.Sinks == nil || slices.Contains(r.Sinks, "veth")
	case w.Wire != nil:
		if r.Addresses != nil {
			for _, a := range slices.Concat(w.Wire.Addresses, w.Wire.HostAddresses) {
				if !coveredBy(r.Addresses, a) {
					return false
				}
			}
		}
		return slices.Contains(r.Sinks, "wire")
	}
	v := w.VXLAN
	return slices.Contains(r.Sinks, "vxlan") &&
		coveredBy(r.Destinations, netip.PrefixFrom(v.Remote, v.Remote.BitLen())) &&
		(r.Ports == nil && v.Port == 4789 || numbered(r.Ports, int(v.Port))) &&
		(r.VNIs == nil || numbered(r.VNIs, int(v.VNI))) &&
		(r.Placements == nil && v.Placement == "node" || slices.Contains(r.Placements, string(v.Placement)))
}

// bitsPerSecond reads a bitrate that has no mistake: a prefix is so many zeros.
func bitsPerSecond(s string) int {
	n, _ := strconv.Atoi(strings.NewReplacer("k", "000", "M", "000000", "G", "000000000", "T", "000000000000").Replace(s))
	return n
}

// coveredBy says whether all of a network is within one of the prefixes.
func coveredBy(prefixes []string, network netip.Prefix) bool {
	return slices.ContainsFunc(prefixes, func(s string) bool {
		if a := net.ParseIP(s); a != nil {
			return network.Bits() == network.Addr().BitLen() && a.Equal(network.Addr().AsSlice())
		}
		_, outer, err := net.ParseCIDR(s)
		if err != nil {
			return false
		}
		bits, _ := outer.Mask.Size()
		return outer.Contains(network.Addr().AsSlice()) && bits <= network.Bits()
	})
}

// numbered says whether a number is one of those, or in one of the ranges, listed.
func numbered(list []string, n int) bool {
	return slices.ContainsFunc(list, func(s string) bool {
		first, last, isRange := strings.Cut(s, "-")
		if !isRange {
			last = first
		}
		a, errA := strconv.Atoi(strings.TrimSpace(first))
		b, errB := strconv.Atoi(strings.TrimSpace(last))
		return errA == nil && errB == nil && a <= n && n <= b
	})
}
