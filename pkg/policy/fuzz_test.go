package policy

import (
	"reflect"
	"strings"
	"testing"

	"github.com/podtap/podtap/pkg/tap"
)

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "null", "{}", "[]", `{"maxTaps":3}`, `{"maxTaps":-1}`, `{"rules":[]}`, `{"rules":[null,{}]}`, `{"x":1}`,
		`{"rules":[{"namespaces":["prod-*","["],"sinks":["veth","vxlan","wire"],"hostNames":true}]}`,
		`{"rules":[{"destinations":["198.18.0.0/15","2001:db8::9","::ffff:1.2.3.4"],"ports":["4789","1-65535"],"vnis":["100-199"],"placements":["pod"]}]}`,
		`{"rules":[7,{"x":1},{"ports":[1]},[],{"sinks":["x"]}]}`, `{}{}`, `{}x`,
		`{"rules":[{"ports":["5-4"," 1 - 2 ","-"],"vnis":["0","16777216"],"destinations":["::/0","0.0.0.0/0","x/8"]}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Parse(text)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "policy") {
				t.Errorf("message %q does not say that it is of the policy", err)
			}
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
			for _, d := range r.Destinations {
				if !d.IsValid() || d != d.Masked() || d.Addr().Is4In6() {
					t.Errorf("destination %v", d)
				}
			}
		}
		for _, wanted := range []tap.Tap{veth, vethHost, wireHost, vxlan("198.18.0.9"), vxlan("2001:db8::9", inPod)} {
			for _, namespace := range []string{"", "prod-eu"} {
				if err := p.Allow(wanted, tap.MaxTaps, namespace); err == nil {
					t.Error("a 17th tap is allowed")
				}
				if err := p.Allow(wanted, 0, namespace); err != nil && err.Error() == "" {
					t.Error("the refusal has no message")
				}
			}
		}
	})
}

func checkRanges(t *testing.T, ranges []Range, most uint32) {
	t.Helper()
	for _, r := range ranges {
		if r.First < 1 || r.First > r.Last || r.Last > most {
			t.Errorf("range %v is not within 1-%d", r, most)
		}
	}
}
