package mirror

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/podtap/podtap/pkg/tap"
)

func address(t *testing.T, s string) netip.Addr {
	t.Helper()
	a, err := netip.ParseAddr(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAnAliasTellsItsOwnerWhateverTheLengths(t *testing.T) {
	long := strings.Repeat("n", 300)
	for name, m := range map[string]mark{
		"ordinary":     {Owner: ownerOf("0123456789abcdef"), Device: "mirror", Interface: "eth0", Direction: tap.Both, Pod: "default/web-0"},
		"everything":   {Owner: ownerOf(strings.Repeat("c", 64)), Device: "fifteen-bytes-x", Interface: "fifteen-bytes-y", Direction: tap.Ingress, Relay: "podtap012345678", Filter: filterHash("tcp"), Clsact: true, ZeroQueue: true, Since: time.Unix(maxSince, 0), Pod: "a/b"},
		"the longest":  {Owner: Owner{SourceCNI, strings.Repeat("n", 64), strings.Repeat("c", 64), "fifteen-bytes-z"}, Device: "fifteen-bytes-x", Interface: "fifteen-bytes-y", Direction: tap.Ingress, Relay: "podtap012345678", Filter: filterHash("tcp"), Clsact: true, ZeroQueue: true, Since: time.Unix(maxSince, 0)},
		"a filter":     {Owner: ownerOf("c"), Device: "mirror", Interface: "eth0", Direction: tap.Both, Filter: filterHash("tcp"), Pod: "a/b"},
		"long names":   {Owner: Owner{SourceCNI, long, long, "net1"}, Device: "fifteen-bytes-x", Interface: "fifteen-bytes-y", Direction: tap.Egress, Relay: "podtap012345678", Pod: long},
		"a wire":       {Owner: ownerOf("c"), Device: "w", Interface: "eth0"},
		"an odd pod":   {Owner: ownerOf("c"), Device: "w", Interface: "eth0", Pod: "a b\nc"},
		"no pod known": {Owner: ownerOf("c"), Device: "w", Interface: "eth0", Direction: tap.Both},
	} {
		owner := m.Owner
		m.Owner = m.shortened()
		alias := m.alias()
		if len(alias) > maxAlias {
			t.Errorf("%s: the alias has %d bytes: %s", name, len(alias), alias)
		}
		got, ok := parseMark(alias)
		if !ok || !got.ownedBy(owner) || got.ownedBy(ownerOf("somebody else")) {
			t.Errorf("%s: %q is read as %+v", name, alias, got)
		}
		if got.Pod == "" {
			m.Pod = "" // left out where it does not fit
		}
		if got.Filter == "" && name == "the longest" {
			m.Filter = "" // likewise
		}
		if got != m {
			t.Errorf("%s: %q is read as %+v; want %+v", name, alias, got, m)
		}
	}
}

func TestARelaysAliasTellsItsCollectorAndNothingElseDoes(t *testing.T) {
	for _, c := range []collector{{address(t, "198.18.0.3"), 100, 4789, 64}, {address(t, "fd00::3"), tap.MaxVNI, 65535, 255}} {
		if got, ok := parseRelay(c.alias()); !ok || got != c {
			t.Errorf("%q is read as %+v", c.alias(), got)
		}
	}
	for _, alias := range []string{"", "podtap/1 relay", "podtap/1 relay x 1 2 3", "podtap/1 relay 198.18.0.3 100 4789", "podtap/1 relay 198.18.0.3 100 70000 64",
		"podtap/1 relay 198.18.0.3 100 4789 64 5", "podtap/1 cni net c eth0 mirror", "Podtap/1 relay 198.18.0.3 100 4789 64"} {
		if got, ok := parseRelay(alias); ok {
			t.Errorf("%q is read as %+v", alias, got)
		}
	}
	if _, ok := parseMark((collector{address(t, "198.18.0.3"), 100, 4789, 64}).alias()); ok {
		t.Error("a relay's alias is read as a tap's")
	}
}

func TestCookiesTellOwnersAndTapsApart(t *testing.T) {
	c := newCookie(ownerOf("c1"), "mirror", ownClsact)
	read, ok := parseCookie(c[:])
	if !ok || read != c || read.flags() != ownClsact {
		t.Fatalf("read back %x of %x", read, c)
	}
	sameTap, otherDevice, otherOwner := newCookie(ownerOf("c1"), "mirror", 0), newCookie(ownerOf("c1"), "mirror1", 0), newCookie(ownerOf("c2"), "mirror", 0)
	if !c.sameTap(sameTap) || !c.sameOwner(otherDevice) || c.sameTap(otherDevice) || c.sameOwner(otherOwner) || c.sameTap(otherOwner) {
		t.Error("owners and taps are not told apart")
	}
	for _, b := range [][]byte{nil, c[:15], []byte("0123456789abcdef"), append([]byte("ptap\x02"), c[5:]...)} {
		if _, ok := parseCookie(b); ok {
			t.Errorf("%x is taken for a cookie of podtap's", b)
		}
	}
}

func TestGeneratedNamesAreValidAndDiffer(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range []string{hostName(ownerOf("c1"), "mirror"), hostName(ownerOf("c1"), "mirror1"), hostName(ownerOf("c2"), "mirror"),
		relayName(collector{address(t, "198.18.0.3"), 100, 4789, 64}, 0), relayName(collector{address(t, "198.18.0.3"), 101, 4789, 64}, 0),
		relayName(collector{address(t, "198.18.0.3"), 100, 4790, 64}, 0), relayName(collector{address(t, "198.18.0.3"), 100, 4789, 63}, 0), relayName(collector{address(t, "198.18.0.3"), 100, 4789, 63}, 1)} {
		if seen[name] || !tap.ValidDeviceName(name) || len(name) != tap.MaxNameLength {
			t.Errorf("name %q", name)
		}
		seen[name] = true
	}
}
