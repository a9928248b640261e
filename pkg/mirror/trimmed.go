package mirror

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/pkg/mirror/internal/trim"
	"github.com/podtap/podtap/pkg/tap"
)

// license is what the kernel is told of programs; none of the helpers asks for more.
const license = "Apache-2.0"

// errNoEBPF says that the kernel does not take a program.
var errNoEBPF = errors.New("this kernel does not let podtap load eBPF programs")

// fits says whether a tap's copies are to fit the path without fragments.
func fits(v *tap.VXLAN) bool {
	return v != nil && v.Placement == tap.PlacementNode && (v.Oversize == tap.Fit || v.Oversize == tap.FitIfPossible)
}

// trimOf is how the copies of a tap are trimmed on the node. path is the most that the path
// to the collector takes, longest the length of the pod's own frames, and relay the index of
// the relay.
func trimOf(t tap.Tap, path, longest, relay int) trim.Spec {
	s := trim.Spec{Snap: int(t.SnapLength)}
	if fits(t.VXLAN) {
		s.Path = framesOf(path, t.VXLAN)
	}
	if s.Fits() {
		s.Longest, s.Relay = longest, relay
	}
	return s
}

// leastPath is the shortest path that copies are made to fit, in bytes of a frame: its headers,
// and not much more.
const leastPath = 96

// framesOf is the longest frame that fits into a path of an MTU with VXLAN's overhead, which
// counts an inner Ethernet header that is the frame's.
func framesOf(mtu int, v *tap.VXLAN) int {
	return min(max(mtu-overhead(v)+ethernetHeader, leastPath), tap.MaxSnapLength)
}

// carriageOf is how packets are to come into the device of a tap that is trimmed so.
func carriageOf(s trim.Spec) carriage {
	switch {
	case s.Cuts():
		return asOnWire
	case s.Fits():
		return tcpWhole
	}
	return asTheyAre
}

// trimmer is a program that is loaded, with its counts.
type trimmer struct {
	*ebpf.Program
	counts *ebpf.Map
}

func (t *trimmer) close() {
	if t.Program != nil {
		_ = t.Program.Close()
	}
	_ = t.counts.Close()
}

// loadTrim loads a tap's program. It counts where before did, the program of a number; 0 is
// none.
func loadTrim(s trim.Spec, before uint32) (*trimmer, error) {
	counts, err := countsOf(before)
	if err != nil {
		return nil, fmt.Errorf("the counts of the program before: %w", err)
	}
	if counts == nil {
		if counts, err = ebpf.NewMap(trim.Map()); err != nil {
			return nil, fmt.Errorf("%w: %w", errNoEBPF, err)
		}
	}
	t := &trimmer{counts: counts}
	spec := &ebpf.ProgramSpec{Type: ebpf.SchedCLS, Name: "podtap_fit", License: license}
	if s.Cuts() {
		spec.Type, spec.Name, spec.Instructions = ebpf.XDP, s.ShortName(), trim.Cut(s, counts.FD())
	} else {
		spec.Instructions = trim.Fit(s, counts.FD())
	}
	if t.Program, err = ebpf.NewProgram(spec); err != nil {
		t.close()
		return nil, fmt.Errorf("%w: %w", errNoEBPF, err)
	}
	return t, nil
}

// inspect looks at what the kernel tells of a program, by its number.
func inspect(program uint32, look func(*ebpf.ProgramInfo) error) error {
	p, err := ebpf.NewProgramFromID(ebpf.ProgramID(program))
	if err != nil {
		return err
	}
	defer func() { _ = p.Close() }()
	info, err := p.Info()
	if err != nil {
		return err
	}
	return look(info)
}

// countsOf is the map that a program counts in, nil for that of no program.
func countsOf(program uint32) (counts *ebpf.Map, err error) {
	if program == 0 {
		return nil, nil
	}
	err = inspect(program, func(info *ebpf.ProgramInfo) (err error) {
		ids, _ := info.MapIDs()
		if len(ids) != 1 {
			return fmt.Errorf("the program %d has %d maps", program, len(ids))
		}
		counts, err = ebpf.NewMapFromID(ids[0])
		return err
	})
	return counts, err
}

// attached is a program where the kernel has it, on the node's end of a tap.
type attached struct {
	trim.Spec
	program uint32     // its number; 0 where there is none
	xdp     uint32     // the same, where it is of XDP
	rule    *installed // what there is of tc's, beside one of XDP's only where a change was cut short
}

// trimAt finds the program that trims a tap's copies. An XDP program that is not podtap's is a
// sensor's.
func (n *namespace) trimAt(host *link) (attached, error) {
	var at attached
	if host.xdp != 0 {
		err := inspect(host.xdp, func(info *ebpf.ProgramInfo) error {
			if s, ok := trim.ParseShortName(info.Name); ok {
				at = attached{Spec: s, program: host.xdp, xdp: host.xdp}
			}
			return nil
		})
		if err != nil {
			return at, fmt.Errorf("the XDP program of %s: %w", host.name, err)
		}
	}
	rules, err := n.rules(host.index, hookIngress)
	for _, r := range rules {
		if s, ok := trim.ParseName(r.name); ok && at.rule == nil {
			if at.rule = &r; at.xdp == 0 {
				at.Spec, at.program = s, r.id
			}
		}
	}
	return at, err
}

