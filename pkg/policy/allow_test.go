package policy

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/podtap/podtap/pkg/tap"
)

var (
	veth     = tap.Tap{Device: "mirror", Direction: tap.Both, Veth: &tap.Veth{}}
	vethHost = tap.Tap{Device: "mirror", Direction: tap.Both, Veth: &tap.Veth{HostInterface: "br0"}}
	wire     = tap.Tap{Device: "wire", Wire: &tap.Wire{Addresses: []netip.Prefix{netip.MustParsePrefix("198.18.0.2/24")}}}
	wireHost = tap.Tap{Device: "wire", Wire: &tap.Wire{HostInterface: "br0"}}
)

// vxlan is a tap with VNI 100 to a collector's address.
func vxlan(remote string, change ...func(*tap.VXLAN)) tap.Tap {
	v := &tap.VXLAN{VNI: 100, Remote: netip.MustParseAddr(remote), Port: tap.DefaultPort, TTL: tap.DefaultTTL,
		Placement: tap.PlacementNode, Oversize: tap.Fragment}
	for _, f := range change {
		f(v)
	}
	return tap.Tap{Device: "mirror", Direction: tap.Both, VXLAN: v}
}

func port(n uint16) func(*tap.VXLAN) { return func(v *tap.VXLAN) { v.Port = n } }
func vni(n uint32) func(*tap.VXLAN)  { return func(v *tap.VXLAN) { v.VNI = n } }
func inPod(v *tap.VXLAN)             { v.Placement = tap.PlacementPod }

// toAnywhere begins a rule that has nothing against the destination.
const toAnywhere = `"sinks":["vxlan"],"destinations":["198.18.0.0/15","2001:db8::/32"]`

