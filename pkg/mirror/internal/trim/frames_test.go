package trim

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/podtap/podtap/internal/lab"
)

// tcpFrame describes a frame of TCP.
type tcpFrame struct {
	ipv6      bool
	ipOptions int // bytes, a multiple of 4
	tcpHeader int // bytes with options, 20 to 60
	length    int // of the frame
	padding   int // bytes of that which IP does not count
	fragment  bool
	seq       uint32
	set       func(*layers.TCP) // flags
	seed      int               // of the payload
}

// headers are its bytes up to the payload.
func (f tcpFrame) headers() int {
	n := offNetwork + lenIPv4 + f.ipOptions
	if f.ipv6 {
		n = offNetwork + lenIPv6
	}
	return n + max(f.tcpHeader, lenTCP)
}

const lenIPv4 = 20 // without options

var macs = [2]net.HardwareAddr{{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}}

// bytes builds the frame, with all checksums.
func (f tcpFrame) bytes(t *testing.T) []byte {
	t.Helper()
	payload := make([]byte, f.length-f.padding-f.headers())
	for i := range payload {
		payload[i] = byte((i+f.seed)*(13+f.seed) + i>>8)
	}
	tcp := &layers.TCP{SrcPort: 40000, DstPort: 443, Seq: f.seq, Ack: 77, ACK: true, Window: 512}
	if options := max(f.tcpHeader, lenTCP) - lenTCP; options > 0 {
		tcp.Options = []layers.TCPOption{{OptionType: 254, OptionLength: uint8(options), OptionData: pattern(options - 2)}} // for experiments
	}
	if f.set != nil {
		f.set(tcp)
	}
	stack := []gopacket.SerializableLayer{&layers.Ethernet{SrcMAC: macs[0], DstMAC: macs[1], EthernetType: layers.EthernetTypeIPv6}}
	if f.ipv6 {
		ip := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP, SrcIP: net.ParseIP("fd00::1"), DstIP: net.ParseIP("fd00::2")}
		_ = tcp.SetNetworkLayerForChecksum(ip)
		stack = append(stack, ip)
	} else {
		stack[0].(*layers.Ethernet).EthernetType = layers.EthernetTypeIPv4
		ip := &layers.IPv4{Version: 4, TTL: 64, Id: 4711, Protocol: layers.IPProtocolTCP, SrcIP: net.IP{192, 0, 2, 1}, DstIP: net.IP{192, 0, 2, 2}}
		if f.ipOptions > 0 {
			ip.Options = []layers.IPv4Option{{OptionType: 94, OptionLength: uint8(f.ipOptions), OptionData: pattern(f.ipOptions - 2)}}
		}
		if f.fragment {
			ip.Flags = layers.IPv4MoreFragments
		}
		_ = tcp.SetNetworkLayerForChecksum(ip)
		stack = append(stack, ip)
	}
	b := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, append(stack, tcp, gopacket.Payload(payload))...)
	if err != nil {
		t.Fatal(err)
	}
	frame := append(b.Bytes(), make([]byte, f.padding)...)
	if len(frame) != f.length {
		t.Fatalf("%+v has %d bytes", f, len(frame))
	}
	return frame
}

// half is one of the packets that a frame was split into.
type half struct {
	network []byte // its header
	tcp     *layers.TCP
	options []byte // of TCP
}

// parse reads a half, whose lengths and checksums have to be right.
func parse(frame []byte) (half, error) {
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.NoCopy)
	tcp, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP)
	if !ok || p.ErrorLayer() != nil || p.Metadata().Truncated {
		return half{}, fmt.Errorf("it is no whole TCP: %x", frame)
	}
	segment := len(tcp.Contents) + len(tcp.Payload)
	switch ip := p.NetworkLayer().(type) {
	case *layers.IPv4:
		if int(ip.Length) != len(frame)-offNetwork || sum(ip.Contents) != 0xffff {
			return half{}, fmt.Errorf("IPv4's length is %d, of %d bytes, and its header's sum is %#x", ip.Length, len(frame), sum(ip.Contents))
		}
	case *layers.IPv6:
		if int(ip.Length) != len(frame)-offNetwork-lenIPv6 {
			return half{}, fmt.Errorf("IPv6's length is %d, of %d bytes", ip.Length, len(frame))
		}
	}
	from, to := p.NetworkLayer().NetworkFlow().Endpoints()
	pseudo := append(append([]byte{0, protoTCP, byte(segment >> 8), byte(segment)}, from.Raw()...), to.Raw()...)
	if s := sum(append(append(pseudo, tcp.Contents...), tcp.Payload...)); s != 0xffff {
		return half{}, fmt.Errorf("TCP's sum is %#x", s)
	}
	return half{p.NetworkLayer().LayerContents(), tcp, tcp.Contents[lenTCP:]}, nil
}

// sum is the Internet's checksum, not complemented.
func sum(b []byte) uint32 {
	var s uint32
	for i, v := range b {
		s += uint32(v) << (8 * (1 - i%2))
	}
	for s > 0xffff {
		s = s&0xffff + s>>16
	}
	return s
}

// relay is a device that first halves are sent to, and what comes out of it.
type relay struct {
	space *lab.Space
	index int
	out   *lab.Capture
}

func newRelay(t *testing.T) *relay {
	t.Helper()
	needsRoot(t)
	a, b := lab.NewSpace(t, "a"), lab.NewSpace(t, "b")
	for _, s := range []*lab.Space{a, b} { // so that nothing else is sent
		s.Sysctl("ipv6", "default", "disable_ipv6", "1")
	}
	lab.Cable(a, "relay0", b, "out0", 9000)
	lab.Settle(t, a, b)
	return &relay{a, a.Link("relay0").Attrs().Index, b.Capture("out0")}
}

// run hands a program a frame, and returns its verdict, what is left of the frame, and what
// was sent to the relay meanwhile: as much as is expected, or more.
func (r *relay) run(t *testing.T, p loaded, frame []byte, expected int) (verdict int32, left []byte, sent [][]byte) {
	t.Helper()
	before := r.out.Len()
	r.space.Do(func() error {
		v, out, err := p.Test(frame)
		verdict, left = int32(v), out
		return err
	})
	frames := r.out.Frames()
	for i := 0; i < 2000 && len(frames) < before+expected; i++ {
		time.Sleep(time.Millisecond)
		frames = r.out.Frames()
	}
	for _, f := range frames[before:] {
		sent = append(sent, f.Data)
	}
	return verdict, left, sent
}
