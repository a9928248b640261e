package mirror

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/pkg/tap"
)

// Check compares an owner's taps with the kernel and returns what is wrong, a
// sentence each; none on healthy taps.
func (p *Pod) Check(owner Owner, taps []tap.Tap) ([]string, error) {
	var want []wanted
	for _, t := range taps {
		want = append(want, wanted{t, filterHash(t.Filter)})
	}
	return p.checkAll(owner, want)
}

// wanted is a tap that is to be whole. Of its filter it takes the hash: an older podtap may
// have made another program of the same filter.
type wanted struct {
	tap.Tap
	filter string // filterHash, or unknownFilter
}

// unknownFilter is that of a tap whose alias has no room to tell.
const unknownFilter = "?"

func (p *Pod) checkAll(owner Owner, want []wanted) ([]string, error) {
	var problems []string
	for _, w := range want {
		found, err := p.check(owner, w)
		if err != nil {
			return nil, err
		}
		for _, f := range found {
			problems = append(problems, fmt.Sprintf("tap %s: %s", w.Device, f))
		}
	}
	return problems, nil
}

// CheckOwned checks that the taps which an owner has, as far as their devices
// tell of them, are whole.
func (p *Pod) CheckOwned(owner Owner) ([]string, error) {
	marks, err := p.marks()
	if err != nil {
		return nil, err
	}
	var want []wanted
	for m, l := range marks {
		if m.ownedBy(owner) {
			t, err := p.told(m, l)
			if err == nil && t.Wire == nil {
				err = p.toldMore(&t, m, l)
			}
			if err != nil {
				return nil, err
			}
			filter := m.Filter
			if filter == "" && m.withFilter(filterHash("any")).Filter == "" {
				filter = unknownFilter
			}
			want = append(want, wanted{t, filter})
		}
	}
	return p.checkAll(owner, want)
}

func (p *Pod) check(owner Owner, w wanted) ([]string, error) {
	t := w.Tap
	device, err := p.linkByName(t.Device)
	if err != nil {
		return nil, err
	}
	if device == nil {
		return []string{"its device is missing in the pod"}, nil
	}
	m, ours := linkMark(device)
	if !ours || !m.ownedBy(owner) {
		return []string{"its device in the pod is not this attachment's"}, nil
	}
	problems, err := p.checkDevice(device, t, quietMTU)
	if err != nil {
		return nil, err
	}
	if w.filter != unknownFilter && m.Filter != m.withFilter(w.filter).Filter {
		problems = append(problems, "it was made with another filter")
	}
	if t.Wire == nil {
		problem, err := p.capProblem(device, t.MaxBitrate)
		if err != nil {
			return nil, err
		}
		if problem != "" {
			problems = append(problems, problem)
		}
	}
	var more []string
	switch {
	case t.VXLAN != nil && t.VXLAN.Placement == tap.PlacementPod:
		more, err = p.destinationProblems(device, collectorOf(t.VXLAN))
	default:
		more, err = p.checkHost(owner, t)
	}
	if err != nil {
		return nil, err
	}
	problems = append(problems, more...)
	if t.Wire == nil {
		more, err = p.checkRules(owner, w, device.index)
	} else {
		more, err = p.checkWire(device, t.Wire.Addresses)
	}
	return append(problems, more...), err
}

// checkDevice checks one end of a tap by itself. mtu is that of one which only
// carries copies.
func (n *namespace) checkDevice(l *link, t tap.Tap, mtu int) ([]string, error) {
	var problems []string
	if !l.up() {
		problems = append(problems, fmt.Sprintf("the device %s is down", l.name))
	}
	if t.Wire != nil {
		if t.Wire.MTU > 0 && l.mtu != t.Wire.MTU {
			problems = append(problems, fmt.Sprintf("the device %s has MTU %d instead of %d", l.name, l.mtu, t.Wire.MTU))
		}
		return problems, nil
	}
	if l.mtu != mtu && l.mtu != mirrorMTU { // older podtaps gave this to both ends
		problems = append(problems, fmt.Sprintf("the device %s has MTU %d instead of %d", l.name, l.mtu, mtu))
	}
	more, err := n.silenceProblems(l)
	return append(problems, more...), err
}

