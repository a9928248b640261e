package mirror

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/pcapfilter"
	"github.com/podtap/podtap/pkg/tap"
)

// Frames of each kind, in both directions: those and only those are copied that tcpdump
// would take from a file, and the counters say so. Linux has most tags beside the bytes:
// of what the pod receives always, of what it sends from a packet socket never.
func TestEachKindOfFilterTakesWhatTcpdumpTakes(t *testing.T) {
	needs(t, "tcpdump")
	s := newScene(t, 1450, 1500)
	node, p := open(t, s.node, s.pod)
	frames := everyKind(t)
	for i, filter := range kindsOfFilters {
		t.Run(filter, func(t *testing.T) {
			v := variants[1+i%(len(variants)-1)] // from a veth a packet socket gets no tags
			want := s.want(t, v.text, "direction: both")
			want.Filter = filter
			capture := s.watch(add(t, p, ownerOf("c1"), want), want)
			defer capture.Stop()
			before, _, _ := s.counted(t, node)
			matching := verdicts(t, filter, frames)
			inject(t, s.pod.Space, "eth0", frames)
			inject(t, s.node.Space, "pod1", frames)
			expected := map[string]int{}
			for _, f := range matching {
				expected[string(f)] += 2
			}
			got := map[string]int{}
			for _, f := range onlyFrom(capture.Settle(2*len(matching)), attacker) {
				got[string(f.Data)]++
			}
			for f, n := range got {
				if expected[f] != n {
					t.Errorf("%d copies, want %d, of %x", n, expected[f], f)
				}
			}
			for f, n := range expected {
				if got[f] != n {
					t.Errorf("%d copies, want %d, of %x", got[f], n, f)
				}
			}
			if len(matching) == 0 || len(matching) == len(frames) {
				t.Errorf("the filter matches %d of %d frames, and shows nothing", len(matching), len(frames))
			}
			after, _, _ := s.counted(t, node)
			for _, d := range []tap.Direction{tap.Ingress, tap.Egress} {
				was, is := direction(t, before.Counters, d), direction(t, after.Counters, d)
				if is.PassedOver == nil || was.PassedOver == nil {
					t.Fatalf("%s: what is passed over is not counted: %+v", d, is)
				}
				matched, passed := is.Matched.Packets-was.Matched.Packets, is.PassedOver.Packets-was.PassedOver.Packets
				if matched < uint64(len(matching)) || matched > uint64(len(matching))+5 || matched+passed < uint64(len(frames)) || matched+passed > uint64(len(frames))+5 {
					t.Errorf("%s: %d matched and %d passed over, of %d and %d frames", d, matched, passed, len(matching), len(frames))
				}
			}
			healthy(t, p, ownerOf("c1"), want)
			remove(t, p, ownerOf("c1"))
		})
	}
}

// Matched and passed over together are what the interface counts; of TCP's super-packets
// too.
func TestMatchedAndPassedOverIsWhatTheInterfaceCounts(t *testing.T) {
	for _, v := range variants {
		for filter, some := range map[string]bool{"tcp": true, "udp and dst port 5000": true, "ip6": true, "ether proto 0x88b5": false, "len >= 0": true} {
			t.Run(v.name+"/"+filter, func(t *testing.T) {
				s := newScene(t, 1430, 1500)
				node, p := open(t, s.node, s.pod)
				want := s.want(t, v.text, "direction: both")
				want.Filter = filter
				add(t, p, ownerOf("c1"), want)
				before, receivedBefore, sentBefore := s.counted(t, node)
				s.exchange(t, "datagrams", 300)
				s.exchangeTCP(t)
				now, received, sent := s.counted(t, node)
				for d, interfaces := range map[tap.Direction]uint64{tap.Ingress: received.Packets - receivedBefore.Packets, tap.Egress: sent.Packets - sentBefore.Packets} {
					was, is := direction(t, before.Counters, d), direction(t, now.Counters, d)
					matched, passed := is.Matched.Packets-was.Matched.Packets, is.PassedOver.Packets-was.PassedOver.Packets
					if matched+passed != interfaces || (matched > 0) != some || filter == "len >= 0" && passed > 0 {
						t.Errorf("%s: %d matched, %d passed over; the interface counted %d", d, matched, passed, interfaces)
					}
					if passed > 0 && is.PassedOver.Bytes-was.PassedOver.Bytes < 14*passed {
						t.Errorf("%s: %d packets passed over have %d bytes", d, passed, is.PassedOver.Bytes-was.PassedOver.Bytes)
					}
				}
				remove(t, p, ownerOf("c1"))
			})
		}
	}
}

