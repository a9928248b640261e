package demo

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/vishvananda/netlink"

	"github.com/podtap/podtap/internal/lab"
)

// inventory lists what a namespace has: devices, qdiscs and filters, by name.
func inventory(t lab.T, s *lab.Space) []string {
	links, err := s.Netlink.LinkList()
	if err != nil {
		t.Fatalf("list the devices of %s: %v", s.Name, err)
	}
	var out []string
	for _, l := range links {
		name := l.Attrs().Name
		out = append(out, "device "+name)
		qdiscs, err := s.Netlink.QdiscList(l)
		if err != nil {
			t.Fatalf("list the qdiscs of %s in %s: %v", name, s.Name, err)
		}
		for _, q := range qdiscs {
			out = append(out, fmt.Sprintf("qdisc %s on %s", q.Type(), name))
		}
		for _, hook := range []uint32{netlink.HANDLE_MIN_INGRESS, netlink.HANDLE_MIN_EGRESS} {
			filters, err := s.Netlink.FilterList(l, hook)
			if err != nil {
				t.Fatalf("list the filters of %s in %s: %v", name, s.Name, err)
			}
			for _, f := range filters {
				out = append(out, fmt.Sprintf("filter %s on %s", f.Type(), name))
			}
		}
	}
	sort.Strings(out)
	return out
}

// difference says what came (+) and what went (-) between two inventories. The
// bridge plugin's own bridge may come and stay: DEL never deletes it.
func difference(before, after []string) []string {
	return slices.DeleteFunc(lab.Changes(before, after), func(item string) bool {
		return item == "+ device "+bridge || item == "+ qdisc noqueue on "+bridge
	})
}

// ours are the devices that podtap made in a namespace: it writes their owner
// into their alias.
func ours(t lab.T, s *lab.Space) []string {
	links, err := s.Netlink.LinkList()
	if err != nil {
		t.Fatalf("list the devices of %s: %v", s.Name, err)
	}
	var out []string
	for _, l := range links {
		if a := l.Attrs(); strings.HasPrefix(a.Alias, "podtap/") || strings.HasPrefix(a.Name, "podtap") {
			out = append(out, a.Name)
		}
	}
	return out
}
