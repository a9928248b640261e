package policy

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/podtap/podtap/pkg/tap"
)

// parsed is Parse of a text that has to be fine.
func parsed(t *testing.T, text string) Policy {
	t.Helper()
	p, err := Parse([]byte(text))
	if err != nil {
		t.Fatalf("Parse(%s): %v", text, err)
	}
	return p
}

// refused insists that a text is, and that the message has some words.
func refused(t *testing.T, text string, words ...string) {
	t.Helper()
	p, err := Parse([]byte(text))
	if err == nil {
		t.Errorf("Parse(%s) = %+v, want an error", text, p)
		return
	}
	if !reflect.DeepEqual(p, Policy{}) {
		t.Errorf("Parse(%s) returns a policy beside its error: %+v", text, p)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("Parse(%s):\nmessage %q\nlacks %q", text, err, word)
		}
	}
}

func TestNoPolicyIsTheClosedOne(t *testing.T) {
	want := Policy{MaxTaps: 16, Rules: []Rule{{}}}
	if !reflect.DeepEqual(Closed(), want) {
		t.Errorf("Closed() = %+v, want %+v", Closed(), want)
	}
	for _, text := range []string{"", "null", "{}", `{"rules":null}`, `{"maxTaps":null}`} {
		if p := parsed(t, text); !reflect.DeepEqual(p, want) {
			t.Errorf("Parse(%q) = %+v, want %+v", text, p, want)
		}
	}
}

func TestRulesLeftOutAreThoseOfTheClosedPolicy(t *testing.T) {
	p := parsed(t, `{"maxTaps": 2}`)
	if want := (Policy{MaxTaps: 2, Rules: Closed().Rules}); !reflect.DeepEqual(p, want) {
		t.Errorf("policy is %+v, want %+v", p, want)
	}
}

func TestAnEmptyListOfRulesStaysEmpty(t *testing.T) {
	if p := parsed(t, `{"rules": []}`); len(p.Rules) != 0 || p.MaxTaps != 16 {
		t.Errorf("policy is %+v, want no rules and 16 taps", p)
	}
}

func TestEveryListIsRead(t *testing.T) {
	p := parsed(t, `{"maxTaps": 3, "rules": [
		{"namespaces": ["prod-*", "web"], "sinks": ["veth", "vxlan", "wire"], "hostNames": true, "maxBitrate": "1G",
		 "destinations": ["198.18.0.9", "198.19.7.7/15", "2001:db8::/32", "2001:db8::9", "::ffff:198.18.0.1", "0.0.0.0/0"],
		 "ports": ["4789", "8000 - 8999", "1-65535"], "vnis": ["100-199", "16777215"], "placements": ["node", "pod"]},
		{"namespaces": [], "sinks": [], "destinations": [], "ports": [], "vnis": [], "placements": []},
		{}]}`)
	prefix := netip.MustParsePrefix
	want := Policy{MaxTaps: 3, Rules: []Rule{
		{
			Namespaces: []string{"prod-*", "web"}, Sinks: []tap.Sink{tap.SinkVeth, tap.SinkVXLAN, tap.SinkWire}, HostNames: true, MaxBitrate: 1_000_000_000,
			// A single address is its own prefix, and bits behind a prefix do not matter.
			Destinations: []netip.Prefix{prefix("198.18.0.9/32"), prefix("198.18.0.0/15"), prefix("2001:db8::/32"),
				prefix("2001:db8::9/128"), prefix("198.18.0.1/32"), prefix("0.0.0.0/0")},
			Ports:      []Range{{4789, 4789}, {8000, 8999}, {1, 65535}},
			VNIs:       []Range{{100, 199}, {tap.MaxVNI, tap.MaxVNI}},
			Placements: []tap.Placement{tap.PlacementNode, tap.PlacementPod},
		},
		// An empty list is not the same as one that is left out.
		{Namespaces: []string{}, Sinks: []tap.Sink{}, Destinations: []netip.Prefix{}, Ports: []Range{}, VNIs: []Range{}, Placements: []tap.Placement{}},
		{},
	}}
	if !reflect.DeepEqual(p, want) {
		t.Errorf("policy is\n%+v\nwant\n%+v", p, want)
	}
}

