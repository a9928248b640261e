package mirror

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/podtap/podtap/pkg/tap"
)

// Source says who asked for a tap.
type Source string

// SourceCNI is CNI's ADD. Aliases of any other source are left alone.
const SourceCNI Source = "cni"

// Owner is whose a tap is: for CNI, one attachment of a container to a network.
type Owner struct {
	Source      Source
	Network     string
	ContainerID string
	IfName      string
}

const (
	// aliasPrefix begins the alias of every device of podtap's. Its number grows
	// when the form changes; DEL goes on reading the older ones.
	aliasPrefix = "podtap/1 "
	// maxAlias is the longest alias in bytes: IFALIASZ (256) less the final zero.
	maxAlias = 255
	// maxWord is the longest network name or container ID that an alias has whole.
	maxWord = 64
)

// mark is what the alias of a tap's device tells.
type mark struct {
	Owner
	Device    string
	Interface string
	Direction tap.Direction
	Relay     string // the relay that the tap's copies go through, if any
	// Clsact says that the tapped interface had no hooks when the tap came, so
	// that an empty clsact there is podtap's.
	Clsact bool
	// ZeroQueue says that the tapped interface had a queue length of 0 then,
	// which the making of clsact changes for a moment.
	ZeroQueue bool
	Pod       string // NAMESPACE/NAME, for people; only where it fits
}

// alias writes a mark: `podtap/1 SOURCE NETWORK CONTAINERID IFNAME DEVICE`, then
// what a check without the tap's text needs, as key=value.
func (m mark) alias() string {
	words := []string{string(m.Source), word(m.Network), word(m.ContainerID), m.IfName, m.Device, "if=" + m.Interface}
	if m.Direction != "" {
		words = append(words, "dir="+string(m.Direction))
	}
	if m.Relay != "" {
		words = append(words, "relay="+m.Relay)
	}
	if m.Clsact {
		words = append(words, "clsact")
	}
	if m.ZeroQueue {
		words = append(words, "qlen=0")
	}
	s := aliasPrefix + strings.Join(words, " ")
	printable := !strings.ContainsFunc(m.Pod, func(r rune) bool { return r <= ' ' || r > '~' })
	if pod := " pod=" + m.Pod; m.Pod != "" && printable && len(s)+len(pod) <= maxAlias {
		s += pod
	}
	return s
}

// word makes a network name or a container ID fit: CNI bounds the length of
// neither. A ~ begins no such name, so that a hash is never taken for one.
func word(s string) string {
	if len(s) <= maxWord {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	return "~" + hex.EncodeToString(sum[:16])
}

// ownedBy says whether the tap is this owner's.
func (m mark) ownedBy(o Owner) bool { return m.Owner == o.shortened() }

// shortened is the owner as aliases have it.
func (o Owner) shortened() Owner {
	o.Network, o.ContainerID = word(o.Network), word(o.ContainerID)
	return o
}

// parseMark reads an alias; ok is false for whatever is not a tap's.
func parseMark(alias string) (m mark, ok bool) {
	rest, found := strings.CutPrefix(alias, aliasPrefix)
	words := strings.Split(rest, " ")
	if !found || len(words) < 5 {
		return mark{}, false
	}
	m.Source, m.Network, m.ContainerID, m.IfName, m.Device = Source(words[0]), words[1], words[2], words[3], words[4]
	if m.Source != SourceCNI {
		return mark{}, false
	}
	for _, w := range words[5:] {
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "if":
			m.Interface = value
		case "dir":
			m.Direction = tap.Direction(value)
		case "relay":
			m.Relay = value
		case "clsact":
			m.Clsact = true
		case "qlen":
			m.ZeroQueue = value == "0"
		case "pod":
			m.Pod = value
		}
	}
	return m, true
}

// linkMark reads the mark of a device of a tap. An alias alone proves nothing: a
// device may come back to the node from a pod that wrote one.
func linkMark(l netlink.Link) (mark, bool) {
	kind := l.Type()
	if l.Attrs().Group != deviceGroup || kind != "veth" && kind != "vxlan" {
		return mark{}, false
	}
	return parseMark(l.Attrs().Alias)
}

// collector is what makes a relay: taps with the same one share it.
type collector struct {
	Remote netip.Addr
	VNI    uint32
	Port   uint16
	TTL    uint8
}

func collectorOf(v *tap.VXLAN) collector {
	return collector{Remote: v.Remote, VNI: v.VNI, Port: v.Port, TTL: v.TTL}
}

// alias of a relay: `podtap/1 relay REMOTE VNI PORT TTL`.
func (c collector) alias() string {
	return fmt.Sprintf("%srelay %s %d %d %d", aliasPrefix, c.Remote, c.VNI, c.Port, c.TTL)
}

// relayMark reads whose relay a device is.
func relayMark(l netlink.Link) (collector, bool) {
	if l.Attrs().Group != deviceGroup || l.Type() != "vxlan" {
		return collector{}, false
	}
	return parseRelay(l.Attrs().Alias)
}

func parseRelay(alias string) (collector, bool) {
	rest, found := strings.CutPrefix(alias, aliasPrefix+"relay ")
	words := strings.Split(rest, " ")
	if !found || len(words) != 4 {
		return collector{}, false
	}
	remote, err := netip.ParseAddr(words[0])
	vni, errVNI := strconv.ParseUint(words[1], 10, 24)
	port, errPort := strconv.ParseUint(words[2], 10, 16)
	ttl, errTTL := strconv.ParseUint(words[3], 10, 8)
	if err != nil || errVNI != nil || errPort != nil || errTTL != nil {
		return collector{}, false
	}
	return collector{remote, uint32(vni), uint16(port), uint8(ttl)}, true
}

// hash is some hexadecimal digits for a generated name.
func hash(length int, words ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(words, "\x00")))
	return hex.EncodeToString(sum[:])[:length]
}

// hostName is the generated name of a tap's end on the node: veth and a hash of
// owner and device. Calico's address detection and NetworkManager know to leave
// alone what begins with veth.
func hostName(o Owner, device string) string {
	return "veth" + hash(tap.MaxNameLength-4, string(o.Source), o.Network, o.ContainerID, o.IfName, device)
}

// relayName is a name for the relay to a collector; which one it has got, if
// others were taken, its alias tells.
func relayName(c collector, attempt int) string {
	return "podtap" + hash(tap.MaxNameLength-6, c.alias(), strconv.Itoa(attempt))
}

// cookie marks the action of a tap's rule on the pod's interface, which outlives
// the tap's device if the pod deletes that. It is as long as TC_COOKIE_MAX_SIZE.
type cookie [16]byte

const (
	cookieMagic   = "ptap"
	cookieVersion = 1
	// ownClsact says that the clsact which holds the rule is podtap's. It stands
	// in every rule of that clsact, so that the last one tells.
	ownClsact = 1
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

func (c cookie) flags() byte             { return c[5] }
func (c cookie) sameOwner(d cookie) bool { return [6]byte(c[6:12]) == [6]byte(d[6:12]) }
func (c cookie) sameTap(d cookie) bool   { return c.sameOwner(d) && [4]byte(c[12:]) == [4]byte(d[12:]) }
