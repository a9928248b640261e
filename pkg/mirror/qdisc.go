package mirror

import (
	"errors"
	"fmt"
	"slices"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// hookQdiscs lists the devices that have a clsact or an ingress qdisc, by index.
func (n *namespace) hookQdiscs() (map[int]string, error) {
	type hook struct {
		index int
		kind  string
	}
	list, err := query(n, unix.RTM_GETQDISC, unix.NLM_F_DUMP, func(m []byte) (h hook, ok bool, err error) {
		if len(m) < nl.SizeofTcMsg {
			return h, false, errors.New("short message")
		}
		head := nl.DeserializeTcMsg(m)
		h.index = int(head.Ifindex)
		for kind, value := range attributes(m[nl.SizeofTcMsg:]) {
			if kind == nl.TCA_KIND {
				h.kind = unix.ByteSliceToString(value)
			}
		}
		return h, head.Parent == qdiscParent, nil
	}, &nl.TcMsg{Family: unix.AF_UNSPEC})
	if err != nil {
		return nil, fmt.Errorf("list qdiscs: %w", err)
	}
	out := map[int]string{}
	for _, h := range list {
		out[h.index] = h.kind
	}
	return out, nil
}

// addClsact gives a device its hooks. made is false where it has them already.
func (n *namespace) addClsact(index int, name string) (made bool, err error) {
	err = n.change("make clsact on "+name, func() error {
		return n.request(unix.RTM_NEWQDISC, unix.NLM_F_CREATE|unix.NLM_F_EXCL,
			&nl.TcMsg{Family: unix.AF_UNSPEC, Ifindex: int32(index), Handle: qdiscHandle, Parent: qdiscParent},
			nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated("clsact")))
	})
	switch {
	case errors.Is(err, unix.EEXIST):
		return false, nil
	case errors.Is(err, unix.ENOENT):
		return false, fmt.Errorf("%w: this kernel lacks the clsact qdisc: %w", ErrUnsupported, err)
	}
	return err == nil, err
}

func (n *namespace) deleteClsact(index int) error {
	return n.change("delete clsact", func() error {
		return ignoreGone(n.request(unix.RTM_DELQDISC, 0,
			&nl.TcMsg{Family: unix.AF_UNSPEC, Ifindex: int32(index), Handle: qdiscHandle, Parent: qdiscParent}))
	})
}

// raisedQueue is the queue length that the kernel gives an interface without one:
// DEFAULT_TX_QUEUE_LEN of net/sch_generic.h.
const raisedQueue = 1000

// clearQueueLength sets an interface's queue length back to 0. At any qdisc's
// making the kernel takes a length of 0, which the interfaces of many network
// plugins have, for a mistake, and makes it 1000.
func (n *namespace) clearQueueLength(l *link) error {
	return n.setLink("keep the queue length of "+l.name, l.index, 0, 0, nl.NewRtAttr(unix.IFLA_TXQLEN, nl.Uint32Attr(0)))
}

// sealPriority is that of the drop on a device of ours. A relay's redirect comes
// before it, so that what the redirect cannot deliver goes nowhere else.
const (
	redirectPriority = 1
	sealPriority     = 2
)

// seal drops whatever arrives on a device of ours. Packet sockets see a packet
// before tc does, so a sensor on the device still sees all.
func (n *namespace) seal(index int, name string) error {
	if _, err := n.addClsact(index, name); err != nil {
		return err
	}
	err := n.addRule("seal "+name, rule{index: index, hook: hookIngress, priority: sealPriority, program: dropAll()})
	if errors.Is(err, unix.EEXIST) {
		return nil // as it is on a device that is sealed again
	}
	return err
}

// attach hangs a tap's rules at the pod's interface, one for each direction, and
// makes clsact there if nobody has. kind is that of the qdisc that it had; made
// says that it has clsact from here.
func (n *namespace) attach(l *link, kind string, ofTap cookie, hooks []uint32, r rule) (made bool, err error) {
	r.index = l.index
	if made, err = n.addClsact(l.index, l.name); err != nil {
		return made, err
	}
	var present []installed
	if made {
		kind = "clsact"
		if l.queue == 0 {
			err = n.clearQueueLength(l)
		}
	} else {
		kind, present, err = n.clearRemains(l.index, kind, ofTap)
	}
	if err != nil {
		return made, err
	}
	ours := made || ownsClsact(present)
	if !ours && len(present) == 0 {
		ours, err = n.isClaimed(l.name)
		if err != nil {
			return made, err
		}
	}
	if ours {
		ofTap[5] |= ownClsact
	}
	for _, hook := range hooks {
		if hook == hookEgress && kind != "clsact" {
			return made, fmt.Errorf("%w: %s has an ingress qdisc, which somebody else made and which has no egress hook; "+
				"tap direction ingress, or let its owner use clsact instead", ErrUnsupported, l.name)
		}
		r.mirred.cookie = ofTap
		if hook == hookEgress {
			r.mirred.cookie[5] |= ofEgress
		}
		r.hook = hookAt(kind, hook, present)
		if r.priority, err = freePriority(present); err != nil {
			return made, fmt.Errorf("on %s: %w", l.name, err)
		}
		if err := n.addRule("attach the tap to "+l.name, r); err != nil {
			return made, err
		}
		present = append(present, installed{rule: r})
	}
	return made, nil
}

