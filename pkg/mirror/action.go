package mirror

import (
	"bytes"
	"encoding/binary"
	"errors"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// What a mirred action does with a packet, and what classification does then.
const (
	mirredRedirect = 1 // TCA_EGRESS_REDIR
	mirredMirror   = 2 // TCA_EGRESS_MIRROR

	// actContinue (TC_ACT_UNSPEC) goes on to the next rule after a mirror. With
	// TC_ACT_PIPE classification would end here, and the rules after ours, and
	// everybody else's, would see nothing.
	actContinue = -1
	actPipe     = 3 // TC_ACT_PIPE, to the rule's next action
	actStolen   = 4 // TC_ACT_STOLEN, after a redirect
)

// The kernel counts the packets of an action in segments: one that TCP's offload
// has left whole counts as the many that it will become. What a mirror could not
// deliver it counts as the interface does, whole. So the first action of a tap's
// rule is a mirror to a block of interfaces that nobody has made: it copies
// nothing, says nothing, and its failures are the packets that matched. Kernels
// before 6.8 know no mirrors to blocks. There it is a police action for which each
// packet is too long, and which lets it pass all the same: those, too, are counted
// whole.
const (
	mirredBlock   = 4           // TCA_MIRRED_BLOCKID of linux/tc_act/tc_mirred.h
	countingBlock = deviceGroup // an arbitrary number; qdiscs take theirs from 1 up
	countingMTU   = 1
)

// counting is what counts the packets of a rule, the best one last.
type counting int

const (
	uncounted counting = iota // the mirror alone, in segments
	byPolice
	byBlock
)

// refused says that an error is that of a kernel that cannot count so.
func (c counting) refused(err error) bool {
	return c != uncounted && errors.Is(err, unix.EINVAL) || c == byPolice && errors.Is(err, unix.ENOENT)
}

// mirred is what a rule does: it mirrors or redirects to a device's egress, and counts; or
// it only counts.
type mirred struct {
	redirect bool
	to       int    // index of the device; 0 where it has been deleted, and where there is none
	cookie   cookie // zero for the rules of a device of ours that need none
	counted  counting
	// first and second are the numbers of the rule's actions, the counting one first, by
	// which another rule can have them with what they have counted; 0 makes new ones.
	first, second uint32
}

// countsOnly says that there is no mirror but the one that counts.
func (m *mirred) countsOnly() bool { return m.role() != 0 }

// role is what a tap's rule is there for, by its cookie: 0 for copying.
func (m *mirred) role() byte { return m.cookie.flags() & (ofAll | ofMatched) }

// action is an action of a rule as the kernel has it.
type action struct {
	kind     string
	number   uint32
	cookie   cookie
	marked   bool // the cookie is podtap's
	redirect bool
	to       int    // of a mirred, the device; 0 where it has been deleted
	block    uint32 // of a mirred, in place of a device
	mtu      uint32 // of a police action
	age      uint64 // since it was made, in the kernel's ticks of 10 ms
	counts   actionCounts
}

// Attributes that have a struct tcf_t, of linux/pkt_cls.h.
const (
	mirredTimes = 1 // TCA_MIRRED_TM
	policeTimes = 6 // TCA_POLICE_TM
)

// actionCounts are an action's statistics.
type actionCounts struct {
	packets, bytes uint64
	failed         uint32 // overlimits, which of a mirred are what it could not deliver
}

// parseAction reads one action of a rule, or of a list of actions.
func parseAction(value []byte) (a action) {
	for kind, value := range attributes(value) {
		switch kind {
		case nl.TCA_ACT_KIND:
			a.kind = unix.ByteSliceToString(value)
		case nl.TCA_ACT_COOKIE:
			a.cookie, a.marked = parseCookie(value)
		case nl.TCA_ACT_STATS:
			a.counts = parseActionCounts(value)
		case nl.TCA_ACT_OPTIONS:
			for kind, value := range attributes(value) {
				switch {
				case a.kind == "mirred" && kind == nl.TCA_MIRRED_PARMS && len(value) >= sizeofMirredParameters:
					a.number = number(value)
					a.redirect = binary.NativeEndian.Uint32(value[20:]) == mirredRedirect
					a.to = int(binary.NativeEndian.Uint32(value[24:]))
				case (a.kind == "mirred" && kind == mirredTimes || a.kind == "police" && kind == policeTimes) && len(value) >= 8:
					a.age = binary.NativeEndian.Uint64(value)
				case a.kind == "mirred" && kind == mirredBlock:
					a.block = number(value)
				case a.kind == "police" && kind == nl.TCA_POLICE_TBF && len(value) >= sizeofPoliceParameters:
					a.number, a.mtu = number(value), number(value[16:])
				}
			}
		}
	}
	return a
}

// Attributes of an action's statistics, from linux/gen_stats.h.
const (
	statsBasic     = 1 // bytes, 64 bits, and packets, 32 bits
	statsQueue     = 3 // qlen, backlog, drops, requeues, overlimits, 32 bits each
	statsPackets64 = 8 // packets, where 32 bits do not suffice
)

func parseActionCounts(value []byte) (c actionCounts) {
	for kind, value := range attributes(value) {
		switch {
		case kind == statsBasic && len(value) >= 12:
			c.bytes = binary.NativeEndian.Uint64(value)
			c.packets = max(c.packets, uint64(number(value[8:])))
		case kind == statsPackets64 && len(value) >= 8:
			c.packets = binary.NativeEndian.Uint64(value)
		case kind == statsQueue && len(value) >= 20:
			c.failed = number(value[16:])
		}
	}
	return c
}

// actionParameters is struct tc_gen of linux/pkt_cls.h, with which each action's
// parameters begin. The library's own has a wrong size.
type actionParameters struct {
	Index, Capab             uint32
	Action, Refcnt, Bindings int32
}

// mirredParameters is struct tc_mirred of linux/tc_act/tc_mirred.h.
type mirredParameters struct {
	actionParameters
	Eaction int32
	Ifindex uint32
}

// policeParameters is struct tc_police of linux/pkt_cls.h.
type policeParameters struct {
	Index             uint32
	Action            int32
	Limit, Burst, MTU uint32
	Rate, PeakRate    [12]byte
	Refcnt, Bindings  int32
	Capab             uint32
}

const (
	sizeofMirredParameters = 28
	sizeofPoliceParameters = 56
)

func encode(v any) []byte {
	var b bytes.Buffer
	_ = binary.Write(&b, binary.NativeEndian, v) // a buffer takes whatever has a fixed size
	return b.Bytes()
}

// counting says how an action counts the packets of a tap's rule.
func (a action) counting() counting {
	switch {
	case a.kind == "mirred" && a.block == countingBlock:
		return byBlock
	case a.kind == "police" && a.marked && a.mtu == countingMTU:
		return byPolice
	}
	return uncounted
}

// actions are those of a rule, below one of its attributes.
func (m *mirred) actions(attribute int) *nl.RtAttr {
	list := nl.NewRtAttr(attribute, nil)
	position := 1
	add := func(kind string, attribute int, parameters any) *nl.RtAttr {
		a := list.AddRtAttr(position, nil)
		position++
		a.AddRtAttr(nl.TCA_ACT_KIND, nl.ZeroTerminated(kind))
		if m.cookie != (cookie{}) {
			a.AddRtAttr(nl.TCA_ACT_COOKIE, m.cookie[:])
		}
		options := a.AddRtAttr(nl.TCA_ACT_OPTIONS, nil)
		options.AddRtAttr(attribute, encode(parameters))
		return options
	}
	mirred := func(then, what int32, to int) *nl.RtAttr {
		index := m.second
		if position == 1 {
			index = m.first
		}
		return add("mirred", nl.TCA_MIRRED_PARMS, mirredParameters{actionParameters{Index: index, Action: then}, what, uint32(to)})
	}
	then := int32(actPipe)
	if m.countsOnly() {
		then = actContinue
	}
	switch m.counted {
	case byBlock:
		mirred(then, mirredMirror, 0).AddRtAttr(mirredBlock, nl.Uint32Attr(countingBlock))
	case byPolice:
		// Kernels before 5.18 leave an ingressing frame's Ethernet header out: one of a byte
		// or none behind it is not too long, and is to go on all the same.
		add("police", nl.TCA_POLICE_TBF, policeParameters{Index: m.first, Action: then, MTU: countingMTU}).
			AddRtAttr(nl.TCA_POLICE_RESULT, nl.Uint32Attr(uint32(then)))
	}
	switch {
	case m.countsOnly():
	case m.redirect:
		mirred(actStolen, mirredRedirect, m.to)
	default:
		mirred(actContinue, mirredMirror, m.to)
	}
	return list
}
