package mirror

import (
	"crypto/sha256"
	"strings"
)

// cookie marks the action of a tap's rule on the pod's interface, which outlives
// the tap's device if the pod deletes that. It is as long as TC_COOKIE_MAX_SIZE.
type cookie [16]byte

const (
	cookieMagic   = "ptap"
	cookieVersion = 1
	// ownClsact says that the clsact which holds the rule is podtap's. It stands
	// in every rule of that clsact, so that the last one tells.
	ownClsact = 1
	// ofEgress says that the rule copies what the pod sends, not what it receives.
	ofEgress = 2
	// ofAll says that the rule copies nothing: it counts what comes to the tap's filter.
	ofAll = 4
	// ofMatched says that the rule copies nothing: it counts what the tap's filter matches,
	// of which the tap's rule takes a sample.
	ofMatched = 8
)

// newCookie is "ptap", the version, the flags, 6 bytes of the owner's hash and 4
// of the device's.
func newCookie(o Owner, device string, flags byte) (c cookie) {
	o = o.shortened()
	copy(c[:4], cookieMagic)
	c[4], c[5] = cookieVersion, flags
	owner := sha256.Sum256([]byte(strings.Join([]string{string(o.Source), o.Network, o.ContainerID, o.IfName}, "\x00")))
	copy(c[6:12], owner[:])
	name := sha256.Sum256([]byte(device))
	copy(c[12:], name[:])
	return c
}

func parseCookie(b []byte) (c cookie, ok bool) {
	if len(b) != len(c) || string(b[:4]) != cookieMagic || b[4] != cookieVersion {
		return c, false
	}
	return cookie(b), true
}

// plain is the cookie without flags: the same for all rules of a tap.
func (c cookie) plain() cookie {
	c[5] = 0
	return c
}

// with is the cookie with more flags.
func (c cookie) with(flags byte) cookie {
	c[5] |= flags
	return c
}

func (c cookie) flags() byte             { return c[5] }
func (c cookie) sameOwner(d cookie) bool { return [6]byte(c[6:12]) == [6]byte(d[6:12]) }
func (c cookie) sameTap(d cookie) bool   { return c.sameOwner(d) && [4]byte(c[12:]) == [4]byte(d[12:]) }
