package mirror

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/tap"
)

// forgedAnswer is a netlink message as the kernel would answer a request with.
func forgedAnswer(kind, flags int, seq uint32, body []byte) []byte {
	m := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	m = binary.NativeEndian.AppendUint16(m, uint16(kind))
	m = binary.NativeEndian.AppendUint16(m, uint16(flags))
	m = binary.NativeEndian.AppendUint32(m, seq)
	return append(append(m, 0, 0, 0, 0), body...)
}

// A pod's process may send to every netlink socket of its namespace. This one
// even knows the numbers of the requests, and is always first.
func TestOnlyTheKernelAnswers(t *testing.T) {
	s := newScene(t, 1430, 1500)
	_, p := open(t, s.node, s.pod)
	own, err := unix.Getsockname(p.socket.fd)
	if err != nil {
		t.Fatal(err)
	}
	to := &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Pid: own.(*unix.SockaddrNetlink).Pid}
	var fd int
	s.pod.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
		return err
	})
	defer func() { _ = unix.Close(fd) }()
	before, err := p.links()
	if err != nil {
		t.Fatal(err)
	}
	device := append(make([]byte, unix.SizeofIfInfomsg), nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated("forged")).Serialize()...)
	refusal := int32(-int(unix.EPERM))
	forgeries := map[string]func(seq uint32) []byte{
		"an error": func(seq uint32) []byte {
			return forgedAnswer(unix.NLMSG_ERROR, 0, seq, append(nl.Uint32Attr(uint32(refusal)), make([]byte, unix.SizeofNlMsghdr)...))
		},
		"no device":        func(seq uint32) []byte { return forgedAnswer(unix.NLMSG_DONE, unix.NLM_F_MULTI, seq, make([]byte, 4)) },
		"a device":         func(seq uint32) []byte { return forgedAnswer(unix.RTM_NEWLINK, 0, seq, device) },
		"one device more":  func(seq uint32) []byte { return forgedAnswer(unix.RTM_NEWLINK, unix.NLM_F_MULTI, seq, device) },
		"a malformed one":  func(uint32) []byte { return make([]byte, 64) },
		"one far too long": func(uint32) []byte { return make([]byte, answerSize+1<<10) },
	}
	for name, forgery := range forgeries {
		t.Run(name, func(t *testing.T) {
			for begin := time.Now(); time.Since(begin) < 150*time.Millisecond && !t.Failed(); {
				forge := func() {
					if err := unix.Sendto(fd, forgery(p.socket.seq+1), unix.MSG_DONTWAIT, to); err != nil {
						t.Fatalf("send: %v", err)
					}
				}
				forge()
				links, err := p.links()
				if err != nil || !slices.EqualFunc(links, before, func(a, b *link) bool { return a.name == b.name }) {
					t.Errorf("%d devices are listed (%v); there are %d", len(links), err, len(before))
				}
				forge()
				if l, err := p.linkByName("eth0"); err != nil || l == nil || l.name != "eth0" {
					t.Errorf("eth0 is %+v (%v)", l, err)
				}
				forge()
				if l, err := p.linkByName("nothing"); err != nil || l != nil {
					t.Errorf("what is not there is %+v (%v)", l, err)
				}
			}
		})
	}
}

// A device may have names that no datagram of a usual size has room for.
func TestADeviceWithManyNamesHidesNothing(t *testing.T) {
	s := newScene(t, 1430, 1500)
	before := track(t, s.node.Space)
	node, p := open(t, s.node, s.pod)
	want := parse(t, "veth: {}")
	add(t, p, ownerOf("c1"), want)
	eth0, made := s.pod.Link("eth0"), 0
	for _, count := range []int{239, 460} {
		for ; made < count; made++ {
			if err := s.pod.Netlink.LinkAddAltName(eth0, fmt.Sprintf("%0120d", made)); err != nil {
				t.Fatalf("name %d: %v", made, err)
			}
		}
		s.pod.Ping(s.peer.IPv4, 3)
		links, err := p.links()
		if err != nil || !slices.ContainsFunc(links, func(l *link) bool { return l.name == "eth0" }) || len(links) < 3 {
			t.Fatalf("with %d names, %d devices are listed (%v)", count, len(links), err)
		}
		if l, err := p.linkByName("eth0"); err != nil || l == nil || l.index != eth0.Attrs().Index {
			t.Fatalf("with %d names, eth0 is %+v (%v)", count, l, err)
		}
		if present, err := p.Present(ownerOf("c1")); err != nil || !present.Remains || !present.Has("eth0") {
			t.Errorf("with %d names, Present says %+v (%v)", count, present, err)
		}
		healthy(t, p, ownerOf("c1"), want)
		if is := only(t, node); is.NetNS != s.pod.Path() || len(is.Counters) != 2 || is.Counters[0].Matched.Packets < 3 {
			t.Errorf("with %d names, listed is %+v", count, is)
		}
	}
	remove(t, p, ownerOf("c1"))
	hooks, err := p.hookQdiscs()
	if err != nil || hooks[eth0.Attrs().Index] != "" || s.pod.Has("mirror") {
		t.Errorf("after Remove eth0 has the qdisc %q (%v)", hooks[eth0.Attrs().Index], err)
	}
	before.unchanged("after Remove")
}

