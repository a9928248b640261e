package mirror

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Where a rule hangs at a device: below clsact's hooks, or an ingress qdisc.
const (
	hookIngress = 0xfffffff2 // TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)
	hookEgress  = 0xfffffff3 // TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_EGRESS)
	hookQdisc   = 0xffff0000 // an ingress qdisc itself
)

const (
	qdiscParent = 0xfffffff1 // TC_H_CLSACT, which is TC_H_INGRESS
	qdiscHandle = 0xffff0000
)

// Priorities. A tap's rules should be early, because a rule of somebody else's
// that redirects or steals a packet hides it from later ones; but not the
// earliest, so that who wants to come before them finds room. Rules without a
// priority get one from 49152 down.
const (
	firstPriority = 256
	lastPriority  = 4095
)

// rule is a tc filter: what it matches, and what is done then.
type rule struct {
	index    int // of the device
	hook     uint32
	priority uint16
	program  []bpf.RawInstruction
	mirred   *mirred // nil: the program's verdict is the action
	// In place of program, an eBPF program, and the name that it has in the rule.
	loaded int // its descriptor; 0 for none
	name   string
}

// installed is a rule as the kernel has it.
type installed struct {
	rule
	handle   uint32
	kind     string
	protocol uint16 // network byte order, as tc has it
	marked   bool   // the action has a cookie of podtap's
	id       uint32 // of its eBPF program
}

// addRule makes a rule. It uses cls_bpf with classic bytecode, and u32 for a rule
// that matches everything where the kernel has no cls_bpf.
func (n *namespace) addRule(what string, r rule) error {
	_, err := n.addCounted(what, r)
	return err
}

// addCounted is addRule, and says how the kernel counts what the rule mirrors.
func (n *namespace) addCounted(what string, r rule) (by counting, err error) {
	err = n.change(what, func() error {
		err := n.tryRule(r)
		for r.mirred != nil && r.mirred.counted.refused(err) {
			next := *r.mirred
			next.counted--
			if r.mirred = &next; next.counted == uncounted && next.countsOnly() {
				return nil // then there is no such rule
			}
			err = n.tryRule(r)
		}
		return err
	})
	if r.mirred != nil {
		by = r.mirred.counted
	}
	return by, err
}

func (n *namespace) tryRule(r rule) error {
	err := n.requestRule(r, "bpf", bpfOptions(r))
	if !errors.Is(err, unix.ENOENT) {
		return err
	}
	if len(r.program) > 1 || r.loaded != 0 {
		return fmt.Errorf("%w: this kernel lacks cls_bpf, which runs a tap's filter and sample, and what keeps a VXLAN tap from copying its own copies: %w", ErrUnsupported, err)
	}
	if err := n.requestRule(r, "u32", u32Options(r)); err != nil {
		return fmt.Errorf("%w: this kernel lacks cls_bpf, and u32 fails too: %w", ErrUnsupported, err)
	}
	return nil
}

func (n *namespace) requestRule(r rule, kind string, options *nl.RtAttr) error {
	return n.requestAt(installed{rule: r, protocol: nl.Swap16(unix.ETH_P_ALL)}, unix.NLM_F_EXCL, kind, options)
}

// replaceRule puts a rule of cls_bpf in the place of one that is there. A packet meets the
// one or the other, and each once.
func (n *namespace) replaceRule(what string, was installed, r rule) error {
	was.rule = rule{index: was.index, hook: was.hook, priority: was.priority}
	return n.change(what, func() error { return n.requestAt(was, 0, "bpf", bpfOptions(r)) })
}

func (n *namespace) requestAt(r installed, flags int, kind string, options *nl.RtAttr) error {
	return n.request(unix.RTM_NEWTFILTER, unix.NLM_F_CREATE|flags,
		&nl.TcMsg{
			Family: unix.AF_UNSPEC, Ifindex: int32(r.index), Parent: r.hook, Handle: r.handle,
			Info: uint32(r.priority)<<16 | uint32(r.protocol),
		},
		nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated(kind)), options)
}

func bpfOptions(r rule) *nl.RtAttr {
	options := nl.NewRtAttr(nl.TCA_OPTIONS, nil)
	if r.loaded != 0 {
		options.AddRtAttr(nl.TCA_BPF_FD, nl.Uint32Attr(uint32(r.loaded)))
		options.AddRtAttr(nl.TCA_BPF_NAME, nl.ZeroTerminated(r.name))
	} else {
		options.AddRtAttr(nl.TCA_BPF_OPS_LEN, nl.Uint16Attr(uint16(len(r.program))))
		options.AddRtAttr(nl.TCA_BPF_OPS, encode(r.program))
	}
	if r.mirred == nil {
		options.AddRtAttr(nl.TCA_BPF_FLAGS, nl.Uint32Attr(nl.TCA_BPF_FLAG_ACT_DIRECT))
	} else {
		options.AddChild(r.mirred.actions(nl.TCA_BPF_ACT))
	}
	return options
}

