package trim

import (
	"bytes"
	"testing"

	"github.com/gopacket/gopacket/layers"
)

// isSplit fails where a program does not make two sound packets of a frame, which have its
// bytes, and its headers but for what must differ.
func (r *relay) isSplit(t *testing.T, p loaded, s Spec, f tcpFrame) {
	t.Helper()
	in := f.bytes(t)
	verdict, left, sent := r.run(t, p, in, 1)
	if verdict != actNext || len(sent) != 1 {
		t.Errorf("%+v: the verdict is %d, and %d packets were sent", f, verdict, len(sent))
		return
	}
	whole, _ := parse(in)
	first, err := parse(sent[0])
	second, err2 := parse(left)
	if err != nil || err2 != nil {
		t.Errorf("%+v: the first half: %v; the second: %v", f, err, err2)
		return
	}
	if len(sent[0]) != len(in)-int(s.split()) || len(sent[0]) > s.Path || len(left) != f.headers()+int(s.split()) || len(left) > s.Path {
		t.Errorf("%+v: the halves have %d and %d bytes", f, len(sent[0]), len(left))
	}
	if !bytes.Equal(append(bytes.Clone(first.tcp.Payload), second.tcp.Payload...), whole.tcp.Payload) {
		t.Errorf("%+v: the halves have other bytes", f)
	}
	if first.tcp.Seq != whole.tcp.Seq || second.tcp.Seq != whole.tcp.Seq+uint32(len(first.tcp.Payload)) {
		t.Errorf("%+v: the halves have the sequence numbers %d and %d", f, first.tcp.Seq, second.tcp.Seq)
	}
	for i, h := range []half{first, second} {
		w, isLast := *whole.tcp, i == 1
		w.FIN, w.PSH, w.CWR = w.FIN && isLast, w.PSH && isLast, w.CWR && !isLast
		same := h.tcp.FIN == w.FIN && h.tcp.PSH == w.PSH && h.tcp.CWR == w.CWR && h.tcp.ACK == w.ACK && h.tcp.ECE == w.ECE && h.tcp.NS == w.NS &&
			!h.tcp.SYN && !h.tcp.RST && !h.tcp.URG
		if !same || h.tcp.Ack != w.Ack || h.tcp.Window != w.Window || h.tcp.SrcPort != w.SrcPort || h.tcp.DstPort != w.DstPort || !bytes.Equal(h.options, whole.options) {
			t.Errorf("%+v: the half %d has another TCP header: %+v", f, i, h.tcp)
		}
		if !bytes.Equal(withoutLengths(h.network), withoutLengths(whole.network)) {
			t.Errorf("%+v: the half %d has another IP header: %x", f, i, h.network)
		}
	}
	if !bytes.Equal(left[:offNetwork], in[:offNetwork]) || !bytes.Equal(sent[0][:offNetwork], in[:offNetwork]) {
		t.Errorf("%+v: the halves have other Ethernet headers", f)
	}
}

// withoutLengths is an IP header without its length and checksum.
func withoutLengths(header []byte) []byte {
	b := bytes.Clone(header)
	if b[0]>>4 == 6 {
		clear(b[ipv6Length : ipv6Length+2])
	} else {
		clear(b[ipv4Length : ipv4Length+2])
		clear(b[ipv4Sum : ipv4Sum+2])
	}
	return b
}

// leaves fails where a program does not leave so much of a frame, or sends something.
func (r *relay) leaves(t *testing.T, p loaded, what string, frame []byte, length int) {
	t.Helper()
	verdict, left, sent := r.run(t, p, frame, 0)
	if verdict != actNext || len(sent) != 0 || !bytes.Equal(left, frame[:length]) {
		t.Errorf("%s: the verdict is %d, of %d bytes %d are left, and %d packets were sent; want %d", what, verdict, len(frame), len(left), len(sent), length)
	}
}

