package main

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/cniconf"
)

// damaged is a device that a test spoils, with the namespace that it is in.
type damaged struct {
	*lab.Space
	netlink.Link
}

func in(s *lab.Space, device string) (damaged, error) {
	l, err := s.Netlink.LinkByName(device)
	return damaged{s, l}, err
}

// relay is the node's only VXLAN device.
func relay(node *lab.Space) (damaged, error) {
	links, err := node.Netlink.LinkList()
	for _, l := range links {
		if l.Type() == "vxlan" {
			return damaged{node, l}, err
		}
	}
	return damaged{}, errors.Join(err, errors.New("the node has no VXLAN device"))
}

func down(d damaged) error      { return d.Netlink.LinkSetDown(d.Link) }
func deleted(d damaged) error   { return d.Netlink.LinkDel(d.Link) }
func smaller(d damaged) error   { return d.Netlink.LinkSetMTU(d.Link, 1500) }
func answerARP(d damaged) error { return d.Netlink.LinkSetARPOn(d.Link) }

func noAddresses(d damaged) error {
	list, err := d.Netlink.AddrList(d.Link, netlink.FAMILY_ALL)
	for _, a := range list {
		err = errors.Join(err, d.Netlink.AddrDel(d.Link, &a))
	}
	return err
}

func secondCollector(d damaged) error {
	return d.Netlink.NeighAppend(&netlink.Neigh{LinkIndex: d.Attrs().Index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_SELF,
		State: netlink.NUD_PERMANENT | netlink.NUD_NOARP, IP: net.ParseIP("198.18.0.201"), HardwareAddr: make(net.HardwareAddr, 6)})
}

// noRules deletes the filters of one hook.
func noRules(hook uint32) func(damaged) error {
	return func(d damaged) error {
		list, err := d.Netlink.FilterList(d.Link, hook)
		for _, f := range list {
			err = errors.Join(err, d.Netlink.FilterDel(f))
		}
		return err
	}
}

func noClsact(d damaged) error {
	return d.Netlink.QdiscDel(&netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{
		LinkIndex: d.Attrs().Index, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}})
}

func TestCheckNamesWhatIsWrong(t *testing.T) {
	const taps = `[{"device":"near","veth":{"hostInterface":"near0"}},{"device":"far","vxlan":{"vni":100,"remote":"198.18.0.200"}},
		{"device":"wire","wire":{"hostInterface":"wire0","addresses":["198.19.0.2/30"],"hostAddresses":["198.19.0.1/30"]}},
		{"device":"inside","vxlan":{"vni":101,"remote":"198.18.0.200","placement":"pod","oversize":"fragment"}}]`
	cases := []struct {
		name    string
		where   string // device, with node: before one of the node; empty is the relay
		damage  func(damaged) error
		phrases []string
	}{
		{"the pod's end is down", "near", down, []string{"near", "down"}},
		{"the node's end is down", "node:near0", down, []string{"near0", "down"}},
		{"the device is gone", "near", deleted, []string{"tap near", "missing"}},
		{"the rules are gone", "eth0", noClsact, []string{"ingress of eth0", "egress of eth0", "rule is missing"}},
		{"one direction's rules are gone", "eth0", noRules(netlink.HANDLE_MIN_EGRESS), []string{"egress of eth0", "rule is missing"}},
		{"the MTU is another", "near", smaller, []string{"near", "MTU 1500"}},
		{"the device answers ARP", "node:near0", answerARP, []string{"near0", "ARP"}},
		{"the device is not sealed", "node:near0", noRules(netlink.HANDLE_MIN_INGRESS), []string{"near0", "sealed"}},
		{"the redirect is gone", "node:far", noClsact, []string{"tap far", "redirect"}},
		{"the relay is gone", "", deleted, []string{"tap far", "relay", "198.18.0.200"}},
		{"the relay is down", "", down, []string{"tap far", "relay", "down"}},
		{"the relay sends to somebody else too", "", secondCollector, []string{"tap far", "198.18.0.201"}},
		{"the pod's VXLAN device sends to somebody else too", "inside", secondCollector, []string{"tap inside", "198.18.0.201"}},
		{"the wire lacks its address", "wire", noAddresses, []string{"tap wire", "198.19.0.2/30"}},
		{"the wire lacks the node's address", "node:wire0", noAddresses, []string{"tap wire", "198.19.0.1/30"}},
	}
	k := newCluster(t)
	list := conflist(newest, "net", bridgeOf(t, 7), `"taps":`+taps)
	k.settle(list)
	node := snap(t, k.node.Space)
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s, pod := k.sandbox(fmt.Sprintf("web%d", i), "")
			k.add(list, s)
			k.check(list, s)
			d, err := k.find(pod, c.where)
			if err == nil {
				err = c.damage(d)
			}
			if err != nil {
				t.Fatal(err)
			}
			wantError(t, k.runtime.Check(list, s), cniconf.CodeDrift, append(c.phrases, "recreate the pod")...)
			k.del(list, s)
			node.unchanged(t, k.node.Space)
			noDeviceLeft(t, pod)
		})
	}
}

// find returns what a case of TestCheckNamesWhatIsWrong spoils.
func (c *cluster) find(pod *lab.Space, where string) (damaged, error) {
	switch where {
	case "":
		return relay(c.node.Space)
	case "node:far":
		// Its name is generated; the alias tells.
		links, err := c.node.Netlink.LinkList()
		for _, l := range links {
			if strings.Contains(l.Attrs().Alias, " far ") {
				return damaged{c.node.Space, l}, nil
			}
		}
		return damaged{}, err
	}
	if device, ok := strings.CutPrefix(where, "node:"); ok {
		return in(c.node.Space, device)
	}
	return in(pod, where)
}

// The network's own taps are in CHECK's input, whether or not the annotations are.
func TestCheckMissesTheNetworksTapsWithoutTheAnnotations(t *testing.T) {
	s := newScene(t)
	c := s.configured(`[{"device":"near","veth":{}}]`).with(conf{"agentSocket": "/nonexistent"}).without("runtimeConfig")
	s.call("ADD", c).succeeds()
	s.call("CHECK", c).silent()
	s.pod.Delete("near")
	s.call("CHECK", c).fails(cniconf.CodeDrift, "tap near", "missing in the pod")
	s.call("DEL", c).silent()
}