func TestMaxTapsIsFromNoneToSixteen(t *testing.T) {
	for text, want := range map[string]int{`{"maxTaps":0}`: 0, `{"maxTaps":1}`: 1, `{"maxTaps":16}`: 16} {
		if p := parsed(t, text); p.MaxTaps != want {
			t.Errorf("%s: MaxTaps = %d, want %d", text, p.MaxTaps, want)
		}
	}
	for _, n := range []string{"-1", "17", "4294967296"} {
		refused(t, `{"maxTaps":`+n+`}`, "policy.maxTaps: "+n+" is not allowed; it must be from 0 to 16")
	}
}

// What a policy has, and a rule of it.
const (
	ofPolicy = "; known are maxTaps, a number, and rules, a list"
	ofRule   = "; known are namespaces, sinks, destinations, ports, vnis, placements, addresses, all lists of strings, hostNames, true or false, and maxBitrate, a string such as 1G"
)

func TestUnknownFieldOfThePolicyIsNamedWithTheKnownOnes(t *testing.T) {
	for text, message := range map[string]string{
		`{"rule": []}`:                            `policy: unknown field "rule"` + ofPolicy,
		`{"maxTap": 1}`:                           `policy: unknown field "maxTap"` + ofPolicy,
		`{"sinks": ["vxlan"]}`:                    `policy: unknown field "sinks"` + ofPolicy,
		`{"rules": [{"namespace": []}]}`:          `policy.rules[0]: unknown field "namespace"` + ofRule,
		`{"rules": [{}, {"port": ["4789"]}]}`:     `policy.rules[1]: unknown field "port"` + ofRule,
		`{"rules": [{"sampleRate": ["10"]}]}`:     `policy.rules[0]: unknown field "sampleRate"` + ofRule,
		`{"rules": [{"rules": [{"sinks": []}]}]}`: `policy.rules[0]: unknown field "rules"` + ofRule,
	} {
		refused(t, text, message)
	}
}

func TestAWrongTypeIsRefusedWithTheField(t *testing.T) {
	for text, words := range map[string][]string{
		`[]`:                                   {"policy: it cannot be ", "array", ofPolicy},
		`"closed"`:                             {"policy: it cannot be ", "string", ofPolicy},
		`7`:                                    {"policy: it cannot be ", "number", ofPolicy},
		`{`:                                    {"policy: ", "EOF", ofPolicy},
		`{"maxTaps": "4"}`:                     {"policy: maxTaps cannot be ", "string", ofPolicy},
		`{"maxTaps": 1.5}`:                     {"policy: maxTaps cannot be ", "1.5", ofPolicy},
		`{"rules": {}}`:                        {"policy: rules cannot be ", "object", ofPolicy},
		`{"rules": [7]}`:                       {"policy.rules[0]: it cannot be ", "number", ofRule},
		`{"rules": [{}, ["web"]]}`:             {"policy.rules[1]: it cannot be ", "array", ofRule},
		`{"rules": [{"namespaces": "web"}]}`:   {"policy.rules[0]: namespaces cannot be ", "string", ofRule},
		`{"rules": [{"sinks": {}}]}`:           {"policy.rules[0]: sinks cannot be ", "object", ofRule},
		`{"rules": [{}, {"destinations": 1}]}`: {"policy.rules[1]: destinations cannot be ", "number", ofRule},
		`{"rules": [{"ports": [4789]}]}`:       {"policy.rules[0]: ports cannot be ", "number", ofRule},
		`{"rules": [{}, {}, {"vnis": [[1, 2]]}]}`: {"policy.rules[2]: vnis cannot be ", "array", ofRule},
		`{"rules": [{"placements": true}]}`:       {"policy.rules[0]: placements cannot be ", "bool", ofRule},
		`{"rules": [{"hostNames": "yes"}]}`:       {"policy.rules[0]: hostNames cannot be ", "string", ofRule},
		`{"rules": [{"maxBitrate": 1000000000}]}`: {"policy.rules[0]: maxBitrate cannot be ", "number", ofRule},
		`{"rules": [{"maxBitrate": ["1G"]}]}`:     {"policy.rules[0]: maxBitrate cannot be ", "array", ofRule},
		`{"rules": [{"hostNames": []}]}`:          {"policy.rules[0]: hostNames cannot be ", "array", ofRule},
	} {
		refused(t, text, words...)
	}
}

