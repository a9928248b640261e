package graph

import (
	"fmt"
	"slices"

	"golang.org/x/net/bpf"
)

// Assemble turns the graph into a program that returns accept for packets that pass, and
// 0 for others. The error is ErrTooLarge, or ErrTooDeep.
func (g *Graph) Assemble(accept uint32) ([]bpf.Instruction, error) {
	g.guard()
	if g.tooLarge() {
		return nil, ErrTooLarge
	}
	g.analyse()
	a := &assembler{after: map[*node]registers{}}
	for _, n := range g.order(no, yes) {
		a.block(n)
		if a.err != nil {
			return nil, a.err
		}
	}
	for _, end := range []struct {
		node   *node
		result uint32
	}{{g.accept, accept}, {g.reject, 0}} {
		a.add(bpf.RetConstant{Val: end.result})
		a.endBlock(end.node)
	}
	return link(mergeBlocks(a.blocks, g.root)), nil
}

// guard puts a test before each node that reads at an offset which may be 2^31 or more:
// Linux would take it as a negative one, where nothing of the packet is.
func (g *Graph) guard() {
	for _, n := range g.order(no, yes) {
		seen := map[*Value]bool{}
		guards := g.farLoads(n.test.y, g.farLoads(n.test.x, nil, seen), seen)
		for i := len(guards) - 1; i >= 0 && !g.tooLarge(); i-- { // the innermost first
			rest := *n
			g.nodes++
			rest.analysis = analysis{}
			n.test = test{GreaterOrEqual, guards[i], g.Const(maxOffset + 1)}
			n.left = left{x: guards[i]}
			n.next = [2]*node{no: &rest, yes: g.reject}
			n = &rest
		}
	}
}

// farLoads adds the offsets of a value's loads that may be too large, the outer ones first.
func (g *Graph) farLoads(v *Value, offsets []*Value, seen map[*Value]bool) []*Value {
	if v == nil || !v.far || seen[v] || g.tooLarge() {
		return offsets
	}
	seen[v] = true
	if v.isFar() {
		offsets = append(offsets, g.Binary(Add, v.x, g.Const(v.k)))
	}
	return g.farLoads(v.y, g.farLoads(v.x, offsets, seen), seen)
}

// block is the code of a node: the values into the registers, and then the jump.
type block struct {
	code []bpf.Instruction
	node *node // of the code; its ways on are the jump's
}

// mergeBlocks leaves out blocks that are not reached, and such as do what another one does
// that comes later: with the values in the registers already, there are more of them than
// there were equal nodes.
func mergeBlocks(blocks []block, root *node) []block {
	type key struct {
		code    string
		yes, no *node
	}
	var (
		latest = map[key]*node{}
		become = map[*node]*node{}
	)
	for i := len(blocks) - 1; i >= 0; i-- {
		n := blocks[i].node
		become[n] = n
		k := key{code: fmt.Sprintf("%v", blocks[i].code)}
		if n.end == notEnd {
			n.next = [2]*node{no: become[n.next[no]], yes: become[n.next[yes]]}
			k.yes, k.no = n.next[yes], n.next[no]
			k.code += fmt.Sprint(n.test.ask, n.test.y.op == constant, n.test.y.k)
		}
		if other := latest[k]; other != nil {
			become[n] = other
			continue
		}
		latest[k] = n
	}
	reached := map[*node]bool{become[root]: true}
	return slices.DeleteFunc(blocks, func(b block) bool {
		n := b.node
		if become[n] != n || !reached[n] {
			return true
		}
		if n.end == notEnd {
			reached[n.next[yes]], reached[n.next[no]] = true, true
		}
		return false
	})
}

// link puts blocks together and sets the jumps. One can skip 255 instructions; for a longer
// way it jumps to another behind it that can go any.
func link(blocks []block) []bpf.Instruction {
	long := make([][2]bool, len(blocks))
	var at map[*node]int
	for changed := true; changed; {
		changed = false
		at = places(blocks, long)
		for i, b := range blocks {
			for answer, to := range b.node.next {
				if to == nil || long[i][answer] {
					continue
				}
				if jump := at[b.node] + len(b.code); at[to]-jump-1 > 255 {
					long[i][answer], changed = true, true
				}
			}
		}
	}
	var out []bpf.Instruction
	for i, b := range blocks {
		out = append(out, b.code...)
		if b.node.end == notEnd {
			out = b.node.jump(out, at, long[i])
		}
	}
	return out
}

// places says where each block begins, with the jumps and the long ones between.
func places(blocks []block, long [][2]bool) map[*node]int {
	at := make(map[*node]int, len(blocks))
	place := 0
	for i, b := range blocks {
		at[b.node] = place
		place += len(b.code)
		if b.node.end != notEnd {
			continue
		}
		place++
		for _, l := range long[i] {
			if l {
				place++
			}
		}
	}
	return at
}

// jump adds the node's jump, and its long ways.
func (n *node) jump(out []bpf.Instruction, at map[*node]int, long [2]bool) []bpf.Instruction {
	here := len(out)
	out = append(out, nil)
	var skip [2]uint8
	for _, answer := range []int{yes, no} {
		target := at[n.next[answer]]
		if !long[answer] {
			skip[answer] = uint8(target - here - 1)
			continue
		}
		skip[answer] = uint8(len(out) - here - 1)
		out = append(out, bpf.Jump{Skip: uint32(target - len(out) - 1)})
	}
	condition := [...]bpf.JumpTest{Equal: bpf.JumpEqual, Greater: bpf.JumpGreaterThan,
		GreaterOrEqual: bpf.JumpGreaterOrEqual, BitsSet: bpf.JumpBitsSet}[n.test.ask]
	if n.test.y.op == constant {
		out[here] = bpf.JumpIf{Cond: condition, Val: n.test.y.k, SkipTrue: skip[yes], SkipFalse: skip[no]}
	} else {
		out[here] = bpf.JumpIfX{Cond: condition, SkipTrue: skip[yes], SkipFalse: skip[no]}
	}
	return out
}