// isClaimed says whether a tap's alias tells that an interface's clsact, which is
// empty, is podtap's: another network's ADD may have been cut short.
func (n *namespace) isClaimed(name string) (bool, error) {
	links, err := n.links()
	return slices.ContainsFunc(links, func(l *link) bool {
		m, isTap := linkMark(l)
		return isTap && m.Clsact && m.Interface == name && m.Device != ""
	}), err
}

// clearRemains deletes the rules that a tap has already, where somebody deleted
// its devices, and returns the others, and the kind of the qdisc if it was unknown.
func (n *namespace) clearRemains(index int, kind string, ofTap cookie) (string, []installed, error) {
	if kind == "" { // somebody has made one since we looked
		kinds, err := n.hookQdiscs()
		if err != nil {
			return "", nil, err
		}
		kind = kinds[index]
	}
	rules, err := n.allRules(index, kind)
	if err != nil {
		return "", nil, err
	}
	var others []installed
	for _, r := range rules {
		if !r.marked || r.mirred == nil || !r.mirred.cookie.sameTap(ofTap) {
			others = append(others, r)
		} else if err := n.deleteRule(r); err != nil {
			return "", nil, err
		}
	}
	return kind, others, nil
}

// allRules lists a device's rules at every hook that its qdisc has. An ingress
// qdisc answers for both hooks with the same rules.
func (n *namespace) allRules(index int, qdisc string) ([]installed, error) {
	rules, err := n.rules(index, hookIngress)
	if err != nil || qdisc != "clsact" {
		return rules, err
	}
	egress, err := n.rules(index, hookEgress)
	return append(rules, egress...), err
}

// hookAt is where a rule is to hang. Below an ingress qdisc any place is the
// same one, but tc shows all its rules under the name that the last one came
// with: so ours come with the name that theirs have.
func hookAt(qdisc string, hook uint32, present []installed) uint32 {
	switch {
	case qdisc == "clsact":
		return hook
	case len(present) > 0:
		return present[0].hook
	}
	return hookQdisc
}

// ownsClsact says whether one of podtap's rules tells that podtap made the clsact.
func ownsClsact(rules []installed) bool {
	for _, r := range rules {
		if r.marked && r.mirred != nil && r.mirred.cookie.flags()&ownClsact != 0 {
			return true
		}
	}
	return false
}

// freePriority finds a priority that no rule of either direction has: u32 rules
// of the same priority share tables across the directions.
func freePriority(present []installed) (uint16, error) {
	used := map[uint16]bool{}
	for _, r := range present {
		used[r.priority] = true
	}
	for p := uint16(firstPriority); p <= lastPriority; p++ {
		if !used[p] {
			return p, nil
		}
	}
	return 0, fmt.Errorf("no free priority from %d to %d", firstPriority, lastPriority)
}

// detach removes the rules whose cookie is wanted from the interfaces among some
// devices, and each clsact that podtap made and that is empty thereby. Taps' own
// devices have no such rules.
func (n *namespace) detach(links []*link, wanted func(cookie) bool) error {
	hooks, err := n.hookQdiscs()
	if err != nil {
		return err
	}
	for _, l := range links {
		if _, isTap := linkMark(l); isTap && l.flags&unix.IFF_NOARP != 0 || hooks[l.index] == "" {
			continue
		}
		if err := n.detachFrom(l.index, hooks[l.index], wanted); err != nil {
			return err
		}
	}
	return nil
}

func (n *namespace) detachFrom(index int, qdisc string, wanted func(cookie) bool) error {
	all, err := n.allRules(index, qdisc)
	if err != nil {
		return err
	}
	var rules []installed
	for _, r := range all {
		if r.marked && r.mirred != nil && wanted(r.mirred.cookie) {
			rules = append(rules, r)
		}
	}
	if qdisc == "clsact" && len(rules) == len(all) && ownsClsact(rules) {
		return n.deleteClsact(index) // with all that hangs there
	}
	for _, r := range rules {
		if err := n.deleteRule(r); err != nil {
			return err
		}
	}
	if err := n.deleteTables(index, qdisc, rules); err != nil {
		return err
	}
	if ownsClsact(rules) {
		return n.removeIfEmpty(index)
	}
	return nil
}

// deleteTables deletes the hash tables that u32 rules leave at their priorities,
// where nobody else has a rule.
func (n *namespace) deleteTables(index int, qdisc string, gone []installed) error {
	ours := map[[2]uint32]bool{} // hook and priority
	for _, r := range gone {
		if r.kind == "u32" {
			ours[[2]uint32{r.hook, uint32(r.priority)}] = true
		}
	}
	if len(ours) == 0 {
		return nil
	}
	rules, err := n.allRules(index, qdisc)
	if err != nil {
		return err
	}
	const node = 0xfffff // the part of a handle that a table has not
	for _, r := range rules {
		if r.handle&node != 0 {
			delete(ours, [2]uint32{r.hook, uint32(r.priority)})
		}
	}
	for _, r := range rules {
		at := [2]uint32{r.hook, uint32(r.priority)}
		if ours[at] {
			delete(ours, at)
			r.handle = 0 // the whole priority
			if err := n.deleteRule(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// removeIfEmpty removes a device's clsact if there is no rule on it.
func (n *namespace) removeIfEmpty(index int) error {
	kinds, err := n.hookQdiscs()
	if err != nil || kinds[index] != "clsact" {
		return err
	}
	rules, err := n.allRules(index, "clsact")
	if err != nil || len(rules) > 0 {
		return err
	}
	return n.deleteClsact(index)
}
