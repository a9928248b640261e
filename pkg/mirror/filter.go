package mirror

import (
	"bytes"
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

// What a mirred action does with a packet, and what classification does then.
const (
	mirredRedirect = 1 // TCA_EGRESS_REDIR
	mirredMirror   = 2 // TCA_EGRESS_MIRROR

	// actContinue (TC_ACT_UNSPEC) goes on to the next rule after a mirror. With
	// TC_ACT_PIPE classification would end here, and the rules after ours, and
	// everybody else's, would see nothing.
	actContinue = -1
	actStolen   = 4 // TC_ACT_STOLEN, after a redirect
)

// rule is a tc filter: what it matches, and the one action that it takes.
type rule struct {
	index    int // of the device
	hook     uint32
	priority uint16
	program  []bpf.RawInstruction
	mirred   *mirred // nil: the program's verdict is the action
}

// mirred is a mirror or a redirect to a device's egress.
type mirred struct {
	redirect bool
	to       int    // index of the device; 0 where it has been deleted
	cookie   cookie // zero for a rule on a device of ours, which needs none
}

// installed is a rule as the kernel has it.
type installed struct {
	rule
	handle   uint32
	kind     string
	protocol uint16 // network byte order, as tc has it
	marked   bool   // the action has a cookie of podtap's
}

// addRule makes a rule. It uses cls_bpf with classic bytecode, and u32 for a rule
// that matches everything where the kernel has no cls_bpf.
func (n *namespace) addRule(what string, r rule) error {
	return n.change(what, func() error {
		err := n.requestRule(r, "bpf", bpfOptions(r))
		if !errors.Is(err, unix.ENOENT) {
			return err
		}
		if len(r.program) > 1 {
			return fmt.Errorf("%w: this kernel lacks cls_bpf, which keeps a VXLAN tap from copying its own copies: %w", ErrUnsupported, err)
		}
		if err := n.requestRule(r, "u32", u32Options(r)); err != nil {
			return fmt.Errorf("%w: this kernel lacks cls_bpf, and u32 fails too: %w", ErrUnsupported, err)
		}
		return nil
	})
}

func (n *namespace) requestRule(r rule, kind string, options *nl.RtAttr) error {
	_, err := n.request(unix.RTM_NEWTFILTER, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK,
		&nl.TcMsg{
			Family: unix.AF_UNSPEC, Ifindex: int32(r.index), Parent: r.hook,
			Info: uint32(r.priority)<<16 | uint32(nl.Swap16(unix.ETH_P_ALL)),
		},
		nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated(kind)), options)
	return err
}

func bpfOptions(r rule) *nl.RtAttr {
	options := nl.NewRtAttr(nl.TCA_OPTIONS, nil)
	options.AddRtAttr(nl.TCA_BPF_OPS_LEN, nl.Uint16Attr(uint16(len(r.program))))
	options.AddRtAttr(nl.TCA_BPF_OPS, encode(r.program))
	if r.mirred == nil {
		options.AddRtAttr(nl.TCA_BPF_FLAGS, nl.Uint32Attr(nl.TCA_BPF_FLAG_ACT_DIRECT))
	} else {
		options.AddChild(r.mirred.action(nl.TCA_BPF_ACT))
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
		options.AddChild(r.mirred.action(nl.TCA_U32_ACT))
		return options
	}
	actions := nl.NewRtAttr(nl.TCA_U32_ACT, nil)
	action := actions.AddRtAttr(1, nil)
	action.AddRtAttr(nl.TCA_ACT_KIND, nl.ZeroTerminated("gact"))
	action.AddRtAttr(nl.TCA_ACT_OPTIONS, nil).AddRtAttr(nl.TCA_GACT_PARMS, actionParameters{Action: verdictDrop}.bytes())
	options.AddChild(actions)
	return options
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

const sizeofMirredParameters = 28

func (p actionParameters) bytes() []byte { return encode(p) }
func (p mirredParameters) bytes() []byte { return encode(p) }

func encode(v any) []byte {
	var b bytes.Buffer
	_ = binary.Write(&b, binary.NativeEndian, v) // a buffer takes whatever has a fixed size
	return b.Bytes()
}

func (m *mirred) action(attribute int) *nl.RtAttr {
	parameters := mirredParameters{actionParameters{Action: actContinue}, mirredMirror, uint32(m.to)}
	if m.redirect {
		parameters.Action, parameters.Eaction = actStolen, mirredRedirect
	}
	actions := nl.NewRtAttr(attribute, nil)
	action := actions.AddRtAttr(1, nil)
	action.AddRtAttr(nl.TCA_ACT_KIND, nl.ZeroTerminated("mirred"))
	if m.cookie != (cookie{}) {
		action.AddRtAttr(nl.TCA_ACT_COOKIE, m.cookie[:])
	}
	action.AddRtAttr(nl.TCA_ACT_OPTIONS, nil).AddRtAttr(nl.TCA_MIRRED_PARMS, parameters.bytes())
	return actions
}

func (n *namespace) deleteRule(r installed) error {
	return n.change("delete a rule", func() error {
		_, err := n.request(unix.RTM_DELTFILTER, unix.NLM_F_ACK, &nl.TcMsg{
			Family: unix.AF_UNSPEC, Ifindex: int32(r.index), Parent: r.hook, Handle: r.handle,
			Info: uint32(r.priority)<<16 | uint32(r.protocol),
		}, nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated(r.kind)))
		return ignoreGone(err)
	})
}