// Whatever a filter asks for, VXLAN bound for the tap's own collector is not copied.
func TestNoFilterTakesTheLoopGuardAway(t *testing.T) {
	s := newScene(t, 1450, 1500)
	node, p := open(t, s.node, s.pod)
	for _, v := range variants[1:] {
		for _, filter := range []string{"udp", "port 4789", "greater 0", "not tcp", "udp[8] = 8 or udp", "ip6 or ip", "ether[0] & 1 = 0"} {
			t.Run(v.name+"/"+filter, func(t *testing.T) {
				want := s.want(t, v.text, "direction: both")
				want.Filter = filter
				capture := s.watch(add(t, p, ownerOf("c1"), want), want)
				defer capture.Stop()
				inPod := s.pod.UDP("[::]:0")
				defer inPod.Close()
				before := only(t, node).Counters
				for _, payload := range [][]byte{{8, 0, 0, 0, 0, 0, 0, 9, 0}, {9, 0, 0, 0, 0, 0, 0, 9, 0}} {
					lab.Send(t, inPod, want.VXLAN.Remote.String(), 4789, append(payload, make([]byte, 60)...))
				}
				copies := 0
				for _, f := range capture.Settle(3) {
					if destinationPort(f) == 4789 {
						copies++
					}
				}
				if copies != 1 {
					t.Errorf("%d datagrams were copied; want the one that is no VXLAN", copies)
				}
				was, is := direction(t, before, tap.Egress), direction(t, only(t, node).Counters, tap.Egress)
				if is.PassedOver.Packets == was.PassedOver.Packets {
					t.Errorf("what the guard passed over is not counted: %+v", is)
				}
				healthy(t, p, ownerOf("c1"), want)
				remove(t, p, ownerOf("c1"))
			})
		}
	}
}

// A tap with a filter hides nothing from the rules of others, and leaves nothing.
func TestATapWithAFilterLeavesNothing(t *testing.T) {
	s := newScene(t, 1450, 1500)
	node, p := open(t, s.node, s.pod)
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			before := track(t, s.node.Space, s.pod.Space)
			want := s.want(t, v.text, "direction: both")
			want.Filter = "icmp"
			add(t, p, ownerOf("c1"), want)
			plain := want
			plain.Device, plain.Filter = "mirror1", ""
			add(t, p, ownerOf("c2"), plain)
			was := listOf(t, node)
			s.pod.Ping(s.peer.IPv4, 3)
			for i, is := range listOf(t, node).Taps {
				for j, c := range is.Counters {
					if got := c.Matched.Packets - was.Taps[i].Counters[j].Matched.Packets; got < 3 {
						t.Errorf("the tap %s has matched %d packets", is.Device, got)
					}
					if (c.PassedOver != nil) != (is.Device == "mirror") {
						t.Errorf("the tap %s passes over %v", is.Device, c.PassedOver)
					}
				}
			}
			healthy(t, p, ownerOf("c1"), want)
			healthy(t, p, ownerOf("c2"), plain)
			remove(t, p, ownerOf("c1"))
			remove(t, p, ownerOf("c2"))
			before.unchanged("after Remove")
		})
	}
}

