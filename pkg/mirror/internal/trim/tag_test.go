package trim

import (
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// tagging is a program that gives a frame a tag beside its bytes, as the kernel carries it,
// and goes on with another.
func tagging(t *testing.T, p loaded) loaded {
	t.Helper()
	next, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = next.Close() })
	if err := next.Put(uint32(0), p.Program); err != nil {
		t.Fatal(err)
	}
	tags, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "Apache-2.0", Instructions: asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.Mov.Imm(asm.R2, networkOrder(0x8100)),
		asm.Mov.Imm(asm.R3, 5),
		asm.FnSkbVlanPush.Call(),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.LoadMapPtr(asm.R2, next.FD()),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnTailCall.Call(),
		asm.Mov.Imm(asm.R0, actShot), // it did not go on
		asm.Return(),
	}})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	t.Cleanup(func() { _ = tags.Close() })
	return loaded{tags, p.counts}
}

// VXLAN puts a tag back into the bytes: a frame that has one is shorter by that, and a packet
// of TCP as long as the pod's MTU lets it be still is split, not cut.
func TestATagTakesRoomOfAPath(t *testing.T) {
	const tag = 4
	r := newRelay(t)
	for _, s := range []Spec{{Path: 1464, Longest: 1514}, {Path: 1444, Longest: 1514}, {Path: 1414, Longest: 1514}} {
		s.Relay = r.index
		p := tagging(t, load(t, s))
		room := s
		room.Path -= tag
		for _, ipv6 := range []bool{false, true} {
			f := tcpFrame{ipv6: ipv6, tcpHeader: 32, length: room.Path}
			r.leaves(t, p, "as long as may be", f.bytes(t), f.length)
			for _, f.length = range []int{room.Path + 1, s.Path, s.Longest} {
				r.isTaggedSplit(t, p, s, f)
			}
		}
	}
}

// isTaggedSplit fails where the halves of a frame do not fit with their tags.
func (r *relay) isTaggedSplit(t *testing.T, p loaded, s Spec, f tcpFrame) {
	t.Helper()
	_, left, sent := r.run(t, p, f.bytes(t), 1)
	if len(sent) != 1 {
		t.Errorf("a path for %d bytes: the tagged frame %+v was not split, and %d bytes of it are left", s.Path, f, len(left))
		return
	}
	for i, half := range [][]byte{sent[0], left} {
		if _, err := parse(half); err != nil || len(half)+4 > s.Path {
			t.Errorf("a path for %d bytes: the half %d of %+v has %d bytes: %v", s.Path, i, f, len(half), err)
		}
	}
}