// u32Options is `u32 match u32 0 0`, with gact's drop in the seal's place.
func u32Options(r rule) *nl.RtAttr {
	options := nl.NewRtAttr(nl.TCA_OPTIONS, nil)
	selector := &nl.TcU32Sel{Flags: nl.TC_U32_TERMINAL, Nkeys: 1}
	selector.Keys = []nl.TcU32Key{{}}
	options.AddRtAttr(nl.TCA_U32_SEL, selector.Serialize())
	if r.mirred != nil {
		options.AddChild(r.mirred.actions(nl.TCA_U32_ACT))
		return options
	}
	actions := nl.NewRtAttr(nl.TCA_U32_ACT, nil)
	action := actions.AddRtAttr(1, nil)
	action.AddRtAttr(nl.TCA_ACT_KIND, nl.ZeroTerminated("gact"))
	action.AddRtAttr(nl.TCA_ACT_OPTIONS, nil).AddRtAttr(nl.TCA_GACT_PARMS, encode(actionParameters{Action: verdictDrop}))
	options.AddChild(actions)
	return options
}

func (n *namespace) deleteRule(r installed) error {
	return n.change("delete a rule", func() error {
		return ignoreGone(n.request(unix.RTM_DELTFILTER, 0, &nl.TcMsg{
			Family: unix.AF_UNSPEC, Ifindex: int32(r.index), Parent: r.hook, Handle: r.handle,
			Info: uint32(r.priority)<<16 | uint32(r.protocol),
		}, nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated(r.kind))))
	})
}

// rules lists the rules of one device at one hook, in the kernel's order.
func (n *namespace) rules(index int, hook uint32) ([]installed, error) {
	found, err := query(n, unix.RTM_GETTFILTER, unix.NLM_F_DUMP, parseRule,
		&nl.TcMsg{Family: unix.AF_UNSPEC, Ifindex: int32(index), Parent: hook})
	if err != nil {
		return nil, fmt.Errorf("list rules: %w", err)
	}
	return found, nil
}

// parseRule reads an RTM_NEWTFILTER message. Without a handle it is the head of a
// priority, not a rule.
func parseRule(m []byte) (r installed, ok bool, err error) {
	if len(m) < nl.SizeofTcMsg {
		return r, false, errors.New("short message")
	}
	head := nl.DeserializeTcMsg(m)
	r = installed{handle: head.Handle, protocol: uint16(head.Info)}
	r.index, r.hook, r.priority = int(head.Ifindex), head.Parent, uint16(head.Info>>16)
	for kind, value := range attributes(m[nl.SizeofTcMsg:]) {
		switch kind {
		case nl.TCA_KIND:
			r.kind = unix.ByteSliceToString(value)
		case nl.TCA_OPTIONS:
			r.parseOptions(value)
		}
	}
	return r, r.handle != 0, nil
}

// bpfID is TCA_BPF_ID of linux/pkt_cls.h, since 4.13.
const bpfID = 11

// parseOptions reads the program and the mirred action of a bpf or u32 rule.
func (r *installed) parseOptions(value []byte) {
	actions := uint16(nl.TCA_BPF_ACT)
	switch r.kind {
	case "bpf":
	case "u32":
		actions = nl.TCA_U32_ACT
	default:
		return
	}
	for kind, value := range attributes(value) {
		switch {
		case kind == actions:
			r.parseActions(value)
		case r.kind == "bpf" && kind == nl.TCA_BPF_OPS:
			r.program = decodeProgram(value)
		case r.kind == "bpf" && kind == nl.TCA_BPF_NAME:
			r.name = unix.ByteSliceToString(value)
		case r.kind == "bpf" && kind == bpfID:
			r.id = number(value)
		}
	}
}

// decodeProgram reads instructions, of struct sock_filter.
func decodeProgram(value []byte) []bpf.RawInstruction {
	program := make([]bpf.RawInstruction, 0, len(value)/8)
	for ; len(value) >= 8; value = value[8:] {
		program = append(program, bpf.RawInstruction{Op: binary.NativeEndian.Uint16(value),
			Jt: value[2], Jf: value[3], K: binary.NativeEndian.Uint32(value[4:])})
	}
	return program
}

// parseActions reads the actions of a rule: the counting one, if it begins with
// that, and the next one, if it is a mirred. A rule that only counts has no next one.
func (r *installed) parseActions(value []byte) {
	var counts mirred
	for _, value := range attributes(value) {
		a := parseAction(value)
		if by := a.counting(); by != uncounted && counts.counted == uncounted {
			counts = mirred{cookie: a.cookie, counted: by, first: a.number}
			if a.marked && counts.countsOnly() {
				r.marked, r.mirred = true, &counts
			}
			continue
		}
		if a.kind == "mirred" {
			r.marked = a.marked
			r.mirred = &mirred{redirect: a.redirect, to: a.to, cookie: a.cookie, counted: counts.counted, first: counts.first, second: a.number}
			if counts.counted == uncounted {
				r.mirred.first, r.mirred.second = a.number, 0
			}
		}
		return
	}
}