func TestCheckSeesAnotherFilter(t *testing.T) {
	s := newScene(t, 1430, 1500)
	_, p := open(t, s.node, s.pod)
	for _, v := range variants[:2] {
		t.Run(v.name, func(t *testing.T) {
			want := s.want(t, v.text, "direction: both")
			want.Filter = "tcp port 443"
			made := add(t, p, ownerOf("c1"), want)
			healthy(t, p, ownerOf("c1"), want)
			other := want
			other.Filter = "tcp port 80"
			s.expectCheck(t, p, other, "it was made with another filter")
			other.Filter = ""
			s.expectCheck(t, p, other, "it was made with another filter")
			if want.VXLAN != nil {
				// Somebody's filter without the guard.
				instead(t, p.namespace, s.pod.Link("eth0"), hookIngress, rule{priority: 300, program: matchAll(),
					mirred: &mirred{to: s.pod.Link(made.Device.Name).Attrs().Index, cookie: newCookie(ownerOf("c1"), "mirror", 0), counted: byBlock}})
				s.expectCheck(t, p, want, "its rule has another program")
			}
			rules, err := p.rules(s.pod.Link("eth0").Attrs().Index, hookEgress)
			for _, r := range rules {
				if err == nil && r.mirred.countsOnly() {
					err = p.deleteRule(r)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			s.expectCheck(t, p, want, "has 0 rules that only count, instead of 1")
			remove(t, p, ownerOf("c1"))
		})
	}
}

// A pod author may ask for the longest program that there is: its rules are made, found,
// checked and taken away as any, beside others' too.
func TestTheLongestFilterCanBeTakenAway(t *testing.T) {
	s := newScene(t, 1450, 1500)
	node, p := open(t, s.node, s.pod)
	filter, least := "", 0
	for n := 1000; ; n += 10 {
		var addresses []string
		for i := range n {
			addresses = append(addresses, fmt.Sprintf("10.0.%d.%d", i>>8, i&0xff))
		}
		longer := "ip src " + strings.Join(addresses, " or ")
		program, err := pcapfilter.Compile(longer, pcapfilter.Kernel)
		if err != nil {
			break
		}
		filter, least = longer, len(program)
	}
	if least < pcapfilter.MaxInstructions-100 {
		t.Fatalf("the longest program has %d instructions", least)
	}
	for _, v := range variants {
		for _, alone := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/alone %t", v.name, alone), func(t *testing.T) {
				if !alone {
					theirs(t, s.pod, "clsact", "ingress prio 1 protocol all u32 match u32 0 0"+theirMirror+" continue")
					defer func() {
						s.pod.Run("tc", "qdisc", "del", "dev", "eth0", "clsact")
						s.pod.Delete("theirs0")
					}()
				}
				// Some kernels tell those who listen to tc of each deletion, with the program.
				defer hear(t, s.pod.Space)()
				before := track(t, s.node.Space, s.pod.Space)
				want := s.want(t, v.text, "direction: both")
				want.Filter = filter
				add(t, p, ownerOf("c1"), want)
				healthy(t, p, ownerOf("c1"), want)
				if c := only(t, node).Counters; len(c) != 2 || c[0].PassedOver == nil {
					t.Errorf("the counters are %+v", c)
				}
				remove(t, p, ownerOf("c1"))
				if alone {
					before.unchanged("after Remove")
					return
				}
				rules, err := p.allRules(s.pod.Link("eth0").Attrs().Index, "clsact")
				if err != nil || len(rules) == 0 || slices.ContainsFunc(rules, func(r installed) bool { return r.marked }) {
					t.Errorf("after Remove there are %+v (%v)", rules, err)
				}
			})
		}
	}
}

// Where names are so long that an alias has no room for the filter's hash, CHECK cannot tell
// which filter it is, and tells nothing wrong of a whole tap.
func TestATapWithAFilterIsWholeWithoutRoomInItsAlias(t *testing.T) {
	s := newScene(t, 1450, 1500)
	_, p := open(t, s.node, s.pod)
	owner := Owner{SourceCNI, strings.Repeat("n", 64), strings.Repeat("c", 64), "fifteen-bytes-z"}
	want := s.want(t, variants[1].text, "direction: both, device: fifteen-bytes-x")
	want.Filter = "tcp port 443"
	add(t, p, owner, want)
	alias := s.pod.Link("fifteen-bytes-x").Attrs().Alias
	if m, ok := parseMark(alias); !ok || m.Filter != "" {
		t.Fatalf("the alias has room: %q", alias)
	}
	owned, err := p.CheckOwned(owner)
	checked, err2 := p.Check(owner, []tap.Tap{want})
	if err != nil || err2 != nil || len(owned)+len(checked) > 0 {
		t.Errorf("CHECK says %q and %q (%v, %v)", owned, checked, err, err2)
	}
	remove(t, p, owner)
}

// hear listens to what tc changes in a namespace, and returns what ends that.
func hear(t *testing.T, s *lab.Space) (end func()) {
	t.Helper()
	var fd int
	s.Do(func() (err error) {
		if fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1 << (unix.RTNLGRP_TC - 1)})
	})
	return func() { _ = unix.Close(fd) }
}