func TestARuleAllowsWhatIsWithinAllItsLists(t *testing.T) {
	for _, c := range []struct {
		rule, namespace string
		tap             tap.Tap
		objection       string // "" where the rule allows the tap
	}{
		// namespaces: left out, all, even where the pod's is unknown
		{`{}`, "web", veth, ""},
		{`{}`, "", veth, ""},
		{`{"namespaces":["web"]}`, "web", veth, ""},
		{`{"namespaces":["db","prod-*"]}`, "prod-eu", veth, ""},
		{`{"namespaces":["prod-??"]}`, "prod-eu", veth, ""},
		{`{"namespaces":["prod-*"]}`, "prod", veth, `namespace prod is not in its namespaces (prod-*); adding "prod" there allows it`},
		{`{"namespaces":["prod-*"]}`, "my-prod-eu", veth, "namespace my-prod-eu is not in its namespaces"},
		{`{"namespaces":["web"]}`, "web2", veth, "namespace web2 is not in its namespaces"},
		{`{"namespaces":["web"]}`, "Web", veth, "namespace Web is not in its namespaces"},
		{`{"namespaces":[]}`, "web", veth, `namespace web is not in its namespaces (empty); adding "web"`},
		{`{"namespaces":["*"]}`, "", veth, "the pod's namespace is unknown, and the rule names namespaces"},
		{`{"namespaces":["*"]}`, "web", veth, ""},

		// sinks: left out, veth
		{`{"sinks":["veth"]}`, "web", veth, ""},
		{`{"sinks":["vxlan","wire"]}`, "web", veth, `sink veth is not in its sinks (vxlan, wire); adding "veth" there allows it`},
		{`{"sinks":[]}`, "web", veth, "sink veth is not in its sinks (empty)"},
		{`{"destinations":["198.18.0.0/15"]}`, "web", vxlan("198.18.0.9"), `sink vxlan is not in its sinks (veth); adding "vxlan" there allows it`},
		{`{}`, "web", wire, `sink wire is not in its sinks (veth); adding "wire" there allows it`},
		{`{"sinks":["veth","vxlan"]}`, "web", wire, "sink wire is not in its sinks (veth, vxlan)"},
		{`{"sinks":["wire"]}`, "web", wire, ""},

		// destinations: left out, none
		{`{"sinks":["vxlan"]}`, "web", vxlan("198.18.0.9"), `destination 198.18.0.9 is not in its destinations (empty); adding "198.18.0.9" there allows it`},
		{`{"sinks":["vxlan"],"destinations":[]}`, "web", vxlan("198.18.0.9"), "destination 198.18.0.9 is not in its destinations (empty)"},
		{`{` + toAnywhere + `}`, "web", vxlan("198.19.255.255"), ""},
		{`{` + toAnywhere + `}`, "web", vxlan("2001:db8::9"), ""},
		{`{` + toAnywhere + `}`, "web", vxlan("198.20.0.0"), `destination 198.20.0.0 is not in its destinations (198.18.0.0/15, 2001:db8::/32); adding "198.20.0.0"`},
		{`{` + toAnywhere + `}`, "web", vxlan("2001:db9::9"), "destination 2001:db9::9 is not in its destinations"},
		{`{"sinks":["vxlan"],"destinations":["198.18.0.9"]}`, "web", vxlan("198.18.0.9"), ""},
		{`{"sinks":["vxlan"],"destinations":["198.18.0.9"]}`, "web", vxlan("198.18.0.8"), "destination 198.18.0.8 is not in its destinations"},
		{`{"sinks":["vxlan"],"destinations":["0.0.0.0/0"]}`, "web", vxlan("2001:db8::9"), "destination 2001:db8::9 is not in its destinations"},

		// ports: left out, 4789
		{`{` + toAnywhere + `}`, "web", vxlan("198.18.0.9", port(4790)), `port 4790 is not in its ports (4789); adding "4790" there allows it`},
		{`{` + toAnywhere + `,"ports":[]}`, "web", vxlan("198.18.0.9"), "port 4789 is not in its ports (empty)"},
		{`{` + toAnywhere + `,"ports":["53","8000-8999"]}`, "web", vxlan("198.18.0.9", port(53)), ""},
		{`{` + toAnywhere + `,"ports":["53","8000-8999"]}`, "web", vxlan("198.18.0.9", port(8000)), ""},
		{`{` + toAnywhere + `,"ports":["53","8000-8999"]}`, "web", vxlan("198.18.0.9", port(8999)), ""},
		{`{` + toAnywhere + `,"ports":["53","8000-8999"]}`, "web", vxlan("198.18.0.9", port(7999)), "port 7999 is not in its ports (53, 8000-8999)"},
		{`{` + toAnywhere + `,"ports":["53","8000-8999"]}`, "web", vxlan("198.18.0.9", port(9000)), "port 9000 is not in its ports"},
		{`{` + toAnywhere + `,"ports":["53"]}`, "web", vxlan("198.18.0.9"), "port 4789 is not in its ports (53)"},

		// vnis: left out, all
		{`{` + toAnywhere + `}`, "web", vxlan("198.18.0.9", vni(tap.MaxVNI)), ""},
		{`{` + toAnywhere + `,"vnis":[]}`, "web", vxlan("198.18.0.9"), "VNI 100 is not in its vnis (empty)"},
		{`{` + toAnywhere + `,"vnis":["100-199"]}`, "web", vxlan("198.18.0.9", vni(199)), ""},
		{`{` + toAnywhere + `,"vnis":["100-199"]}`, "web", vxlan("198.18.0.9", vni(99)), `VNI 99 is not in its vnis (100-199); adding "99" there allows it`},
		{`{` + toAnywhere + `,"vnis":["100-199"]}`, "web", vxlan("198.18.0.9", vni(200)), "VNI 200 is not in its vnis"},

		// placements: left out, node
		{`{` + toAnywhere + `}`, "web", vxlan("198.18.0.9", inPod), `placement pod is not in its placements (node); adding "pod" there allows it`},
		{`{` + toAnywhere + `,"placements":["pod"]}`, "web", vxlan("198.18.0.9", inPod), ""},
		{`{` + toAnywhere + `,"placements":["pod"]}`, "web", vxlan("198.18.0.9"), "placement node is not in its placements (pod)"},
		{`{` + toAnywhere + `,"placements":[]}`, "web", vxlan("198.18.0.9"), "placement node is not in its placements (empty)"},

		// hostNames: left out, no
		{`{}`, "web", vethHost, `hostInterface br0 is a name of the pod's own choice; leaving it out, or "hostNames": true in the rule, allows it`},
		{`{"hostNames":false}`, "web", vethHost, "hostInterface br0 is a name of the pod's own choice"},
		{`{"hostNames":true}`, "web", vethHost, ""},
		{`{"sinks":["wire"]}`, "web", wireHost, "hostInterface br0 is a name of the pod's own choice"},
		{`{"sinks":["wire"],"hostNames":true}`, "web", wireHost, ""},

		// what is only of vxlan does not concern the others
		{`{"destinations":[],"ports":[],"vnis":[],"placements":[]}`, "web", veth, ""},
		{`{"sinks":["wire"],"destinations":[],"ports":[],"vnis":[],"placements":[]}`, "web", wire, ""},
	} {
		err := parsed(t, `{"rules":[`+c.rule+`]}`).Allow(c.tap, 0, c.namespace)
		if c.objection != "" {
			c.objection = "policy.rules[0] comes closest, but: " + c.objection
		}
		expect(t, c.rule+" in namespace "+c.namespace, err, c.objection)
		if err != nil && strings.Count(err.Error(), "; ") > 1 {
			t.Errorf("%s: more than one objection: %v", c.rule, err)
		}
	}
}