func TestWhatFollowsThePolicyIsRefused(t *testing.T) {
	for _, text := range []string{`{} {}`, `{"maxTaps": 1}{"rules": []}`, `{}x`, `{},`, `{} null`, `{}7`, `null null`} {
		refused(t, text, "policy: something follows the object"+ofPolicy)
	}
	parsed(t, " {} \n")
}

func TestABadValueOfAListIsShownWithWhatIsAllowed(t *testing.T) {
	for list, c := range map[string]struct {
		values  []string
		allowed string
	}{
		"namespaces":   {[]string{"", "[", "web[", `\\`}, "a name or a pattern such as prod-*"},
		"sinks":        {[]string{"", "Veth", "all", "*", "file"}, "veth, vxlan or wire"},
		"destinations": {[]string{"", "collector", "198.18.0.0/33", "198.18.0", "fe80::1%eth0", "fe80::%eth0/64", "::ffff:198.18.0.0/112", "*", "198.18.0.1-198.18.0.9"}, "an address or a prefix such as 198.18.0.0/15"},
		"ports":        {[]string{"", "0", "65536", "0-10", "1-65536", "10-9", "-5", "5-", "1-2-3", "+1", "0x10", "vxlan", "*", "4294972085", "1,2"}, "a port or a range from 1 to 65535, such as 4789-4799"},
		"vnis":         {[]string{"", "0", "16777216", "1-16777216", "200-100", "-", "all", "4294967297"}, "a VNI or a range from 1 to 16777215, such as 100-199"},
		"placements":   {[]string{"", "Node", "host", "*"}, "node or pod"},
	} {
		for _, value := range c.values {
			// The good rule and the good entry before it show that positions are right.
			good := map[string]string{"namespaces": "web", "sinks": "veth", "destinations": "::1", "ports": "1", "vnis": "1", "placements": "pod"}[list]
			refused(t, `{"rules": [{}, {"`+list+`": ["`+good+`", "`+value+`"]}]}`,
				"policy.rules[1]."+list+`: "`+value+`" is not allowed; it must be `+c.allowed)
		}
	}
}

func TestALongValueOfTheAdministratorIsCut(t *testing.T) {
	refused(t, `{"rules": [{"sinks": ["`+strings.Repeat("z", 500)+`"]}]}`, `"`+strings.Repeat("z", 48)+`…" is not allowed`)
}

func TestSeveralMistakesOfAPolicyAreReportedTogether(t *testing.T) {
	refused(t, `{"maxTaps": 99, "rules": [{"namespaces": ["["], "sinks": ["x"]}, {}, {"destinations": ["x"], "ports": ["0", "x"], "vnis": ["x"], "placements": ["x"], "maxBitrate": "x"}]}`,
		"policy.maxTaps: 99", "policy.rules[0].namespaces: ", "policy.rules[0].sinks: ", "policy.rules[2].destinations: ",
		`policy.rules[2].ports: "0"`, `policy.rules[2].ports: "x"`, "policy.rules[2].vnis: ", "policy.rules[2].placements: ", "policy.rules[2].maxBitrate: ")
	// A rule that cannot even be decoded hides no mistake of the others, and shifts none.
	const text = `{"maxTaps": 99, "rules": [7, {"sinks": ["x"]}, {"port": []}, {}, {"vnis": 1}, {"ports": ["x"]}]}`
	refused(t, text, "policy.maxTaps: 99", "policy.rules[0]: it cannot be ", `policy.rules[1].sinks: "x"`,
		`policy.rules[2]: unknown field "port"`, "policy.rules[4]: vnis cannot be ", `policy.rules[5].ports: "x"`)
	if _, err := Parse([]byte(text)); err != nil && strings.Contains(err.Error(), "policy.rules[3]") {
		t.Errorf("message %q complains of the rule that is fine", err)
	}
}

func TestARangeIsWordedAsItIsWritten(t *testing.T) {
	for want, r := range map[string]Range{"4789": {4789, 4789}, "100-199": {100, 199}} {
		if r.String() != want {
			t.Errorf("range is %q, want %q", r, want)
		}
	}
}

func TestNothingMayFollowThePolicy(t *testing.T) {
	for _, text := range []string{"{}}", "{}]", "{} {}", "{} x"} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), "something follows the object") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
