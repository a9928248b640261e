package policy

import (
	"strings"
	"testing"

	"github.com/podtap/podtap/pkg/tap"
)

// capped is a tap with a cap.
func capped(t tap.Tap, most tap.Bitrate) tap.Tap {
	t.MaxBitrate = most
	return t
}

func TestARuleMayBoundTheCapOfATap(t *testing.T) {
	const (
		bound   = `"maxBitrate":"1G"`
		without = `maxBitrate is left out, and the rule allows at most 1G; "maxBitrate: 1G" or less in the tap allows it`
		above   = ` is above the rule's 1G; "maxBitrate: 1G" or less in the tap allows it`
	)
	collector := vxlan("198.18.0.9")
	for _, c := range []struct {
		rule      string
		tap       tap.Tap
		objection string // "" where the rule allows the tap
	}{
		// left out, any cap, and none
		{``, veth, ""},
		{``, capped(veth, tap.MaxBitrate), ""},
		{`"maxBitrate":null`, veth, ""},
		{toAnywhere, collector, ""},
		{toAnywhere, capped(collector, tap.MaxBitrate), ""},

		{bound, veth, without},
		{bound, capped(veth, tap.MinBitrate), ""},
		{bound, capped(veth, 999_999_999), ""},
		{bound, capped(veth, 1_000_000_000), ""},
		{bound, capped(veth, 1_000_000_001), "maxBitrate 1000000001" + above},
		{bound, capped(veth, 2_000_000_000), "maxBitrate 2G" + above},
		{toAnywhere + `,` + bound, collector, without},
		{toAnywhere + `,` + bound, capped(collector, 1_000_000_000), ""},
		{toAnywhere + `,` + bound, capped(collector, 2_500_000_000), "maxBitrate 2500M" + above},
		{`"maxBitrate":"64000"`, veth, `maxBitrate is left out, and the rule allows at most 64k; "maxBitrate: 64k" or less`},

		// a wire copies nothing
		{`"sinks":["wire"],` + bound, wire, ""},
	} {
		err := parsed(t, `{"rules":[{`+c.rule+`}]}`).Allow(c.tap, 0, "web")
		if c.objection != "" {
			c.objection = "policy.rules[0] comes closest, but: " + c.objection
		}
		expect(t, c.rule+" with a cap of "+c.tap.MaxBitrate.String(), err, c.objection)
		if err != nil && strings.Count(err.Error(), "; ") > 1 {
			t.Errorf("%s: more than one objection: %v", c.rule, err)
		}
	}
}

func TestACapIsNamedWithTheOtherObjections(t *testing.T) {
	p := parsed(t, `{"rules": [{"namespaces":["db"],"maxBitrate":"100M"}]}`)
	err := p.Allow(vxlan("198.18.0.9"), 0, "web")
	for _, word := range []string{"namespace web", "sink vxlan", "maxBitrate is left out", "destination 198.18.0.9"} {
		expect(t, word, err, word)
	}
}

// A tap may have what one rule allows without a cap, and what another does with one.
func TestACapOpensTheRuleThatAsksForIt(t *testing.T) {
	p := parsed(t, `{"rules": [{"sinks":["veth"]}, {`+toAnywhere+`,"maxBitrate":"10M"}]}`)
	expect(t, "a veth", p.Allow(veth, 0, "web"), "")
	expect(t, "a vxlan with a cap", p.Allow(capped(vxlan("198.18.0.9"), 10_000_000), 0, "web"), "")
	expect(t, "a vxlan without", p.Allow(vxlan("198.18.0.9"), 0, "web"), "policy.rules[1] comes closest, but: maxBitrate is left out, and the rule allows at most 10M")
}

func TestABoundIsReadAsATapsCapIs(t *testing.T) {
	for text, want := range map[string]tap.Bitrate{"64k": tap.MinBitrate, "1500k": 1_500_000, "100000000": 100_000_000, "1G": 1_000_000_000, "1T": tap.MaxBitrate} {
		if p := parsed(t, `{"rules": [{"maxBitrate": "`+text+`"}]}`); p.Rules[0].MaxBitrate != want {
			t.Errorf("%s is read as %d, want %d", text, p.Rules[0].MaxBitrate, want)
		}
	}
	for _, text := range []string{"", "fast", "0", "63k", "63999", "1001G", "2T", "1.5G", "1g", "1 G", "-1G", "1Gbit", "1G-2G"} {
		refused(t, `{"rules": [{}, {"maxBitrate": "`+text+`"}]}`,
			`policy.rules[1].maxBitrate: "`+text+`" is not allowed; it must be a bitrate such as 100M, from 64k to 1T`)
	}
}
