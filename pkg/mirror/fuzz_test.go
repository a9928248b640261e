package mirror

import (
	"net/netip"
	"strings"
	"testing"
	"unicode"

	"github.com/podtap/podtap/pkg/tap"
)

// FuzzAlias reads an alias as anybody may have written it, and those that are
// made of the other values. The corpus is in testdata/fuzz/FuzzAlias.
func FuzzAlias(f *testing.F) {
	f.Fuzz(func(t *testing.T, alias, network, container, ifName, device, iface, pod, remote string, number uint32, flags uint8) {
		fuzzStranger(t, alias)
		m := mark{
			Owner:     Owner{SourceCNI, someID(network), someID(container), someName(ifName)},
			Device:    someName(device),
			Interface: someName(iface),
			Direction: []tap.Direction{"", tap.Ingress, tap.Egress, tap.Both}[flags%4],
			Clsact:    flags&4 != 0,
			ZeroQueue: flags&8 != 0,
			Filter:    filterHash(iface[:int(flags)%(len(iface)+1)]),
			Pod:       pod,
		}
		c := collector{Remote: netip.MustParseAddr("198.18.0.9"), VNI: number & tap.MaxVNI, Port: uint16(number >> 8), TTL: flags}
		if a, err := netip.ParseAddr(remote); err == nil {
			c.Remote = a.Unmap().WithZone("")
		}
		if flags&16 != 0 {
			m.Relay = relayName(c, int(flags))
		}
		if flags&32 != 0 { // with the last time of its making that fits
			owner := m.Owner
			m.Pod = ""
			m, _ = parseMark(m.alias() + " at=9999999999")
			m.Owner, m.Pod = owner, pod
		}
		fuzzOwn(t, m)
		fuzzRelay(t, c)
	})
}

// fuzzOwn insists that a mark of podtap's own making comes back out of its alias.
func fuzzOwn(t *testing.T, m mark) {
	t.Helper()
	owner := m.Owner
	m.Owner = m.shortened()
	alias := m.alias()
	if len(alias) > maxAlias || strings.ContainsFunc(alias, unicode.IsControl) {
		t.Errorf("alias of %d bytes: %q", len(alias), alias)
	}
	got, ok := parseMark(alias)
	if !ok || !got.ownedBy(owner) || !sameMark(got, m) {
		t.Errorf("%q is read as %+v, %v; want %+v", alias, got, ok, m)
	}
	if _, ok := parseRelay(alias); ok {
		t.Errorf("a tap's alias is read as a relay's: %q", alias)
	}
	other := owner
	other.ContainerID += "x"
	if got.ownedBy(other) {
		t.Errorf("%q is taken for %+v's", alias, other)
	}
	// A name that somebody else chose must add nothing to what the mark says.
	bare := m
	bare.Pod = ""
	if plain, ok := parseMark(bare.alias()); !ok || plain != bare || !strings.HasPrefix(alias, bare.alias()) {
		t.Errorf("without its pod the mark is read as %+v, %v; want %+v", plain, ok, bare)
	}
}

func fuzzRelay(t *testing.T, c collector) {
	t.Helper()
	alias := c.alias()
	if got, ok := parseRelay(alias); !ok || got != c || len(alias) > maxAlias {
		t.Errorf("%q is read as %+v, %v", alias, got, ok)
	}
	if m, ok := parseMark(alias); ok {
		t.Errorf("a relay's alias is read as the mark %+v", m)
	}
}

// fuzzStranger insists that whatever is read out of an alias stays the same when
// it is written and read again.
func fuzzStranger(t *testing.T, alias string) {
	t.Helper()
	m, isMark := parseMark(alias)
	c, isRelay := parseRelay(alias)
	switch {
	case isMark && isRelay:
		t.Errorf("%q is read as a tap's and as a relay's", alias)
	case isMark:
		if !strings.HasPrefix(alias, "podtap/1 cni ") || m.Source != SourceCNI {
			t.Errorf("%q is read as the mark %+v", alias, m)
		}
		m.Owner = m.shortened()
		if again, ok := parseMark(m.alias()); !ok || !sameMark(again, m) {
			t.Errorf("%q is read as %+v, then as %+v, %v", alias, m, again, ok)
		}
	case isRelay:
		if !strings.HasPrefix(alias, "podtap/1 relay ") || !c.Remote.IsValid() || c.VNI > tap.MaxVNI {
			t.Errorf("%q is read as the relay %+v", alias, c)
		}
		if again, ok := parseRelay(c.alias()); !ok || again != c {
			t.Errorf("%q is read as %+v, then as %+v, %v", alias, c, again, ok)
		}
	case m != mark{} || c != collector{}:
		t.Errorf("%q is refused, with %+v and %+v", alias, m, c)
	}
}

// sameMark compares marks; the pod, which is for people, may be left out.
func sameMark(got, want mark) bool {
	if got.Pod == "" {
		want.Pod = ""
	}
	if got.Filter == "" { // as the hash, where the alias has no room
		want.Filter = ""
	}
	return got == want
}

// someID makes a network's name or a container's ID, as CNI allows them, out
// of any string.
func someID(s string) string {
	s = strings.Map(func(r rune) rune {
		if r > '~' || !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("_.-", r) {
			return -1
		}
		return r
	}, s)
	if s = strings.TrimLeft(s, "_.-"); s == "" {
		return "c"
	}
	return s
}

// someName makes an interface's name, of 15 bytes at most, out of any string.
func someName(s string) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || !unicode.IsPrint(r) || r == '/' || r == ':' || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, s)
	s = strings.ToValidUTF8(s[:min(len(s), tap.MaxNameLength)], "")
	if s == "" || s == "." || s == ".." {
		return "eth0"
	}
	return s
}