// expect insists on an error with some words, or on none.
func expect(t *testing.T, what string, err error, words string) {
	t.Helper()
	switch {
	case words == "" && err != nil:
		t.Errorf("%s: refused: %v", what, err)
	case words != "" && err == nil:
		t.Errorf("%s: allowed, want %q", what, words)
	case words != "" && !strings.Contains(err.Error(), words):
		t.Errorf("%s:\nmessage %q\nlacks %q", what, err, words)
	}
}

func TestWithoutAPolicyOnlyVethWithAGeneratedNameIsAllowed(t *testing.T) {
	p := Closed()
	expect(t, "veth", p.Allow(veth, 0, "web"), "")
	expect(t, "veth of an unknown namespace", p.Allow(veth, 15, ""), "")
	expect(t, "veth with a name", p.Allow(vethHost, 0, "web"), "policy.rules[0] comes closest, but: hostInterface br0")
	expect(t, "wire", p.Allow(wire, 0, "web"), "sink wire is not in its sinks (veth)")
	expect(t, "vxlan", p.Allow(vxlan("198.18.0.9"), 0, "web"), "sink vxlan is not in its sinks (veth)")
}

func TestWithoutRulesNothingIsAllowed(t *testing.T) {
	p := parsed(t, `{"rules": []}`)
	for _, forbidden := range []tap.Tap{veth, wire, vxlan("198.18.0.9")} {
		expect(t, "no rules", p.Allow(forbidden, 0, "web"), "the policy has no rules and allows nothing; an administrator can add one to policy.rules")
	}
}

func TestAnyRuleThatAllowsAllOfATapIsEnough(t *testing.T) {
	p := parsed(t, `{"rules": [{"namespaces":["db"]}, {"namespaces":["prod-*"],`+toAnywhere+`}, {"namespaces":["web"],`+toAnywhere+`,"vnis":["7"]}]}`)
	expect(t, "by the first", p.Allow(veth, 0, "db"), "")
	expect(t, "by the second", p.Allow(vxlan("198.18.0.9"), 0, "prod-eu"), "")
	expect(t, "by the third", p.Allow(vxlan("198.18.0.9", vni(7)), 0, "web"), "")
	// Each half is allowed by another rule, the whole by none.
	expect(t, "by halves", p.Allow(vxlan("198.18.0.9"), 0, "web"), "policy.rules[1] comes closest, but: namespace web")
}