// unmirrored are the options of a bpf rule that matches everything and whose only
// action, skbedit's mark of 0, has a cookie.
func unmirrored(c cookie) *nl.RtAttr {
	const parameters, mark = 2, 5 // TCA_SKBEDIT_… of linux/tc_act/tc_skbedit.h
	actions := nl.NewRtAttr(nl.TCA_BPF_ACT, nil)
	action := actions.AddRtAttr(1, nil)
	action.AddRtAttr(nl.TCA_ACT_KIND, nl.ZeroTerminated("skbedit"))
	action.AddRtAttr(nl.TCA_ACT_COOKIE, c[:])
	options := action.AddRtAttr(nl.TCA_ACT_OPTIONS, nil)
	options.AddRtAttr(parameters, encode(actionParameters{Action: actContinue}))
	options.AddRtAttr(mark, nl.Uint32Attr(0))
	out := nl.NewRtAttr(nl.TCA_OPTIONS, nil)
	out.AddRtAttr(nl.TCA_BPF_OPS_LEN, nl.Uint16Attr(uint16(len(matchAll()))))
	out.AddRtAttr(nl.TCA_BPF_OPS, encode(matchAll()))
	out.AddChild(actions)
	return out
}

// A cookie can be on any action, and only a mirror is a tap's.
func TestARuleWithAnotherActionIsNotMarked(t *testing.T) {
	r := installed{kind: "bpf"}
	r.parseOptions(unmirrored(newCookie(ownerOf("c1"), "mirror", ownClsact)).Serialize()[unix.SizeofRtAttr:])
	if r.marked || r.mirred != nil || len(r.program) != 1 {
		t.Errorf("read as %+v", r)
	}
}

func TestARuleWithAnotherActionDisturbsNothing(t *testing.T) {
	c := newCookie(ownerOf("c1"), "mirror", ownClsact)
	s := newScene(t, 1430, 1500)
	node, p := open(t, s.node, s.pod)
	want := parse(t, "veth: {}")
	add(t, p, ownerOf("c1"), want)
	theirs := rule{index: s.pod.Link("eth0").Attrs().Index, hook: hookIngress, priority: 5}
	switch err := p.requestRule(theirs, "bpf", unmirrored(c)); {
	case errors.Is(err, unix.ENOENT):
		t.Skip("this kernel has no skbedit")
	case err != nil:
		t.Fatal(err)
	}
	healthy(t, p, ownerOf("c1"), want)
	only(t, node)
	remove(t, p, ownerOf("c1"))
	if rules, err := p.rules(theirs.index, hookIngress); err != nil || len(rules) != 1 || rules[0].priority != 5 {
		t.Errorf("after Remove there are the rules %+v (%v); want somebody else's", rules, err)
	}
}

// refusing runs a function on a thread whose sending of messages of a length
// fails with an error number, as a kernel without what they ask for would.
func refusing(lengths map[int]unix.Errno, f func() error) error {
	const number, length, refuse, allow = 0, 16 + 2*8, 0x50000, 0x7fff0000 // of struct seccomp_data, and SECCOMP_RET_…
	program := []bpf.Instruction{bpf.LoadAbsolute{Off: number, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.SYS_SENDTO, SkipTrue: 1}, bpf.RetConstant{Val: allow},
		bpf.LoadAbsolute{Off: length, Size: 4}}
	for n, errno := range lengths {
		program = append(program, bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(n), SkipFalse: 1}, bpf.RetConstant{Val: refuse | uint32(errno)})
	}
	raw := mustAssemble(append(program, bpf.RetConstant{Val: allow}))
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		filters := unix.SockFprog{Len: uint16(len(raw)), Filter: (*unix.SockFilter)(unsafe.Pointer(&raw[0]))}
		err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		if err == nil {
			err = unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&filters)), 0, 0)
		}
		runtime.KeepAlive(raw)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// Kernels without cls_bpf, without mirrors to blocks, without police actions, and what
