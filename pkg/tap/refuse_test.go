package tap

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

// mistakes are those of a text that has to have some.
func mistakes(t *testing.T, text string) Errors {
	t.Helper()
	taps, err := Parse([]byte(text))
	if err == nil {
		t.Fatalf("Parse(%.200q) = %s, want an error", text, show(taps))
	}
	if taps != nil {
		t.Errorf("Parse(%.200q) returns taps beside its error: %s", text, show(taps))
	}
	checkMessage(t, err)
	errs, ok := err.(Errors)
	if !ok || len(errs) == 0 {
		t.Fatalf("the error of Parse(%.200q) is %#v, want Errors", text, err)
	}
	return errs
}

// checkMessage insists that an error's text fits into an event of Kubernetes,
// that a log shows it on one line, and that it begins with a mistake.
func checkMessage(t *testing.T, err error) {
	t.Helper()
	text := err.Error()
	if len(text) == 0 || len(text) >= 2048 || !utf8.ValidString(text) || strings.ContainsAny(text, "\n\r\x00\x1b") || strings.HasPrefix(text, "; ") {
		t.Errorf("message of %d bytes is empty, too long, not printable or without its first mistake: %q", len(text), text)
	}
}

// onlyMistake insists that a text has one mistake, in a field of its first tap,
// and that the message has some words.
func onlyMistake(t *testing.T, text, field string, words ...string) {
	t.Helper()
	errs := mistakes(t, text)
	if len(errs) != 1 || errs[0].Tap != 1 || errs[0].Field != field {
		t.Errorf("%s:\nmistakes are %+v,\nwant one, in field %q of tap 1", text, errs, field)
	}
	for _, word := range words {
		if !strings.Contains(errs.Error(), word) {
			t.Errorf("%s:\nmessage %q\nlacks %q", text, errs.Error(), word)
		}
	}
}

func TestUnknownFieldIsNamedWithTheKnownOnes(t *testing.T) {
	const (
		ofTap   = "is an unknown field; known are device, interface, direction, filter, sampleRate, snapLength, maxBitrate, veth, vxlan, wire"
		ofVeth  = "is an unknown field; known are hostInterface"
		ofVXLAN = "is an unknown field; known are vni, port, ttl, placement, remote, oversize"
		ofWire  = "is an unknown field; known are hostInterface, addresses, hostAddresses, mtu"
	)
	for _, c := range []struct{ text, field, known string }{
		{"{veth: {}, sink: veth}", "sink", ofTap},
		{"{veth: {}, Device: a}", "Device", ofTap},
		// What an author might expect: to ignore these would be to copy what he
		// excluded.
		{"{veth: {}, Filter: tcp}", "Filter", ofTap},
		{"{veth: {}, samplerate: 10}", "samplerate", ofTap},
		{"{veth: {}, snaplen: 96}", "snaplen", ofTap},
		{"{veth: {}, maxBandwidth: 100M}", "maxBandwidth", ofTap},
		{"veth: {device: a}", "veth.device", ofVeth},
		{"vxlan: {vni: 1, remote: 198.18.0.9, id: 1}", "vxlan.id", ofVXLAN},
		{"vxlan: {vni: 1, remote: 198.18.0.9, snapLength: 96}", "vxlan.snapLength", ofVXLAN},
		{"vxlan: {vni: 1, remote: 198.18.0.9, node: worker}", "vxlan.node", ofVXLAN},
		{"vxlan: {vni: 1, remote: 198.18.0.9, service: collector}", "vxlan.service", ofVXLAN},
		{"wire: {address: 198.18.0.2/24}", "wire.address", ofWire},
		{"veth: {'%s%d%!': 1}", "veth.%s%d%!", ofVeth},
		{`{veth: {}, "a\nb\u202e": 1}`, `a\nb\u202e`, ofTap},
	} {
		onlyMistake(t, c.text, c.field, "tap 1: "+c.field+": "+c.known)
	}
}

func TestATapHasExactlyOneSink(t *testing.T) {
	for text, have := range map[string]string{
		"{}":                   "none",
		"device: a":            "none",
		"{veth: {}, wire: {}}": "veth and wire",
		"{veth: , vxlan: {vni: 1, remote: 1.1.1.1}}":         "veth and vxlan",
		"{wire: , veth: , vxlan: {vni: 1, remote: 1.1.1.1}}": "veth and vxlan and wire",
	} {
		onlyMistake(t, text, "", "has "+have+"; it must have exactly one of veth, vxlan, wire")
	}
}