func TestTheClosestRuleIsTheOneWithTheFewestObjections(t *testing.T) {
	p := parsed(t, `{"rules": [{"namespaces":["db"]}, {`+toAnywhere+`,"vnis":["7"],"placements":["pod"]}, {`+toAnywhere+`,"vnis":["8"]}, {`+toAnywhere+`,"vnis":["9"]}]}`)
	err := p.Allow(vxlan("198.18.0.9"), 0, "web")
	const want = `policy.rules[2] comes closest, but: VNI 100 is not in its vnis (8); adding "100" there allows it`
	if err == nil || err.Error() != want {
		t.Errorf("message is %v\nwant %s", err, want)
	}
}

func TestAllObjectionsOfTheClosestRuleAreNamed(t *testing.T) {
	p := parsed(t, `{"rules": [{"namespaces":["db"],"ports":["53"],"vnis":["7"],"placements":["pod"]}]}`)
	err := p.Allow(vxlan("198.18.0.9"), 0, "web")
	if err == nil {
		t.Fatal("allowed")
	}
	for _, word := range []string{"policy.rules[0]", "namespace web", "sink vxlan", "destination 198.18.0.9", "port 4789", "VNI 100", "placement node"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("message %q lacks %q", err, word)
		}
	}
}

func TestALongListIsShownByItsFirstEntries(t *testing.T) {
	p := parsed(t, `{"rules": [{"namespaces":["a","b","c","d","e","f","g"]}]}`)
	expect(t, "seven namespaces", p.Allow(veth, 0, "web"), "(a, b, c, d, e, and 2 more)")
}

func TestMaxTapsCountsFromTheFirstTap(t *testing.T) {
	p := parsed(t, `{"maxTaps": 2}`)
	expect(t, "first", p.Allow(veth, 0, "web"), "")
	expect(t, "second", p.Allow(veth, 1, "web"), "")
	for _, index := range []int{2, 15} {
		expect(t, "more", p.Allow(veth, index, "web"), "more taps than the 2 that policy.maxTaps allows")
	}
	expect(t, "none", parsed(t, `{"maxTaps": 0}`).Allow(veth, 0, "web"), "more taps than the 0 that policy.maxTaps allows")
	expect(t, "sixteenth", Closed().Allow(veth, 15, "web"), "")
}

func TestAWiresAddressesMayBeBounded(t *testing.T) {
	taps, err := tap.Parse([]byte(`{device: w, wire: {addresses: [198.19.0.2/24], hostAddresses: [198.19.0.1/24, "fd00:19::1/64"]}}`))
	if err != nil {
		t.Fatal(err)
	}
	for list, says := range map[string]string{
		``:                                 "",
		`["198.19.0.0/16","fd00::/8"]`:     "",
		`["198.19.0.0/24","fd00:19::/64"]`: "",
		`["198.19.0.0/24"]`:                `address fd00:19::1/64 is not in its addresses (198.19.0.0/24); adding "fd00:19::/64" there allows it`,
		`["198.19.0.0/25","fd00::/8"]`:     "address 198.19.0.2/24 is not in its addresses",
		`[]`:                               "is not in its addresses (empty)",
	} {
		rule := `{"sinks": ["wire"]}`
		if list != "" {
			rule = `{"sinks": ["wire"], "addresses": ` + list + `}`
		}
		p, err := Parse([]byte(`{"rules": [` + rule + `]}`))
		if err != nil {
			t.Fatal(err)
		}
		err = p.Allow(taps[0], 0, "default")
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says)) {
			t.Errorf("addresses %s: %v; want %q", list, err, says)
		}
	}
}