// silenceProblems checks that a device which carries copies sends and hears
// nothing of its own.
func (n *namespace) silenceProblems(l *link) ([]string, error) {
	var problems []string
	if l.flags&unix.IFF_NOARP == 0 {
		problems = append(problems, fmt.Sprintf("the device %s answers ARP", l.name))
	}
	if n.sysctl(l.name, "ipv6", "disable_ipv6") == "0" {
		problems = append(problems, fmt.Sprintf("the device %s has IPv6 switched on", l.name))
	}
	rules, err := n.rules(l.index, hookIngress)
	if err != nil {
		return nil, err
	}
	sealed := slices.ContainsFunc(rules, func(r installed) bool {
		return r.priority <= sealPriority && r.mirred == nil && (r.kind == "u32" || slices.Equal(r.program, dropAll()))
	})
	if !sealed {
		problems = append(problems, fmt.Sprintf("the device %s is not sealed: what arrives on it reaches the stack behind it", l.name))
	}
	return problems, nil
}

// checkRules checks the tap's rules on the pod's interface.
func (p *Pod) checkRules(owner Owner, w wanted, device int) ([]string, error) {
	t := w.Tap
	tapped, err := p.linkByName(t.Interface)
	if err != nil {
		return nil, err
	}
	if tapped == nil {
		return []string{fmt.Sprintf("the tapped interface %s is missing", t.Interface)}, nil
	}
	kinds, err := p.hookQdiscs()
	if err != nil {
		return nil, err
	}
	index := tapped.index
	var problems []string
	for _, direction := range []tap.Direction{tap.Ingress, tap.Egress} {
		hook := uint32(hookIngress)
		if direction == tap.Egress {
			hook = hookEgress
		}
		if hook == hookEgress && kinds[index] == "ingress" {
			continue // the kernel would answer with the rules of the other hook
		}
		rules, err := p.rules(index, hook)
		if err != nil {
			return nil, err
		}
		mine := slices.DeleteFunc(rules, func(r installed) bool {
			return !r.marked || !r.mirred.cookie.sameTap(newCookie(owner, t.Device, 0))
		})
		if problem := w.ruleProblem(mine, t.Includes(direction), device); problem != "" {
			problems = append(problems, fmt.Sprintf("%s of %s: %s", direction, t.Interface, problem))
		}
	}
	return problems, nil
}

// ruleProblem checks the rules that a tap has at one hook.
func (w wanted) ruleProblem(rules []installed, included bool, device int) string {
	counts := 0
	copies := slices.DeleteFunc(slices.Clone(rules), func(r installed) bool {
		if r.mirred.countsOnly() {
			counts++
			return true
		}
		return false
	})
	switch {
	case !included && len(rules) == 0:
		return ""
	case !included:
		return "is copied, though the tap does not ask for it"
	case len(copies) == 0:
		return "its rule is missing; nothing is copied"
	case len(copies) > 1:
		return "has more than one rule; packets are copied more than once"
	case copies[0].mirred.to != device:
		return "its rule mirrors to a device that is not the tap's"
	case !w.fits(copies[0]):
		return "its rule has another program"
	case copies[0].mirred.counted == uncounted || w.filter == unknownFilter:
		return "" // there is none that counts, or nobody knows how many
	}
	want := 0
	if w.filter != "" {
		want++
	}
	if w.Samples() {
		want++
	}
	if counts != want {
		return fmt.Sprintf("has %d rules that only count, instead of %d", counts, want)
	}
	return ""
}

// fits says whether a rule's program can be the tap's. Whatever a filter matches, copies are
// not copied again.
func (w wanted) fits(r installed) bool {
	guard, some := guardOf(w.Tap), w.filter != "" && w.filter != unknownFilter
	if r.kind != "bpf" {
		return len(guard) == 1 && !some && !w.Samples() // u32, which matches all
	}
	program, ok := unsampled(r.program, w.SampleRate)
	if !ok {
		return false
	}
	if slices.Equal(program, guard) {
		return !some || w.VXLAN == nil
	}
	return w.filter != "" && (w.VXLAN == nil || goesOnWith(program, guard))
}

// marks are those of all taps' devices in a namespace.
func (n *namespace) marks() (map[mark]*link, error) {
	links, err := n.links()
	if err != nil {
		return nil, err
	}
	out := map[mark]*link{}
	for _, l := range links {
		if m, isTap := linkMark(l); isTap {
			out[m] = l
		}
	}
	return out, nil
}