// ignoreGone turns the errors of a deletion that came too late into success.
func ignoreGone(err error) error {
	for _, gone := range []error{unix.ENOENT, unix.ENODEV, unix.EINVAL} {
		if errors.Is(err, gone) {
			return nil
		}
	}
	return err
}

// rules lists the rules of one device at one hook, in the kernel's order.
func (n *namespace) rules(index int, hook uint32) ([]installed, error) {
	messages, err := retryDump(func() ([][]byte, error) {
		return n.request(unix.RTM_GETTFILTER, unix.NLM_F_DUMP,
			&nl.TcMsg{Family: unix.AF_UNSPEC, Ifindex: int32(index), Parent: hook})
	})
	if err != nil {
		return nil, fmt.Errorf("list rules: %w", err)
	}
	var out []installed
	for _, m := range messages {
		r, err := parseRule(m)
		if err != nil {
			return nil, fmt.Errorf("list rules: %w", err)
		}
		if r.handle != 0 { // without one it is the head of a priority, not a rule
			out = append(out, r)
		}
	}
	return out, nil
}

func parseRule(m []byte) (installed, error) {
	if len(m) < nl.SizeofTcMsg {
		return installed{}, errors.New("short message")
	}
	head := nl.DeserializeTcMsg(m)
	r := installed{handle: head.Handle, protocol: uint16(head.Info)}
	r.index, r.hook, r.priority = int(head.Ifindex), head.Parent, uint16(head.Info>>16)
	attributes, err := nl.ParseRouteAttr(m[nl.SizeofTcMsg:])
	if err != nil {
		return r, err
	}
	for _, a := range attributes {
		switch a.Attr.Type &^ unix.NLA_F_NESTED {
		case nl.TCA_KIND:
			r.kind = unix.ByteSliceToString(a.Value)
		case nl.TCA_OPTIONS:
			if err := r.parseOptions(a.Value); err != nil {
				return r, err
			}
		}
	}
	return r, nil
}

// parseOptions reads the program and the first mirred action of a bpf or u32 rule.
func (r *installed) parseOptions(value []byte) error {
	action := uint16(nl.TCA_BPF_ACT)
	switch r.kind {
	case "bpf":
	case "u32":
		action = nl.TCA_U32_ACT
	default:
		return nil
	}
	attributes, err := nl.ParseRouteAttr(value)
	if err != nil {
		return err
	}
	for _, a := range attributes {
		switch t := a.Attr.Type &^ unix.NLA_F_NESTED; {
		case t == action:
			if err := r.parseActions(a.Value); err != nil {
				return err
			}
		case r.kind == "bpf" && t == nl.TCA_BPF_OPS:
			r.program = make([]bpf.RawInstruction, len(a.Value)/8)
			if err := binary.Read(bytes.NewReader(a.Value), binary.NativeEndian, r.program); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *installed) parseActions(value []byte) error {
	actions, err := nl.ParseRouteAttr(value)
	if err != nil || len(actions) == 0 {
		return err
	}
	attributes, err := nl.ParseRouteAttr(actions[0].Value)
	if err != nil {
		return err
	}
	var m mirred
	isMirred := false
	for _, a := range attributes {
		switch a.Attr.Type &^ unix.NLA_F_NESTED {
		case nl.TCA_ACT_KIND:
			isMirred = unix.ByteSliceToString(a.Value) == "mirred"
		case nl.TCA_ACT_COOKIE:
			m.cookie, r.marked = parseCookie(a.Value)
		case nl.TCA_ACT_OPTIONS:
			options, err := nl.ParseRouteAttr(a.Value)
			if err != nil {
				return err
			}
			for _, o := range options {
				if o.Attr.Type == nl.TCA_MIRRED_PARMS && len(o.Value) >= sizeofMirredParameters {
					m.redirect = binary.NativeEndian.Uint32(o.Value[20:]) == mirredRedirect
					m.to = int(binary.NativeEndian.Uint32(o.Value[24:]))
				}
			}
		}
	}
	if isMirred {
		r.mirred = &m
	}
	return nil
}
