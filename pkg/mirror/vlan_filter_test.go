package mirror

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cilium/ebpf/asm"
	"github.com/gopacket/gopacket/layers"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/internal/lab"
)

// A VLAN interface on the pod's: the kernel puts the tags beside the packets of both
// directions, and takes them from there.
func TestAFilterFindsTheTagsOfVLANInterfaces(t *testing.T) {
	s := newScene(t, 1450, 1500)
	_, p := open(t, s.node, s.pod)
	for _, id := range []int{100, 200} {
		for _, end := range []struct {
			space *lab.Space
			on    string
			host  int
		}{{s.pod.Space, "eth0", 2}, {s.node.Space, "pod1", 1}} {
			name := fmt.Sprintf("v%d", id)
			err := end.space.Netlink.LinkAdd(&netlink.Vlan{LinkAttrs: netlink.LinkAttrs{Name: name, ParentIndex: end.space.Link(end.on).Attrs().Index}, VlanId: id})
			if errors.Is(err, unix.EOPNOTSUPP) {
				t.Skip("this kernel has no VLAN interfaces")
			}
			if err != nil {
				t.Fatal(err)
			}
			end.space.Address(name, fmt.Sprintf("198.19.%d.%d/24", id, end.host))
			end.space.Up(name)
		}
	}
	lab.Settle(t, s.node.Space, s.pod.Space)
	for filter, want := range map[string]struct{ of100, of200, untagged int }{
		"vlan 100":                               {3, 0, 0},
		"vlan 100 and icmp":                      {3, 0, 0},
		"vlan and icmp":                          {3, 3, 0},
		"vlan and host 198.19.200.1":             {0, 3, 0},
		"icmp":                                   {0, 0, 3},
		"icmp or (vlan and icmp)":                {3, 3, 3},
		"not vlan":                               {0, 0, 3},
		"ether[12:2] = 0x8100 and ether[27] = 1": {3, 3, 0},
		"vlan 200 and icmp[icmptype] = icmp-echo": {0, 3, 0},
	} {
		t.Run(filter, func(t *testing.T) {
			tapped := s.want(t, variants[1].text, "direction: both")
			tapped.Filter = filter
			capture := s.watch(add(t, p, ownerOf("c1"), tapped), tapped)
			defer capture.Stop()
			for _, to := range []string{"198.19.100.1", "198.19.200.1", s.peer.IPv4} {
				if n := s.pod.Ping(to, 3); n != 3 {
					t.Fatalf("%d of 3 pings to %s were answered", n, to)
				}
			}
			got := map[uint16]pings{}
			for _, f := range capture.Settle(2 * (want.of100 + want.of200 + want.untagged)) {
				id := uint16(0)
				if tag, ok := decode(f).Layer(layers.LayerTypeDot1Q).(*layers.Dot1Q); ok {
					id = tag.VLANIdentifier
				}
				n, more := got[id], echoes([]lab.Frame{f})
				got[id] = pings{n.requests + more.requests, n.replies + more.replies, n.broken + more.broken}
			}
			for id, n := range map[uint16]int{100: want.of100, 200: want.of200, 0: want.untagged} {
				replies := n
				if filter == "vlan 200 and icmp[icmptype] = icmp-echo" {
					replies = 0
				}
				if got[id] != (pings{n, replies, 0}) {
					t.Errorf("of VLAN %d there are %+v, want %d and %d", id, got[id], n, replies)
				}
			}
			remove(t, p, ownerOf("c1"))
		})
	}
}

// What a tag comes from makes no difference: here a program in front of the tap puts it
// beside what the pod sends to one address, as a VLAN interface would.
func TestAFilterFindsATagThatSomebodyPutBesideAPacket(t *testing.T) {
	needsEBPF(t)
	s := newScene(t, 1450, 1500)
	_, p := open(t, s.node, s.pod)
	const to = "198.19.0.100"
	push := []asm.Instruction{
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Imm(asm.R2, 0x0081), // 802.1Q, in network byte order
		asm.Mov.Imm(asm.R3, 3<<13|100),
		asm.FnSkbVlanPush.Call(),
	}
	classifier(t, s.pod.Space, "eth0", netlink.HANDLE_MIN_EGRESS, toAddress(to, push...))
	for filter, want := range map[string]struct{ tagged, plain int }{
		"vlan 100":                          {3, 0},
		"vlan 100 and udp port 5000":        {3, 0},
		"vlan 101":                          {0, 0},
		"udp port 5000":                     {0, 3},
		"udp and not vlan":                  {0, 3},
		"not vlan and udp":                  {0, 0}, // behind vlan, udp is looked for behind a tag
		"udp or (vlan and udp)":             {3, 3},
		"vlan and host " + to:               {3, 0},
		"host " + to:                        {0, 0},
		"ether[14:2] = 0x6064":              {3, 0},
		"vlan and not udp":                  {0, 0},
		"greater 107 and less 110 and vlan": {3, 0}, // 64 bytes and their headers, with the tag's four
		"vlan and len = 110":                {3, 0},
		"len = 106 and udp":                 {0, 3},
		"len = 106 and vlan":                {0, 0},
	} {
		t.Run(filter, func(t *testing.T) {
			tapped := s.want(t, variants[1].text, "direction: both")
			tapped.Filter = filter
			capture := s.watch(add(t, p, ownerOf("c1"), tapped), tapped)
			defer capture.Stop()
			from := s.pod.UDP("[::]:0")
			defer from.Close()
			for i := range 3 {
				lab.Send(t, from, to, 5000, lab.Payload(i, 64))
				lab.Send(t, from, s.peer.IPv4, 5000, lab.Payload(i, 64))
			}
			tagged, plain := 0, 0
			for _, f := range capture.Settle(want.tagged + want.plain) {
				packet := decode(f)
				if udp, ok := packet.Layer(layers.LayerTypeUDP).(*layers.UDP); !ok || udp.DstPort != 5000 {
					continue
				}
				switch tag, ok := packet.Layer(layers.LayerTypeDot1Q).(*layers.Dot1Q); {
				case !ok:
					plain++
				case tag.VLANIdentifier == 100 && tag.Priority == 3:
					tagged++
				}
			}
			if tagged != want.tagged || plain != want.plain {
				t.Errorf("%d copies with the tag and %d without, want %+v", tagged, plain, want)
			}
			remove(t, p, ownerOf("c1"))
		})
	}
}