// that leaves.
func TestAnOlderKernelGetsARuleThatItKnows(t *testing.T) {
	s := newScene(t, 1430, 1500)
	_, p := open(t, s.node, s.pod)
	lab.Cable(s.pod.Space, "theirs0", s.pod.Space, "theirs1", 1500)
	of := func(c counting) rule {
		return rule{index: s.pod.Link("theirs0").Attrs().Index, hook: hookIngress, priority: firstPriority, program: matchAll(),
			mirred: &mirred{to: s.pod.Link("theirs1").Attrs().Index, cookie: newCookie(ownerOf("c1"), "mirror", 0), counted: c}}
	}
	r := of(byBlock)
	length := func(kind string, options *nl.RtAttr) int {
		return unix.SizeofNlMsghdr + nl.SizeofTcMsg + (nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated(kind)).Len()+3)&^3 + len(options.Serialize())
	}
	bpf, u32 := map[counting]int{}, map[counting]int{}
	has := map[counting]error{}
	for _, c := range []counting{uncounted, byPolice, byBlock} {
		bpf[c], u32[c] = length("bpf", bpfOptions(of(c))), length("u32", u32Options(of(c)))
		if _, err := p.addClsact(r.index, "theirs0"); err != nil {
			t.Fatal(err)
		}
		has[c] = p.tryRule(of(c))
		s.pod.DeleteClsact("theirs0")
	}
	type refusals map[int]unix.Errno
	noBPF := func(more refusals) refusals {
		out := refusals{bpf[uncounted]: unix.ENOENT, bpf[byPolice]: unix.ENOENT, bpf[byBlock]: unix.ENOENT}
		maps.Copy(out, more)
		return out
	}
	for name, c := range map[string]struct {
		refused refusals
		kind    string
		counted counting
	}{
		"it has all":                        {nil, "bpf", byBlock},
		"no mirrors to blocks":              {refusals{bpf[byBlock]: unix.EINVAL}, "bpf", byPolice},
		"nothing to count with":             {refusals{bpf[byBlock]: unix.EINVAL, bpf[byPolice]: unix.ENOENT, u32[byPolice]: unix.ENOENT}, "bpf", uncounted},
		"no cls_bpf":                        {noBPF(nil), "u32", byBlock},
		"no cls_bpf, no mirrors to blocks":  {noBPF(refusals{u32[byBlock]: unix.EINVAL}), "u32", byPolice},
		"no cls_bpf, nothing to count with": {noBPF(refusals{u32[byBlock]: unix.EINVAL, u32[byPolice]: unix.ENOENT}), "u32", uncounted},
	} {
		t.Run(name, func(t *testing.T) {
			if err := has[c.counted]; err != nil {
				t.Skipf("this kernel itself does not take such a rule: %v", err)
			}
			if _, err := p.addClsact(r.index, "theirs0"); err != nil {
				t.Fatal(err)
			}
			defer s.pod.DeleteClsact("theirs0")
			if err := refusing(c.refused, func() error { return p.addRule("add", r) }); err != nil {
				t.Fatal(err)
			}
			rules, err := p.rules(r.index, hookIngress)
			rules = slices.DeleteFunc(rules, func(r installed) bool { return r.mirred == nil }) // u32's table
			if err != nil || len(rules) != 1 || rules[0].kind != c.kind || !rules[0].marked || rules[0].mirred.counted != c.counted {
				t.Fatalf("the rules are %+v (%v)", rules, err)
			}
		})
	}
	if has[byPolice] != nil && has[byBlock] != nil {
		t.Errorf("this kernel has nothing to count with: %v", has)
	}
	refused := refusing(noBPF(refusals{u32[byBlock]: unix.ENOENT, u32[byPolice]: unix.ENOENT, u32[uncounted]: unix.ENOENT}),
		func() error { return p.addRule("add", r) })
	if !errors.Is(refused, ErrUnsupported) {
		t.Errorf("a kernel with neither: %v", refused)
	}
}

// A packet came between the reading of the two.
func TestCountersThatOvertakeEachOtherAddUp(t *testing.T) {
	for _, d := range []tap.Direction{tap.Ingress, tap.Egress} {
		c := counters(d, &action{counts: actionCounts{failed: 5}}, &action{counts: actionCounts{failed: 6, bytes: 600}})
		addUp(t, []Counters{c})
		if c.Copied.Packets != 0 || c.Matched.Packets != 6 || c.Dropped[DropMirror].Packets != 6 {
			t.Errorf("%s: counters are %+v", d, c)
		}
	}
}
