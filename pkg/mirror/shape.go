package mirror

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/pkg/tap"
)

const (
	rootParent  = 0xffffffff // TC_H_ROOT
	shapeHandle = 0x00010000 // 1:
	// Attributes of a tbf qdisc, of linux/pkt_sched.h.
	tbfParameters = 1 // TCA_TBF_PARMS
	tbfRate64     = 4 // TCA_TBF_RATE64, bytes per second
	tbfBurst      = 6 // TCA_TBF_BURST, bytes
	// The token bucket takes a super-packet whole, and 10 ms of the rate.
	leastBurst    = 128 << 10
	burstsASecond = 100
	// The queue holds 50 ms of the rate, and some super-packets.
	leastQueue    = 256 << 10
	queuesASecond = 20
	ethernetLink  = 1 // TC_LINKLAYER_ETHERNET
)

// tbfOptions is struct tc_tbf_qopt of linux/pkt_sched.h.
type tbfOptions struct {
	Rate, Peak         rateSpecification
	Limit, Buffer, MTU uint32 // bytes of the queue; the others are given as attributes
}

// rateSpecification is struct tc_ratespec of linux/pkt_sched.h.
type rateSpecification struct {
	CellLog, LinkLayer uint8
	Overhead           uint16
	CellAlign          int16
	MPU                uint16 // the smallest packet, in bytes
	Rate               uint32 // bytes per second; the largest number where they are more
}

// setCap lets no more out of a device than a bitrate, and drops what does not fit into a
// short queue. Another bitrate is changed in place; 0 takes the queue away. On a device that
// is up the kernel puts a queue in, or takes it away, within some milliseconds, in which
// nothing passes.
func (n *namespace) setCap(l *link, rate tap.Bitrate) error {
	if rate == 0 {
		return n.change("uncap "+l.name, func() error {
			return ignoreGone(n.request(unix.RTM_DELQDISC, 0, &nl.TcMsg{Family: unix.AF_UNSPEC, Ifindex: int32(l.index), Parent: rootParent, Handle: shapeHandle}))
		})
	}
	bytes := uint64(rate) / 8
	options := nl.NewRtAttr(nl.TCA_OPTIONS, nil)
	options.AddRtAttr(tbfParameters, encode(tbfOptions{
		Rate:  rateSpecification{LinkLayer: ethernetLink, Rate: uint32(min(bytes, 1<<32-1))},
		Limit: uint32(min(max(leastQueue, bytes/queuesASecond), 1<<30)),
	}))
	options.AddRtAttr(tbfRate64, binary.NativeEndian.AppendUint64(nil, bytes))
	options.AddRtAttr(tbfBurst, nl.Uint32Attr(uint32(min(max(leastBurst, bytes/burstsASecond), 1<<30))))
	err := n.change("cap "+l.name, func() error {
		return n.request(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_REPLACE,
			&nl.TcMsg{Family: unix.AF_UNSPEC, Ifindex: int32(l.index), Parent: rootParent, Handle: shapeHandle},
			nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated("tbf")), options)
	})
	if errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("maxBitrate: %w: this kernel lacks the tbf qdisc (sch_tbf): %w", ErrUnsupported, err)
	}
	return err
}

// shape is the cap of a device, and what it has cost.
type shape struct {
	rate    tap.Bitrate
	dropped uint64 // packets
}

// shapes are the caps of a namespace's devices, by index.
func (n *namespace) shapes() (map[int]shape, error) {
	type capped struct {
		index int
		shape
	}
	list, err := query(n, unix.RTM_GETQDISC, unix.NLM_F_DUMP, func(m []byte) (c capped, ok bool, err error) {
		if len(m) < nl.SizeofTcMsg {
			return c, false, errors.New("short message")
		}
		head := nl.DeserializeTcMsg(m)
		if c.index = int(head.Ifindex); head.Parent != rootParent {
			return c, false, nil
		}
		for kind, value := range attributes(m[nl.SizeofTcMsg:]) {
			switch kind {
			case nl.TCA_KIND:
				ok = unix.ByteSliceToString(value) == "tbf"
			case nl.TCA_OPTIONS:
				c.rate = parseRate(value)
			case nl.TCA_STATS2:
				for kind, value := range attributes(value) {
					if kind == statsQueue && len(value) >= 20 {
						c.dropped = uint64(number(value[8:]))
					}
				}
			}
		}
		return c, ok, nil
	}, &nl.TcMsg{Family: unix.AF_UNSPEC})
	if err != nil {
		return nil, fmt.Errorf("list qdiscs: %w", err)
	}
	out := map[int]shape{}
	for _, c := range list {
		out[c.index] = c.shape
	}
	return out, nil
}

// parseRate reads a tbf's rate.
func parseRate(options []byte) tap.Bitrate {
	var rate, rate64 uint64
	for kind, value := range attributes(options) {
		switch {
		case kind == tbfParameters && len(value) >= 12:
			rate = uint64(number(value[8:]))
		case kind == tbfRate64 && len(value) == 8:
			rate64 = binary.NativeEndian.Uint64(value)
		}
	}
	return tap.Bitrate(max(rate, rate64) * 8)
}

// capProblem says what is wrong with a device's cap, "" for nothing.
func (n *namespace) capProblem(l *link, rate tap.Bitrate) (string, error) {
	shapes, err := n.shapes()
	now := shapes[l.index].rate
	if err != nil || now == inBytes(rate) {
		return "", err
	}
	return fmt.Sprintf("the device %s is capped at %s instead of %s", l.name, orNone(now), orNone(rate)), nil
}

// inBytes is a bitrate as the kernel keeps it: in whole bytes.
func inBytes(b tap.Bitrate) tap.Bitrate { return b / 8 * 8 }

func orNone(b tap.Bitrate) string {
	if b == 0 {
		return "nothing"
	}
	return b.String()
}
