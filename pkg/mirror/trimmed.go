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
		// The overhead counts an inner Ethernet header, which is the frame's.
		s.Path, s.Longest = path-overhead(t.VXLAN)+ethernetHeader, longest
	}
	if s.Fits() {
		s.Relay = relay
	}
	return s
}

// segmentationOf is what may go into the device of a tap that is trimmed so.
func segmentationOf(s trim.Spec) segmentation {
	switch {
	case s.Snap > 0:
		return wireWhole
	case s.Trims():
		return tcpWhole
	}
	return allWhole
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

// loadTrim loads the program of a tap: of one with a relay, or of one whose copies come out of a
// device on the node. It counts where before did, the program of a number; 0 is none.
func loadTrim(s trim.Spec, relayed bool, before uint32) (*trimmer, error) {
	counts, err := countsOf(before)
	if err == nil && counts == nil {
		counts, err = ebpf.NewMap(trim.Map())
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoEBPF, err)
	}
	t := &trimmer{counts: counts}
	spec := &ebpf.ProgramSpec{Type: ebpf.XDP, Name: s.ShortName(), License: license}
	if relayed {
		spec.Type, spec.Name, spec.Instructions = ebpf.SchedCLS, "podtap_trim", trim.Relay(s, counts.FD())
	} else {
		spec.Instructions = trim.Veth(s, counts.FD())
	}
	if t.Program, err = ebpf.NewProgram(spec); err != nil {
		t.close()
		return nil, fmt.Errorf("%w: %w", errNoEBPF, err)
	}
	return t, nil
}

// countsOf is the map that a program counts in, nil for that of no program.
func countsOf(program uint32) (*ebpf.Map, error) {
	if program == 0 {
		return nil, nil
	}
	p, err := ebpf.NewProgramFromID(ebpf.ProgramID(program))
	if err != nil {
		return nil, err
	}
	defer func() { _ = p.Close() }()
	info, err := p.Info()
	if err != nil {
		return nil, err
	}
	ids, _ := info.MapIDs()
	if len(ids) != 1 {
		return nil, fmt.Errorf("the program %d has %d maps", program, len(ids))
	}
	return ebpf.NewMapFromID(ids[0])
}

// attached is a program where the kernel has it, on the node's end of a tap.
type attached struct {
	trim.Spec
	program uint32     // its number; 0 where there is none
	rule    *installed // nil where it is of XDP
}

// trimAt finds the program that trims a tap's copies.
func (n *namespace) trimAt(host *link) (attached, error) {
	if host.xdp != 0 {
		p, err := ebpf.NewProgramFromID(ebpf.ProgramID(host.xdp))
		if err != nil {
			return attached{}, fmt.Errorf("the XDP program of %s: %w", host.name, err)
		}
		defer func() { _ = p.Close() }()
		info, err := p.Info()
		if err != nil {
			return attached{}, fmt.Errorf("the XDP program of %s: %w", host.name, err)
		}
		if s, ok := trim.ParseShortName(info.Name); ok {
			return attached{Spec: s, program: host.xdp}, nil
		}
		return attached{}, nil // a sensor's
	}
	rules, err := n.rules(host.index, hookIngress)
	for _, r := range rules {
		if s, ok := trim.ParseName(r.name); ok {
			return attached{s, r.id, &r}, err
		}
	}
	return attached{}, err
}

// setTrim trims a tap's copies otherwise than now, in place: a packet meets the one program
// or the other. was is what there is now.
func (n *namespace) setTrim(host *link, relayed bool, was attached, s trim.Spec) error {
	switch {
	case s == was.Spec:
		return nil
	case !s.Trims() && was.rule != nil:
		return n.deleteRule(*was.rule)
	case !s.Trims():
		return n.setXDP(host, -1)
	}
	t, err := loadTrim(s, relayed, was.program)
	if err != nil {
		return err
	}
	defer t.close()
	if !relayed {
		return n.setXDP(host, t.FD())
	}
	r := rule{index: host.index, hook: hookIngress, priority: trimPriority, loaded: t.FD(), name: s.Name()}
	if was.rule != nil {
		return n.replaceRule("trim the copies of "+host.name, *was.rule, r)
	}
	return n.addRule("trim the copies of "+host.name, r)
}

// Of IFLA_XDP, from linux/if_link.h.
const (
	xdpDescriptor  = 1      // IFLA_XDP_FD
	xdpFlags       = 3      // IFLA_XDP_FLAGS
	xdpProgram     = 4      // IFLA_XDP_PROG_ID
	xdpGenericMode = 1 << 1 // XDP_FLAGS_SKB_MODE
)

// setXDP gives a device a program that sees all that arrives, before packet sockets do; -1
// takes it away.
func (n *namespace) setXDP(l *link, descriptor int) error {
	xdp := nl.NewRtAttr(unix.IFLA_XDP|unix.NLA_F_NESTED, nil)
	xdp.AddRtAttr(xdpDescriptor, nl.Uint32Attr(uint32(int32(descriptor))))
	xdp.AddRtAttr(xdpFlags, nl.Uint32Attr(xdpGenericMode))
	return n.setLink("trim the copies of "+l.name, l.index, 0, 0, xdp)
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