// ways are what TCP packets look like that are split.
func ways() []tcpFrame {
	var out []tcpFrame
	for _, ipv6 := range []bool{false, true} {
		for _, header := range []int{20, 24, 32, 60} {
			for _, options := range []int{0, 4, 24, 40} {
				if !ipv6 || options == 0 {
					out = append(out, tcpFrame{ipv6: ipv6, tcpHeader: header, ipOptions: options, seq: 1000})
				}
			}
		}
	}
	return out
}

// paths are underlays as wide as the pod's, of either family, a jumbo frame's half, and one
// so narrow that a second half takes what a stack holds.
var paths = []Spec{{Path: 1464, Longest: 1514}, {Path: 1444, Longest: 1514}, {Path: 1414, Longest: 1514}, {Path: 1200, Longest: 1514}}

// At the limit nothing happens, up to the longest that can be split there are two halves,
// and one byte more is cut, as is what comes in too few bytes for two.
func TestTCPUpToTheLongestIsSplit(t *testing.T) {
	r := newRelay(t)
	for _, s := range paths {
		s.Relay = r.index
		p, want := load(t, s), Counts{}
		longest := s.Path + int(s.split())
		for _, f := range ways() {
			for _, f.length = range []int{s.Path - 1, s.Path} {
				r.leaves(t, p, "as long as may be", f.bytes(t), f.length)
			}
			for _, f.length = range []int{s.Path + 1, s.Path + 2, s.Path + 3, s.Path + 50, longest - 1, longest} {
				f.seed++
				r.isSplit(t, p, s, f)
				want.Segments++
			}
			for _, f.length = range []int{longest + 1, longest + 100} {
				r.leaves(t, p, "longer than the longest", f.bytes(t), s.Path)
				want.CutPackets++
				want.CutBytes += uint64(f.length - s.Path)
			}
		}
		if got := p.counted(t); got != want {
			t.Errorf("%+v: counted are %+v; want %+v", s, got, want)
		}
	}
}

// Sequence numbers begin again, and what ends or notes something does so once.
func TestFlagsAndSequenceNumbersAreThoseOfTwoPackets(t *testing.T) {
	r := newRelay(t)
	s := Spec{Path: 1464, Longest: 1514, Relay: r.index}
	p := load(t, s)
	for _, ipv6 := range []bool{false, true} {
		for flags := range 32 {
			set := func(tcp *layers.TCP) {
				tcp.FIN, tcp.PSH, tcp.CWR, tcp.ECE, tcp.NS = flags&1 > 0, flags&2 > 0, flags&4 > 0, flags&8 > 0, flags&16 > 0
			}
			r.isSplit(t, p, s, tcpFrame{ipv6: ipv6, tcpHeader: 32, length: 1514, seq: 1<<32 - 700 - uint32(flags), set: set, seed: flags})
		}
	}
}

// Checksums come out right whatever they are summed from: 600 payloads, odd ones too.
func TestTheChecksumsOfHalvesAreRight(t *testing.T) {
	r := newRelay(t)
	s := Spec{Path: 1444, Longest: 1514, Relay: r.index}
	p := load(t, s)
	for seed := range 600 {
		r.isSplit(t, p, s, tcpFrame{ipv6: seed%3 == 0, tcpHeader: 20 + 4*(seed%11), length: 1445 + seed%70, seq: uint32(seed) * 0x01234567, seed: seed})
	}
}

// Where somebody has deleted the relay, the second half goes on all the same, to the redirect
// that counts what it cannot deliver.
func TestWithoutTheRelayTheSecondHalfGoesOn(t *testing.T) {
	r := newRelay(t)
	p := load(t, Spec{Path: 1464, Longest: 1514, Relay: r.index + 1000})
	verdict, left, sent := r.run(t, p, tcpFrame{length: 1514}.bytes(t), 0)
	if _, err := parse(left); err != nil || verdict != actNext || len(sent) != 0 {
		t.Errorf("%d packets were sent; the second half: %v, the verdict %d", len(sent), err, verdict)
	}
	if got, want := p.counted(t), (Counts{Segments: 1}); got != want {
		t.Errorf("counted are %+v; want %+v", got, want)
	}
}
