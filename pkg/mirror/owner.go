package mirror

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

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
	// maxSince is the last time that an alias can tell: ten digits of seconds, in
	// the year 2286.
	maxSince = 9999999999
)

// mark is what the alias of a tap's device tells.
type mark struct {
	Owner
	Device    string
	Interface string
	Direction tap.Direction
	Relay     string // the relay that the tap's copies go through, if any
	Filter    string // filterHash of the tap's filter; "" without one, and where it does not fit
	// Clsact says that the tapped interface had no hooks when the tap came, so
	// that an empty clsact there is podtap's.
	Clsact bool
	// ZeroQueue says that the tapped interface had a queue length of 0 then,
	// which the making of clsact changes for a moment.
	ZeroQueue bool
	// Since is when the tap was made, in whole seconds; zero where an older
	// podtap made it.
	Since time.Time
	Pod   string // NAMESPACE/NAME, for people; only where it fits
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
	if !m.Since.IsZero() {
		words = append(words, "at="+strconv.FormatInt(m.Since.Unix(), 10))
	}
	s := aliasPrefix + strings.Join(words, " ")
	if filter := " filter=" + m.Filter; m.Filter != "" && len(s)+len(filter) <= maxAlias {
		s += filter
	}
	if pod := " pod=" + m.Pod; m.Pod != "" && printable(m.Pod) && !strings.Contains(m.Pod, " ") && len(s)+len(pod) <= maxAlias {
		s += pod
	}
	return s
}

// withFilter is the mark as an alias tells it of a tap with another filter.
func (m mark) withFilter(hash string) mark {
	m.Filter = hash
	m, _ = parseMark(m.alias())
	return m
}

// printable says whether a text can be shown as it is. Aliases in a pod are the
// pod's to write, and none may steer a terminal.
func printable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
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
	if !found || len(words) < 5 || !printable(alias) {
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
		case "filter":
			m.Filter = value
		case "clsact":
			m.Clsact = true
		case "qlen":
			m.ZeroQueue = value == "0"
		case "at":
			if seconds, err := strconv.ParseInt(value, 10, 64); err == nil && seconds > 0 && seconds <= maxSince {
				m.Since = time.Unix(seconds, 0)
			}
		case "pod":
			m.Pod = value
		}
	}
	return m, true
}

// linkMark reads the mark of a device of a tap. An alias alone proves nothing: a
// device may come back to the node from a pod that wrote one.
func linkMark(l *link) (mark, bool) {
	if !l.ours() {
		return mark{}, false
	}
	return parseMark(l.alias)
}

// ours says whether a device has one of podtap's groups and a kind of its.
func (l *link) ours() bool {
	return (l.group == deviceGroup || l.group == doomedGroup) && (l.kind == "veth" || l.kind == "vxlan")
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
func relayMark(l *link) (collector, bool) {
	if !l.ours() || l.kind != "vxlan" {
		return collector{}, false
	}
	return parseRelay(l.alias)
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