// setTrim trims a tap's copies otherwise than now, in place: what was stays until the other is
// there. was is what there is now.
func (n *namespace) setTrim(host *link, was attached, s trim.Spec) error {
	if s.Trims() && s != was.Spec {
		if err := n.putTrim(host, was, s); err != nil {
			return err
		}
	}
	var failed error
	if was.rule != nil && !s.Fits() {
		failed = n.deleteRule(*was.rule)
	}
	if was.xdp != 0 && !s.Cuts() {
		failed = errors.Join(failed, n.setXDP(host, -1, was.xdp))
	}
	return failed
}

// setPath makes the copies of a tap fit another path, if they are to fit any.
func (n *namespace) setPath(host *link, path int) (changed bool, err error) {
	at, err := n.trimAt(host)
	if err != nil || at.Path == 0 || at.Path == path {
		return false, err
	}
	next := at.Spec
	next.Path = path
	err = n.setTrim(host, at, next)
	return err == nil, err
}

// putTrim puts a program where it belongs, in the place of one of its kind.
func (n *namespace) putTrim(host *link, was attached, s trim.Spec) error {
	t, err := loadTrim(s, was.program)
	if err != nil {
		return err
	}
	defer t.close()
	what := "trim the copies of " + host.name
	r := rule{index: host.index, hook: hookIngress, priority: trimPriority, loaded: t.FD(), name: s.Name()}
	switch {
	case s.Cuts():
		return n.setXDP(host, t.FD(), was.xdp)
	case was.rule != nil:
		return n.replaceRule(what, *was.rule, r)
	}
	return n.addRule(what, r)
}

// Of IFLA_XDP, from linux/if_link.h.
const (
	xdpDescriptor  = 1      // IFLA_XDP_FD
	xdpFlags       = 3      // IFLA_XDP_FLAGS
	xdpProgram     = 4      // IFLA_XDP_PROG_ID
	xdpExpected    = 8      // IFLA_XDP_EXPECTED_FD, since 5.7
	xdpIfNone      = 1 << 0 // XDP_FLAGS_UPDATE_IF_NOEXIST
	xdpGenericMode = 1 << 1 // XDP_FLAGS_SKB_MODE
	xdpReplace     = 1 << 4 // XDP_FLAGS_REPLACE
)

// setXDP gives a device a program that sees all that arrives, before packet sockets do; -1
// takes it away. It comes in the place of the one with a number, 0 for none, and of no other.
func (n *namespace) setXDP(l *link, descriptor int, was uint32) error {
	xdp := nl.NewRtAttr(unix.IFLA_XDP|unix.NLA_F_NESTED, nil)
	xdp.AddRtAttr(xdpDescriptor, nl.Uint32Attr(uint32(int32(descriptor))))
	flags := uint32(xdpGenericMode | xdpIfNone)
	if was != 0 {
		p, err := ebpf.NewProgramFromID(ebpf.ProgramID(was))
		if err != nil {
			return fmt.Errorf("the XDP program of %s: %w", l.name, err)
		}
		defer func() { _ = p.Close() }()
		xdp.AddRtAttr(xdpExpected, nl.Uint32Attr(uint32(p.FD())))
		flags = xdpGenericMode | xdpReplace
	}
	xdp.AddRtAttr(xdpFlags, nl.Uint32Attr(flags))
	err := n.setLink("trim the copies of "+l.name, l.index, 0, 0, xdp)
	if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("snapLength: the place of XDP on %s is %w by a program of somebody else's: %w", l.name, ErrConflict, err)
	}
	return err
}

// Trimmed is what a tap's copies have lost and gained on the node.
type Trimmed struct {
	Cut      Amount // copies that were cut, and the bytes that they lost thereby
	Segments uint64 // copies more than there were packets, of TCP that was segmented smaller
	Lost     uint64 // copies, for want of memory
}

// trimmed reads what a program has counted; nil where there is none.
func (a attached) trimmed() (*Trimmed, error) {
	counts, err := countsOf(a.program)
	if err != nil || counts == nil {
		return nil, err
	}
	defer func() { _ = counts.Close() }()
	var each []trim.Counts // of each CPU
	if err := counts.Lookup(uint32(0), &each); err != nil {
		return nil, err
	}
	out := &Trimmed{}
	for _, c := range each {
		out.Cut.Packets += c.CutPackets
		out.Cut.Bytes += c.CutBytes
		out.Segments += c.Segments
		out.Lost += c.Lost
	}
	return out, nil
}
