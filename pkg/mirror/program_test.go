package mirror

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/bpf"

	"github.com/podtap/podtap/internal/lab"
)

// packet makes an Ethernet frame with a UDP datagram in it.
type packet struct {
	v6        bool
	options   int // bytes of IPv4 options
	fragment  uint16
	protocol  byte
	dst       string
	from, to  uint16
	flags     uint32 // the datagram's first word
	length    int    // of the datagram's payload
	etherType uint16 // 0: the right one
}

func (p packet) bytes(t *testing.T) []byte {
	t.Helper()
	b := make([]byte, 12)
	etherType := uint16(0x0800)
	if p.v6 {
		etherType = 0x86dd
	}
	if p.etherType != 0 {
		etherType = p.etherType
	}
	b = binary.BigEndian.AppendUint16(b, etherType)
	if p.v6 {
		h := make([]byte, 40)
		h[0], h[6] = 0x60, p.protocol
		copy(h[24:], address(t, p.dst).AsSlice())
		b = append(b, h...)
	} else {
		h := make([]byte, 20+p.options)
		h[0], h[9] = byte(0x45+p.options/4), p.protocol
		binary.BigEndian.PutUint16(h[6:], p.fragment)
		copy(h[16:], address(t, p.dst).AsSlice())
		b = append(b, h...)
	}
	b = binary.BigEndian.AppendUint16(b, p.from)
	b = binary.BigEndian.AppendUint16(b, p.to)
	b = append(b, 0, 0, 0, 0)
	payload := make([]byte, max(p.length, 4))
	binary.BigEndian.PutUint32(payload, p.flags)
	return append(b, payload[:p.length]...)
}

func TestOnlyVXLANToTheOwnCollectorAndCopiesArePassedOver(t *testing.T) {
	const own4, own6, other4, other6 = "198.18.0.3", "fd00::3", "198.18.0.4", "fd00::4"
	v4 := packet{protocol: 17, dst: own4, from: 40000, to: 4789, flags: vxlanFlags, length: 60}
	v6 := v4
	v6.v6, v6.dst = true, own6
	with := func(p packet, change func(*packet)) packet { change(&p); return p }
	for name, c := range map[string]struct {
		remote string
		packet packet
		copied bool
	}{
		"to the collector":                         {own4, v4, false},
		"to the collector over IPv6":               {own6, v6, false},
		"with IPv4 options":                        {own4, with(v4, func(p *packet) { p.options = 8 }), false},
		"with the most IPv4 options":               {own4, with(v4, func(p *packet) { p.options = 40 }), false},
		"the first fragment":                       {own4, with(v4, func(p *packet) { p.fragment = 0x2000 }), false},
		"with don't fragment":                      {own4, with(v4, func(p *packet) { p.fragment = 0x4000 }), false},
		"a later fragment":                         {own4, with(v4, func(p *packet) { p.fragment = 0x20b9 }), true},
		"the last fragment":                        {own4, with(v4, func(p *packet) { p.fragment = 0x00b9 }), true},
		"to another host":                          {own4, with(v4, func(p *packet) { p.dst = other4 }), true},
		"to another host over IPv6":                {own6, with(v6, func(p *packet) { p.dst = other6 }), true},
		"to another port":                          {own4, with(v4, func(p *packet) { p.to = 8472 }), true},
		"to another port over IPv6":                {own6, with(v6, func(p *packet) { p.to = 8472 }), true},
		"not VXLAN":                                {own4, with(v4, func(p *packet) { p.flags = 0x01020304 }), true},
		"not VXLAN over IPv6":                      {own6, with(v6, func(p *packet) { p.flags = 0 }), true},
		"TCP":                                      {own4, with(v4, func(p *packet) { p.protocol = 6 }), true},
		"TCP over IPv6":                            {own6, with(v6, func(p *packet) { p.protocol = 6 }), true},
		"a copy to another host":                   {own4, with(v4, func(p *packet) { p.from, p.dst = 0xff00, other4 }), false},
		"a copy to another port":                   {own4, with(v4, func(p *packet) { p.from, p.to = 0xfffe, 9999 }), false},
		"a copy to another host over IPv6":         {own6, with(v6, func(p *packet) { p.from, p.dst = 0xff00, other6 }), false},
		"a copy over IPv6 seen by an IPv4 tap":     {own4, with(v6, func(p *packet) { p.from = 0xff00 }), false},
		"a copy over IPv4 seen by an IPv6 tap":     {own6, with(v4, func(p *packet) { p.from = 0xff00 }), false},
		"from the last port before":                {own4, with(v4, func(p *packet) { p.from, p.dst = 0xfeff, other4 }), true},
		"from a copy's port, not VXLAN":            {own4, with(v4, func(p *packet) { p.from, p.flags = 0xff00, 1 }), true},
		"IPv6 VXLAN seen by an IPv4 tap":           {own4, v6, true},
		"IPv4 VXLAN seen by an IPv6 tap":           {own6, v4, true},
		"ARP":                                      {own4, with(v4, func(p *packet) { p.etherType = 0x0806 }), true},
		"too short for a VXLAN header and a frame": {own4, with(v4, func(p *packet) { p.length = 8 + 13 }), true},
		"just long enough":                         {own4, with(v4, func(p *packet) { p.length = 8 + 14 }), false},
		"just long enough over IPv6":               {own6, with(v6, func(p *packet) { p.length = 8 + 14 }), false},
		"too short over IPv6":                      {own6, with(v6, func(p *packet) { p.length = 8 + 13 }), true},
		"too short for its options":                {own4, with(v4, func(p *packet) { p.options, p.length = 40, 8+13 }), true},
	} {
		want := parse(t, "{vxlan: {vni: 1, remote: %q}}", c.remote)
		if got := verdict(t, passCopies(want.VXLAN), c.packet.bytes(t)); (got != 0) != c.copied {
			t.Errorf("%s: copied %v; want %v", name, got != 0, c.copied)
		}
	}
}