func TestABadNumberOfVXLANIsShownWithItsRange(t *testing.T) {
	const wholeVNI = "a whole number from 1 to 16777215"
	for _, c := range []struct{ field, value, shown, allowed string }{
		{"vni", "0", "0", wholeVNI},
		{"vni", "16777216", "16777216", wholeVNI},
		{"vni", "-1", "-1", wholeVNI},
		{"vni", "4294967297", "4294967297", wholeVNI},                     // 1 in 32 bits
		{"vni", "18446744073709551617", "18446744073709551617", wholeVNI}, // 1 in 64 bits
		{"vni", `"100"`, `"100"`, wholeVNI},
		{"vni", "100.5", "100.5", wholeVNI},
		// Only plain decimals are read: 0100 is 64 to some and 100 to others.
		{"vni", "100.0", "100.0", wholeVNI},
		{"vni", "1e2", "1e2", wholeVNI},
		{"vni", "0100", "0100", wholeVNI},
		{"vni", "00", "00", wholeVNI},
		{"vni", "0o17", "0o17", wholeVNI},
		{"vni", "0b11", "0b11", wholeVNI},
		{"vni", "1_000", "1_000", wholeVNI},
		{"vni", "0x64", "0x64", wholeVNI},
		{"vni", "+100", "+100", wholeVNI},
		{"vni", "!!int '0100'", "0100", wholeVNI},
		{"vni", "!!float 100", "100", wholeVNI},
		{"vni", ".inf", ".inf", wholeVNI},
		{"vni", ".nan", ".nan", wholeVNI},
		{"vni", "true", "true", wholeVNI},
		{"vni", "", "nothing", wholeVNI},
		{"vni", "[100]", "a list of 1", wholeVNI},
		{"vni", "{a: 1, b: 2}", "an object of 2 fields", wholeVNI},
		{"port", "0", "0", "a whole number from 1 to 65535"},
		{"port", "65536", "65536", "a whole number from 1 to 65535"},
		{"port", "70325", "70325", "a whole number from 1 to 65535"}, // 4789 in 16 bits
		{"ttl", "0", "0", "a whole number from 1 to 255"},
		{"port", "0x12b5", "0x12b5", "a whole number from 1 to 65535"},
		{"ttl", "256", "256", "a whole number from 1 to 255"},
		{"ttl", "010", "010", "a whole number from 1 to 255"},
		{"ttl", "inherit", `"inherit"`, "a whole number from 1 to 255"},
	} {
		fields := "vni: 1"
		if c.field == "vni" {
			fields = ""
		}
		text := fmt.Sprintf("vxlan:\n  remote: 198.18.0.9\n  %s\n  %s: %s\n", fields, c.field, c.value)
		onlyMistake(t, text, "vxlan."+c.field, "vxlan."+c.field+": "+c.shown+" is not allowed; it must be "+c.allowed)
	}
}

func TestVXLANNeedsAVNIAndARemote(t *testing.T) {
	onlyMistake(t, "vxlan: {remote: 198.18.0.9}", "vxlan.vni", "is missing; it must be a whole number from 1 to 16777215")
	onlyMistake(t, "vxlan: {vni: 1}", "vxlan.remote", "is missing; it must be an IPv4 or IPv6 address, such as 198.18.0.9")
	if errs := mistakes(t, "vxlan:"); len(errs) != 2 {
		t.Errorf("mistakes of an empty vxlan are %v, want two", errs)
	}
}

func TestARemoteIsACollectorsOwnUnicastAddress(t *testing.T) {
	for _, c := range []struct{ remote, problem string }{
		{"224.0.0.1", "is a multicast address"},
		{"239.1.1.1", "is a multicast address"},
		{"ff02::1", "is a multicast address"},
		{"ff01::1", "is a multicast address"},
		{"::ffff:224.0.0.1", "is a multicast address"},
		{"0.0.0.0", "is the unspecified address"},
		{"::", "is the unspecified address"},
		{"::ffff:0.0.0.0", "is the unspecified address"},
		{"127.0.0.1", "is a loopback address"},
		{"127.255.0.1", "is a loopback address"},
		{"::1", "is a loopback address"},
		{"::ffff:127.0.0.1", "is a loopback address"},
		{"169.254.1.1", "is a link-local address"},
		{"::ffff:169.254.169.254", "is a link-local address"},
		{"fe80::1", "is a link-local address"},
		{"fe80::1%eth0", "is an address with a zone"},
		{"2001:db8::1%eth0", "is an address with a zone"},
		{"255.255.255.255", "is the broadcast address"},
		{"::ffff:255.255.255.255", "is the broadcast address"},
	} {
		onlyMistake(t, "vxlan: {vni: 1, remote: '"+c.remote+"'}", "vxlan.remote",
			fmt.Sprintf("vxlan.remote: %q %s; it must be a collector's own unicast address", c.remote, c.problem))
	}
	for _, remote := range []string{"collector.example", "198.18.0.9:4789", "[2001:db8::9]", "198.18.0.0/15", "198.18.0", "198.18.0.09", "198.18.0.9 "} {
		onlyMistake(t, "vxlan: {vni: 1, remote: '"+remote+"'}", "vxlan.remote",
			fmt.Sprintf("%q is not allowed; it must be an IPv4 or IPv6 address, such as 198.18.0.9", remote))
	}
}

func TestARemoteIsQuotedAndCut(t *testing.T) {
	for zone, shown := range map[string]string{
		strings.Repeat("z", 60000): "fe80::1%" + strings.Repeat("z", 40) + "…",
		strings.Repeat("日", 20000): "fe80::1%" + strings.Repeat("日", 40) + "…",
		`a\tb\u202e\ec`:            `fe80::1%a\tb\u202e\x1bc`,
	} {
		onlyMistake(t, `vxlan: {vni: 1, remote: "fe80::1%`+zone+`"}`, "vxlan.remote",
			`vxlan.remote: "`+shown+`" is an address with a zone; it must be a collector's own unicast address`)
	}
}
