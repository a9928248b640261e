package mirror

import (
	"errors"
	"fmt"

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

// sealPriority is that of the drop on a device of ours. On a tap's end on the node copies are
// trimmed first, then redirected to the relay; what the redirect cannot deliver goes nowhere
// else. Older podtaps redirected at 1 and dropped at 2.
const (
	trimPriority     = 1
	redirectPriority = 2
	sealPriority     = 3
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
