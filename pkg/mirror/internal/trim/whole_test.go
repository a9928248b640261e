package trim

import (
	"encoding/binary"
	"testing"

	"github.com/gopacket/gopacket/layers"
)

// What is more than bytes, or not plain TCP, is never split: it is cut to the path.
func TestWhatIsNotPlainTCPIsCut(t *testing.T) {
	r := newRelay(t)
	s := Spec{Path: 1444, Longest: 1514, Relay: r.index}
	p := load(t, s)
	cases := map[string][]byte{}
	for _, ipv6 := range []bool{false, true} {
		family := map[bool]string{false: "IPv4", true: "IPv6"}[ipv6]
		f := tcpFrame{ipv6: ipv6, tcpHeader: 32, length: 1514, seq: 1000}
		for what, set := range map[string]func(*layers.TCP){
			"SYN": func(tcp *layers.TCP) { tcp.SYN, tcp.ACK = true, false }, "SYN and ACK": func(tcp *layers.TCP) { tcp.SYN = true },
			"RST": func(tcp *layers.TCP) { tcp.RST = true }, "URG": func(tcp *layers.TCP) { tcp.URG, tcp.Urgent = true, 5 },
		} {
			f.set = set
			cases[what+" over "+family] = f.bytes(t)
		}
		f.set = nil
		for _, f.padding = range []int{1, 2, 60} {
			cases[family+" with padding "+string(rune('0'+f.padding%10))] = f.bytes(t)
		}
		f.padding = 0
		whole, tcpAt := f.bytes(t), f.headers()-32
		cases["UDP over "+family] = change(whole, func(b []byte) { b[map[bool]int{false: offNetwork + ipv4Proto, true: offNetwork + ipv6Next}[ipv6]] = 17 })
		cases["a TCP header of 16 bytes over "+family] = change(whole, func(b []byte) { b[tcpAt+tcpFlags] = 4 << 4 })
		cases["a length that is too long over "+family] = change(whole, func(b []byte) {
			at := map[bool]int{false: offNetwork + ipv4Length, true: offNetwork + ipv6Length}[ipv6]
			binary.BigEndian.PutUint16(b[at:], binary.BigEndian.Uint16(b[at:])+1)
		})
		cases["another EtherType over "+family] = change(whole, func(b []byte) { b[12], b[13] = 0x88, 0xb5 })
	}
	first := tcpFrame{tcpHeader: 32, length: 1514, fragment: true}.bytes(t)
	cases["a first fragment"] = first
	cases["a later fragment"] = change(first, func(b []byte) { b[offNetwork+ipv4Frag], b[offNetwork+ipv4Frag+1] = 0, 185 })
	cases["the fragment of an odd offset"] = change(first, func(b []byte) { b[offNetwork+ipv4Frag] = 0x1f })
	cases["IPv6 with another header before TCP's"] = change(tcpFrame{ipv6: true, length: 1514}.bytes(t), func(b []byte) { b[offNetwork+ipv6Next] = 0 })
	cases["ARP"] = change(first, func(b []byte) { b[12], b[13] = 0x08, 0x06 })
	for what, frame := range cases {
		r.leaves(t, p, what, frame, s.Path)
	}
	want := Counts{CutPackets: uint64(len(cases)), CutBytes: uint64(len(cases) * 70)}
	if got := p.counted(t); got != want {
		t.Errorf("counted are %+v; want %+v", got, want)
	}
}

// change is a frame with other bytes in some places.
func change(frame []byte, what func([]byte)) []byte {
	b := append([]byte(nil), frame...)
	what(b)
	return b
}

// Frames whose headers have no end, and paths that hardly take headers, do no harm.
func TestShortFramesAndNarrowPathsDoNoHarm(t *testing.T) {
	r := newRelay(t)
	for _, path := range []int{72, 90, 100, 130, 160, 200} {
		s := Spec{Path: path, Longest: 1514, Relay: r.index}
		p := load(t, s)
		for _, f := range ways() {
			f.length = 400
			whole, least := f.bytes(t), offNetwork+lenIPv4 // the kernel's test takes no less
			if f.ipv6 {
				least = offNetwork + lenIPv6
			}
			for length := least; length <= path; length++ {
				r.leaves(t, p, "a short frame", whole[:length], length)
			}
			for length := path + 1; length < 400; length += 7 {
				// IP tells of more bytes than there are.
				r.leaves(t, p, "a frame that ends early", whole[:length], path)
			}
		}
	}
}

// A packet with too few bytes for two halves is cut, whatever its headers are.
func TestAPacketIsSplitOnlyWhereBothHalvesHaveBytes(t *testing.T) {
	r := newRelay(t)
	for _, path := range []int{160, 200, 300, 480} {
		s := Spec{Path: path, Longest: path + minSplit, Relay: r.index}
		p, split := load(t, s), int(s.split())
		for _, f := range ways() {
			for f.length = path + 1; f.length <= path+80; f.length += 13 {
				payload := f.length - f.headers()
				switch {
				case payload < 0:
				case f.headers() <= path && f.length-split <= path && payload-split >= split:
					r.isSplit(t, p, s, f)
				default:
					r.leaves(t, p, "few bytes", f.bytes(t), path)
				}
			}
		}
	}
}
