package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// unsettled is what changes by itself, some time after a device is up or its bridge
// has got a port: carrier, the bridge's MAC, link-local addresses.
var unsettled = regexp.MustCompile(`\|?running| mac \S+|Flags: \[[^]]*\]|^(address|route .*Dst:) (fe80|ff00):.*`)

// Lasting are the lines of a Snapshot without what changes by itself.
func (s *Space) Lasting() (lines []string) {
	s.t.Helper()
	for _, line := range strings.Split(s.Snapshot(), "\n") {
		if line = unsettled.ReplaceAllString(line, ""); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// whole lists something until nothing has changed meanwhile: above all before 6.9 the
// kernel interrupts lists wherever in the machine something comes or goes.
func whole[T any](list func() ([]T, error)) (all []T, err error) {
	for range 20 {
		if all, err = list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return all, err
}

// Snapshot writes down what a namespace has: devices, addresses, routes, qdiscs,
// and filters to the last byte but for their counters and times. Two snapshots
// between which nothing has changed are equal.
func (s *Space) Snapshot() string {
	s.t.Helper()
	links, err := whole(s.Netlink.LinkList)
	if err != nil {
		s.t.Fatalf("in %s: list devices: %v", s.Name, err)
	}
	var lines []string
	for _, l := range links {
		a := l.Attrs()
		lines = append(lines, fmt.Sprintf("device %s %s mtu %d txqlen %d flags %s group %d alias %q mac %s",
			a.Name, l.Type(), a.MTU, a.TxQLen, a.Flags, a.Group, a.Alias, a.HardwareAddr))
		for _, hook := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
			lines = append(lines, s.filters(a, hook)...)
		}
	}
	addresses, err := whole(func() ([]netlink.Addr, error) { return s.Netlink.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		s.t.Fatalf("in %s: list addresses: %v", s.Name, err)
	}
	for _, a := range addresses {
		lines = append(lines, fmt.Sprintf("address %s on %d", a.IPNet, a.LinkIndex))
	}
	routes, err := whole(func() ([]netlink.Route, error) {
		return s.Netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		s.t.Fatalf("in %s: list routes: %v", s.Name, err)
	}
	for _, r := range routes {
		if r.Table == unix.RT_TABLE_LOCAL {
			continue // they follow from the addresses, when the kernel gets to it
		}
		lines = append(lines, "route "+r.String())
	}
	qdiscs, err := whole(func() ([]netlink.Qdisc, error) { return s.Netlink.QdiscList(nil) })
	if err != nil {
		s.t.Fatalf("in %s: list qdiscs: %v", s.Name, err)
	}
	for _, q := range qdiscs {
		lines = append(lines, fmt.Sprintf("qdisc %s on %d parent %x handle %x", q.Type(), q.Attrs().LinkIndex, q.Attrs().Parent, q.Attrs().Handle))
	}
	sort.Strings(lines)
	return strings.Join(lines, "\n")
}

// Settle waits until nothing changes in namespaces any more: the kernel gives
// devices their link-local addresses and multicast routes some time after they
// are up.
func Settle(t T, spaces ...*Space) {
	t.Helper()
	const quiet, attempts = 100 * time.Millisecond, 50
	var before string
	for range attempts {
		var now string
		for _, s := range spaces {
			now += s.Snapshot()
		}
		if now == before {
			return
		}
		before = now
		time.Sleep(quiet)
	}
	t.Fatalf("the namespaces do not come to rest within %v", quiet*attempts)
}

// filters dumps the filters of a device at a hook, one line each.
func (s *Space) filters(a *netlink.LinkAttrs, hook uint32) []string {
	s.t.Helper()
	var messages [][]byte
	s.Do(func() error {
		r := nl.NewNetlinkRequest(unix.RTM_GETTFILTER, unix.NLM_F_DUMP)
		r.AddData(&nl.TcMsg{Family: unix.AF_UNSPEC, Ifindex: int32(a.Index), Parent: hook})
		var err error
		messages, err = r.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWTFILTER)
		return err
	})
	var lines []string
	for _, m := range messages {
		head := nl.DeserializeTcMsg(m)
		lines = append(lines, fmt.Sprintf("filter on %s hook %x info %x handle %x: %s", a.Name, hook, head.Info, head.Handle, attributes(m[nl.SizeofTcMsg:], kindOf(m[nl.SizeofTcMsg:]))))
	}
	return lines
}

// nested are the attributes of a filter whose values are attributes, and volatile
// those that change by themselves: an action's statistics, and its times, whose place
// among the options is the kind's own; what u32 has matched, where the kernel counts
// that; and the number of an eBPF program, of which each has its own. The path is the filter's kind, and the attributes' types from the message down:
// bpf.2.1.1.4 is options, the actions, the first of them, statistics. An action's options
// have its kind in the path, as in bpf.2.1.1.2:mirred.
var nested, volatile, actions = func() (nested, volatile, actions map[string]bool) {
	nested, volatile, actions = map[string]bool{"bpf.2": true, "u32.2": true}, map[string]bool{"u32.2.9": true, "bpf.2.11": true}, map[string]bool{}
	times := map[string]string{"mirred": ".1", "gact": ".1", "skbedit": ".1", "police": ".6"}
	for _, list := range []string{"bpf.2.1", "u32.2.7"} {
		nested[list] = true
		for _, action := range []string{list + ".1", list + ".2"} {
			nested[action], actions[action], volatile[action+".4"] = true, true, true
			for kind, at := range times {
				options := action + ".2:" + kind
				nested[options], volatile[options+at] = true, true
			}
		}
	}
	return nested, volatile, actions
}()

// kindOf is a filter's kind, by its attributes.
func kindOf(b []byte) string {
	list, _ := nl.ParseRouteAttr(b)
	for _, a := range list {
		if a.Attr.Type == nl.TCA_KIND {
			return unix.ByteSliceToString(a.Value)
		}
	}
	return ""
}

// attributes writes attributes with their types in full, less the volatile ones.
func attributes(b []byte, path string) string {
	list, err := nl.ParseRouteAttr(b)
	if err != nil {
		return fmt.Sprintf("%x", b)
	}
	var out []string
	kind := ""
	for _, a := range list {
		of := a.Attr.Type &^ unix.NLA_F_NESTED
		at := fmt.Sprintf("%s.%d", path, of)
		switch {
		case actions[path] && of == nl.TCA_ACT_KIND:
			kind = unix.ByteSliceToString(a.Value)
		case actions[path] && of == nl.TCA_ACT_OPTIONS:
			at += ":" + kind
		}
		switch {
		case volatile[at]:
		case nested[at]:
			out = append(out, at+"{"+attributes(a.Value, at)+"}")
		default:
			out = append(out, fmt.Sprintf("%s=%x", at, a.Value))
		}
	}
	return strings.Join(out, " ")
}

// Locks lists podtap's locks that are left.
func Locks(t T) []string {
	t.Helper()
	paths, err := filepath.Glob("/run/podtap/lock/*")
	if err != nil {
		t.Fatalf("list locks: %v", err)
	}
	return paths
}

// Difference says in which lines two snapshots differ; "" where they do not.
func Difference(before, after string) string {
	return strings.Join(Changes(strings.Split(before, "\n"), strings.Split(after, "\n")), "\n")
}

// Changes says what came (+) and what went (-) between two lists in which the
// order does not matter.
func Changes(before, after []string) []string {
	count := map[string]int{}
	for _, item := range before {
		count[item]--
	}
	for _, item := range after {
		count[item]++
	}
	var out []string
	for item, n := range count {
		switch {
		case n > 0:
			out = append(out, "+ "+item)
		case n < 0:
			out = append(out, "- "+item)
		}
	}
	sort.Strings(out)
	return out
}

// AllThreadsAtHome checks that all of the program's threads are in its own network
// namespace, within a moment. One that stayed elsewhere would keep a namespace
// alive after its end.
func AllThreadsAtHome(t T) {
	t.Helper()
	here, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatalf("%v", err)
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		threads, err := filepath.Glob("/proc/self/task/*/ns/net")
		if err != nil || len(threads) == 0 {
			t.Fatalf("the program's threads are %v: %v", threads, err)
		}
		away := slices.DeleteFunc(threads, func(path string) bool {
			at, err := os.Readlink(path)
			return err != nil || at == here // one that has ended meanwhile has no namespace
		})
		if len(away) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("threads in other network namespaces: %v", away)
		}
	}
}