// A program that reads past a packet's end misses, and would lose the packet: no
// packet may be lost for being short or odd.
func TestNoShortOrOddPacketIsLost(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, remote := range []string{"198.18.0.3", "fd00::3"} {
		program := passCopies(parse(t, "{vxlan: {vni: 1, remote: %q}}", remote).VXLAN)
		for i := range 50_000 {
			p := packet{v6: i%2 == 0, protocol: 17, dst: "198.18.0.3", options: 4 * r.IntN(11), from: uint16(r.IntN(0xff00)), to: 4790,
				flags: vxlanFlags, length: r.IntN(40)}
			if p.v6 {
				p.dst, p.options = "fd00::3", 0
			}
			b := p.bytes(t)
			b = b[:14+r.IntN(len(b)-13)]
			if verdict(t, program, b) == 0 {
				t.Fatalf("lost: %x", b)
			}
			for j := range b {
				if j < 12 || j > 13 {
					b[j] = byte(r.Uint32())
				}
			}
			if verdict(t, program, b) == 0 && !strings.Contains(fmt.Sprintf("%x", b), "08000000") {
				t.Fatalf("lost: %x", b)
			}
		}
	}
}

func verdict(t *testing.T, raw []bpf.RawInstruction, b []byte) int {
	t.Helper()
	code, ok := bpf.Disassemble(raw)
	vm, err := bpf.NewVM(code)
	if err != nil || !ok {
		t.Fatal(err)
	}
	n, err := vm.Run(b)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Where a kernel has no cls_bpf, u32 does a match-all's work.
func TestAU32RuleCopiesEverythingToo(t *testing.T) {
	s := newScene(t, 1450, 1500)
	_, p := open(t, s.node, s.pod)
	lab.Cable(s.pod.Space, "a", s.pod.Space, "b", 9000)
	capture := s.pod.Capture("b")
	eth0 := s.pod.Link("eth0").Attrs().Index
	if _, err := p.addClsact(eth0, "eth0"); err != nil {
		t.Fatal(err)
	}
	marked := newCookie(ownerOf("c1"), "mirror", ownClsact)
	for i, hook := range []uint32{hookIngress, hookEgress} {
		r := rule{index: eth0, hook: hook, priority: uint16(firstPriority + i), program: matchAll(),
			mirred: &mirred{to: s.pod.Link("a").Attrs().Index, cookie: marked}}
		if err := p.requestRule(r, "u32", u32Options(r)); err != nil {
			t.Fatal(err)
		}
	}
	s.pod.Ping(s.peer.IPv4, 3)
	expectPings(t, "the u32 tap", capture, 3)
	links, err := p.links()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.detach(links, marked.sameOwner); err != nil {
		t.Fatal(err)
	}
	if kinds, err := p.hookQdiscs(); err != nil || kinds[eth0] != "" {
		t.Errorf("after detach eth0 still has %q (%v)", kinds[eth0], err)
	}
}

func TestProbeFindsThisKernelAble(t *testing.T) {
	if err := Probe(); err != nil {
		t.Error(err)
	}
}

func TestAProbeLeavesNoNamespace(t *testing.T) {
	for range 50 {
		if err := Probe(); err != nil {
			t.Fatal(err)
		}
	}
	lab.AllThreadsAtHome(t)
}

// A filter's program goes on with the guard wherever it says yes, and nowhere else.
func TestAFilterGoesOnWithTheGuard(t *testing.T) {
	guard := passCopies(parse(t, "{vxlan: {vni: 1, remote: 198.18.0.3}}").VXLAN)
	copied := packet{protocol: 17, dst: "198.18.0.3", from: 40000, to: 4789, flags: vxlanFlags, length: 60}
	other := copied
	other.to = 53
	arp := packet{etherType: 0x0806, dst: "198.18.0.3"}
	yes, no := bpf.RetConstant{Val: verdictHit}, bpf.RetConstant{Val: verdictMiss}
	isIPv4 := []bpf.Instruction{bpf.LoadAbsolute{Off: offType, Size: 2}, bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0x0800, SkipTrue: 1}}
	for name, filter := range map[string][]bpf.Instruction{
		"yes at the end": append(slices.Clone(isIPv4), no, yes),
		"no at the end":  append(slices.Clone(isIPv4[:1]), bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0x0800, SkipFalse: 1}, yes, no),
		"twice yes":      append(slices.Clone(isIPv4), no, bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0x0800, SkipTrue: 1}, yes, yes),
	} {
		program := both(mustAssemble(filter), guard)
		for what, c := range map[string]struct {
			packet packet
			want   bool
		}{"a copy": {copied, false}, "another datagram": {other, true}, "what the filter passes over": {arp, false}} {
			if got := verdict(t, program, c.packet.bytes(t)); (got != 0) != c.want {
				t.Errorf("%s: %s has the verdict %d", name, what, got)
			}
		}
		if !goesOnWith(program, guard) || goesOnWith(guard, guard) || goesOnWith(append(matchAll(), guard...), guard) || goesOnWith(mustAssemble(filter), guard) {
			t.Errorf("%s: it is not told whether the guard decides", name)
		}
	}
}
