package mirror

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	ebpflink "github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/podtap/podtap/internal/lab"
)

// Verdicts of programs at tc's and tcx' hooks.
const (
	verdictNext = -1 // TCX_NEXT, TC_ACT_UNSPEC: on to the next program or rule
	verdictOK   = 0  // TCX_PASS, TC_ACT_OK: the packet passes, and no more is asked
)

// needsEBPF skips a test of eBPF programs, podtap's or others'.
func needsEBPF(t *testing.T) {
	t.Helper()
	if !lab.Privileged() {
		t.Skip("only the machine's own root may load eBPF programs, which this test is about")
	}
}

// load loads a classifier.
func load(t *testing.T, code asm.Instructions) *ebpf.Program {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: code})
	if err != nil {
		t.Fatalf("load a program: %v", err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// tcx attaches a program to a device as Cilium does since Linux 6.6, and returns
// what takes it away.
func tcx(t *testing.T, at *lab.Space, device string, hook ebpf.AttachType, code asm.Instructions) (detach func()) {
	t.Helper()
	if !lab.KernelHas(6, 6) {
		t.Skip("TCX takes Linux 6.6 or later")
	}
	program, index := load(t, code), at.Link(device).Attrs().Index
	var l ebpflink.Link
	at.Do(func() error {
		var err error
		l, err = ebpflink.AttachTCX(ebpflink.TCXOptions{Interface: index, Program: program, Attach: hook})
		return err
	})
	detach = func() { _ = l.Close() }
	t.Cleanup(detach)
	return detach
}

// classifier attaches a program in direct-action mode below clsact, as Cilium does
// on older kernels.
func classifier(t *testing.T, at *lab.Space, device string, hook uint32, code asm.Instructions) {
	t.Helper()
	program, index := load(t, code), at.Link(device).Attrs().Index
	clsact := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: index, Parent: netlink.HANDLE_CLSACT, Handle: netlink.HANDLE_CLSACT & 0xffff0000}}
	if err := at.Netlink.QdiscReplace(clsact); err != nil {
		t.Fatalf("clsact on %s: %v", device, err)
	}
	filter := &netlink.BpfFilter{Fd: program.FD(), Name: "cil_to_container", DirectAction: true,
		FilterAttrs: netlink.FilterAttrs{LinkIndex: index, Parent: hook, Handle: 1, Priority: 1, Protocol: 3}} // ETH_P_ALL
	if err := at.Netlink.FilterAdd(filter); err != nil {
		t.Fatalf("a program on %s: %v", device, err)
	}
}

// always is a program that says the same of every packet.
func always(verdict int32) asm.Instructions {
	return asm.Instructions{asm.Mov.Imm(asm.R0, verdict), asm.Return()}
}

// toAddress is a program that does something with IPv4 packets to an address, with
// the packet in R6, and lets all others go on.
func toAddress(address string, do ...asm.Instruction) asm.Instructions {
	ip := netip.MustParseAddr(address).As4()
	code := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.LoadAbs(offType, asm.Half),
		asm.JNE.Imm(asm.R0, 0x0800, "next"),
		asm.LoadAbs(offIPv4Dst, asm.Word),
		asm.JNE.Imm32(asm.R0, int32(binary.BigEndian.Uint32(ip[:])), "next"),
	}
	code = append(code, do...)
	return append(code, asm.Mov.Imm(asm.R0, verdictNext).WithSymbol("next"), asm.Return())
}

// setMACs writes the Ethernet addresses of the packet in R6.
func setMACs(to, from netlink.Link) []asm.Instruction {
	macs := append(append([]byte{}, to.Attrs().HardwareAddr...), from.Attrs().HardwareAddr...)
	return []asm.Instruction{
		asm.LoadImm(asm.R1, int64(binary.NativeEndian.Uint64(macs)), asm.DWord),
		asm.StoreMem(asm.R10, -16, asm.R1, asm.DWord),
		asm.LoadImm(asm.R1, int64(binary.NativeEndian.Uint32(macs[8:])), asm.DWord),
		asm.StoreMem(asm.R10, -8, asm.R1, asm.Word),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Imm(asm.R2, 0),
		asm.Mov.Reg(asm.R3, asm.R10),
		asm.Add.Imm(asm.R3, -16),
		asm.Mov.Imm(asm.R4, 12),
		asm.Mov.Imm(asm.R5, 0),
		asm.FnSkbStoreBytes.Call(),
	}
}

// redirectPeer sends a packet, with the pod's addresses on it, straight to the pod's
// end of its cable: bpf_redirect_peer.
func redirectPeer(p *lab.Pod) []asm.Instruction {
	port := p.Host.Link(p.Port)
	return append(setMACs(p.Link("eth0"), port),
		asm.Mov.Imm(asm.R1, int32(port.Attrs().Index)),
		asm.Mov.Imm(asm.R2, 0),
		asm.FnRedirectPeer.Call(),
		asm.Return(),
	)
}

// redirectNeigh sends a packet out of a device to the neighbour that the routes
// name, past the node's own forwarding: bpf_redirect_neigh.
func redirectNeigh(device netlink.Link) []asm.Instruction {
	return []asm.Instruction{
		asm.Mov.Imm(asm.R1, int32(device.Attrs().Index)),
		asm.Mov.Imm(asm.R2, 0),
		asm.Mov.Imm(asm.R3, 0),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnRedirectNeigh.Call(),
		asm.Return(),
	}
}

// encapsulate sends a packet into a VXLAN device in external mode, to a node's.
func encapsulate(o lab.Overlay, vni int32, from, to *lab.Host) []asm.Instruction {
	remote, device := netip.MustParseAddr(to.IPv4()).As4(), from.Link(o.Device)
	return append(setMACs(to.Link(o.Device), device),
		asm.StoreImm(asm.R10, -8, int64(vni), asm.Word),
		asm.StoreImm(asm.R10, -4, int64(int32(binary.BigEndian.Uint32(remote[:]))), asm.Word),
		asm.Mov.Reg(asm.R1, asm.R6),
		asm.Mov.Reg(asm.R2, asm.R10),
		asm.Add.Imm(asm.R2, -8),
		asm.Mov.Imm(asm.R3, 8), // of struct bpf_tunnel_key: VNI and IPv4 address
		asm.Mov.Imm(asm.R4, 0),
		asm.FnSkbSetTunnelKey.Call(),
		asm.Mov.Imm(asm.R1, int32(device.Attrs().Index)),
		asm.Mov.Imm(asm.R2, 0),
		asm.FnRedirect.Call(),
		asm.Return(),
	)
}
