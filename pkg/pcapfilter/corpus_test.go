package pcapfilter

import (
	"compress/gzip"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/podtap/podtap/pkg/pcapfilter/internal/reference"
)

// The addresses, ports and numbers that made frames have, and that expressions ask for.
var (
	macs        = []string{"02:00:00:00:00:01", "02:00:00:00:00:02", "ff:ff:ff:ff:ff:ff", "01:80:c2:00:00:00", "33:33:00:00:00:01"}
	ipv4s       = []string{"198.18.0.1", "198.18.0.2", "198.19.7.9", "10.1.2.3", "224.0.0.5"}
	ipv6s       = []string{"fd00::1", "fd00::2", "2001:db8:1::5", "ff02::1"}
	vlans       = []uint16{0, 1, 100, 200, 4095}
	portNumbers = []uint16{22, 53, 80, 443, 4789, 8080}
)

// corpus is every frame that programs are compared on: the captures, made frames, each
// cut to many lengths, and bytes at random. It is the same each time.
var corpus = sync.OnceValue(func() (all []reference.Packet) {
	fromCaptures := captured()
	whole := append(fromCaptures, made()...)
	r := rand.New(rand.NewPCG(1, 2))
	for i, p := range whole {
		all = append(all, p)
		if i >= 200 && i%11 != 0 && i < len(fromCaptures) {
			continue
		}
		for range 6 {
			cut := p
			cut.Bytes = p.Bytes[:r.IntN(min(len(p.Bytes), 120)+1)]
			if r.IntN(2) == 0 {
				cut.Length = uint32(len(cut.Bytes))
			}
			all = append(all, cut)
		}
		for range 3 { // a byte changed, in the headers
			other := p
			other.Bytes = append([]byte(nil), p.Bytes...)
			other.Bytes[r.IntN(min(len(other.Bytes), 64))] = byte(r.Uint32())
			all = append(all, other)
		}
	}
	for range 500 {
		b := make([]byte, r.IntN(100))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		all = append(all, reference.Packet{Bytes: b, Length: uint32(len(b))})
	}
	return all
})

// captured are the frames of testdata/captures.pcap.gz, which come from the captures of
// tcpdump's own tests.
func captured() (frames []reference.Packet) {
	f, err := os.Open("testdata/captures.pcap.gz")
	if err != nil {
		panic(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		panic(err)
	}
	r, err := pcapgo.NewReader(z)
	if err != nil {
		panic(err)
	}
	for {
		data, info, err := r.ReadPacketData()
		if err == io.EOF {
			return frames
		}
		if err != nil {
			panic(err)
		}
		if len(data) > 0 {
			frames = append(frames, reference.Packet{Bytes: data, Length: uint32(info.Length)})
		}
	}
}

// made are frames of all the shapes that the language knows.
func made() (frames []reference.Packet) {
	add := func(b []byte) { frames = append(frames, reference.Packet{Bytes: b, Length: uint32(len(b))}) }
	for i, network := range networks() {
		add(append(ethernet(i, network.kind), network.bytes...))
		vlan := func(tpid, id, kind uint16) []byte {
			return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, tpid), id), kind)
		}
		id := vlans[i%len(vlans)]
		head := ethernet(i, 0)[:12]
		tpid := []uint16{0x8100, 0x88a8, 0x9100}[i%3]
		add(append(append(append([]byte(nil), head...), vlan(tpid, id|0x6000, network.kind)...), network.bytes...))
		twice := append(append([]byte(nil), head...), vlan(0x88a8, id, 0x8100)...)
		add(append(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(twice, vlans[(i+1)%len(vlans)]), network.kind), network.bytes...))
		label := func(n uint32, last uint32) []byte { return binary.BigEndian.AppendUint32(nil, n<<12|last<<8|64) }
		add(append(append(ethernet(i, 0x8847), label(uint32(16+i%4), 1)...), network.bytes...))
		add(append(append(append(ethernet(i, 0x8847), label(100, 0)...), label(uint32(1000+i%2), 1)...), network.bytes...))
		ppp := map[uint16]uint16{0x0800: 0x0021, 0x86dd: 0x0057}[network.kind]
		pppoe := append(ethernet(i, 0x8864), 0x11, 0, 0, byte(i%3), 0, byte(len(network.bytes)+2), byte(ppp>>8), byte(ppp))
		add(append(pppoe, network.bytes...))
	}
	add(append(ethernet(0, 0x8863), 0x11, 9, 0, 0, 0, 4, 1, 1, 0, 0))
	for i, llc := range llcs {
		add(append(ethernet(i, uint16(len(llc))), llc...))
	}
	return frames
}

// llcs are frames of 802.2: of each kind, of SNAP, and of what is known there.
var llcs = [][]byte{
	{0x42, 0x42, 0x03, 0, 0, 0, 0, 0}, {0xfe, 0xfe, 0x03, 0x83, 0x1b, 1, 0, 15, 1}, {0xfe, 0xfe, 0x03, 0x83, 0x1b, 1, 0, 20, 1},
	{0xfe, 0xfe, 0x03, 0x83, 0x1b, 1, 0, 24, 1}, {0xfe, 0xfe, 0x03, 0x83, 0x1b, 1, 0, 27, 1}, {0xfe, 0xfe, 0x03, 0x82}, {0xfe, 0xfe, 0x03, 0x81},
	{0xaa, 0xaa, 0x03, 0, 0, 0, 0x81, 0x37}, {0xaa, 0xaa, 0x03, 8, 0, 7, 0x80, 0x9b}, {0xaa, 0xaa, 0x03, 0, 0, 0, 0x80, 0xf3},
	{0xe0, 0xe0, 0x03}, {0xff, 0xff, 0, 30}, {0xf0, 0xf0, 0x03}, {0x06, 0x06, 0x03}, {0x04, 0x04, 0x01}, {0x04, 0x04, 0x05}, {0x04, 0x04, 0x09},
	{0x04, 0x04, 0x00}, {0x04, 0x04, 0x63}, {0x04, 0x04, 0xe3}, {0x04, 0x04, 0xaf}, {0x04, 0x04, 0x87}, {0x04, 0x04, 0x6f}, {0x04, 0x04, 0x43}, {0x04, 0x04, 0x0f},
}

func ethernet(i int, kind uint16) []byte {
	d, _ := net.ParseMAC(macs[i%len(macs)])
	s, _ := net.ParseMAC(macs[(i+1)%2])
	return binary.BigEndian.AppendUint16(append(append([]byte(nil), d...), s...), kind)
}

// carried is what a frame carries, and its Ethernet type.
type carried struct {
	kind  uint16
	bytes []byte
}

// networks are packets of IPv4 and IPv6, with options, fragments and extension headers,
// and of what else has a type of its own.
func networks() (all []carried) {
	n := 0
	for _, proto := range []layers.IPProtocol{layers.IPProtocolTCP, layers.IPProtocolUDP, layers.IPProtocolSCTP, layers.IPProtocolICMPv4,
		layers.IPProtocolICMPv6, layers.IPProtocolIGMP, layers.IPProtocolESP, layers.IPProtocolAH, 9, 103, 112, layers.IPProtocolGRE} {
		for shape := range 7 {
			n++
			ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: proto, SrcIP: net.ParseIP(ipv4s[n%4]), DstIP: net.ParseIP(ipv4s[(n/2)%5]), TOS: uint8(n)}
			switch shape {
			case 1:
				ip.Options = []layers.IPv4Option{{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}}}
			case 2:
				ip.Options = []layers.IPv4Option{{OptionType: 7, OptionLength: 39, OptionData: make([]byte, 37)}}
			case 3:
				ip.Flags = layers.IPv4MoreFragments
			case 4:
				ip.FragOffset = 185
			case 5:
				ip.Flags = layers.IPv4DontFragment
			}
			all = append(all, carried{0x0800, serialize(ip, gopacket.Payload(transport(proto, n)))})
		}
		for shape := range 5 {
			n++
			next, body := proto, transport(proto, n)
			extension := func(kind layers.IPProtocol, b ...byte) {
				body = append(append([]byte{byte(next)}, b...), body...)
				next = kind
			}
			switch shape {
			case 1:
				extension(layers.IPProtocolIPv6HopByHop, 0, 5, 2, 0, 0, 1, 0)
			case 2:
				extension(layers.IPProtocolIPv6Fragment, 0, 0, 1, 0, 0, 0, 9)
			case 3:
				extension(layers.IPProtocolIPv6Destination, 0, 1, 4, 0, 0, 0, 0)
				extension(layers.IPProtocolIPv6Routing, 0, 0, 0, 0, 0, 0, 0)
			}
			ip := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: next, SrcIP: net.ParseIP(ipv6s[n%3]), DstIP: net.ParseIP(ipv6s[(n/2)%4])}
			all = append(all, carried{0x86dd, serialize(ip, gopacket.Payload(body))})
		}
	}
	for i, kind := range []uint16{0x0806, 0x8035, 0x0806} {
		arp := []byte{0, 1, 8, 0, 6, 4, 0, byte(1 + i%2), 2, 0, 0, 0, 0, 1}
		arp = append(append(append(arp, net.ParseIP(ipv4s[i]).To4()...), 2, 0, 0, 0, 0, 2), net.ParseIP(ipv4s[i+1]).To4()...)
		all = append(all, carried{kind, arp})
	}
	for _, kind := range []uint16{0x6001, 0x6002, 0x6004, 0x6007, 0x809b, 0x80f3, 0x8137, 0x9000, 0x88cc} {
		all = append(all, carried{kind, []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}})
	}
	for _, decnet := range [][]byte{{20, 0, 0x06, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0, 0, 0, 0, 2, 4, 0, 0}, {20, 0, 0x81, 0x06, 0, 0, 0, 0, 0, 0, 1, 4, 0, 0, 0, 0, 0, 0, 2, 4, 0},
		{8, 0, 0x02, 1, 4, 2, 4, 0}, {8, 0, 0x81, 0x02, 1, 4, 2, 4, 0}} {
		all = append(all, carried{0x6003, decnet})
	}
	return all
}

// transport is a header of a protocol over IP, and some payload.
func transport(proto layers.IPProtocol, n int) []byte {
	b := make([]byte, 24+n%40)
	for i := range b {
		b[i] = byte(n * i)
	}
	switch proto {
	case layers.IPProtocolTCP, layers.IPProtocolUDP, layers.IPProtocolSCTP:
		binary.BigEndian.PutUint16(b, portNumbers[n%len(portNumbers)])
		binary.BigEndian.PutUint16(b[2:], portNumbers[(n/3)%len(portNumbers)])
		if proto == layers.IPProtocolTCP {
			b[12], b[13] = 0x50, []byte{0x02, 0x12, 0x10, 0x18, 0x11, 0x04, 0xc2}[n%7]
		}
	case layers.IPProtocolICMPv4:
		b[0] = []byte{0, 3, 8, 11}[n%4]
	case layers.IPProtocolICMPv6:
		b[0] = []byte{1, 128, 129, 133, 135, 136}[n%6]
	}
	return b
}

func serialize(l ...gopacket.SerializableLayer) []byte {
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, l...); err != nil {
		panic(err)
	}
	return append([]byte(nil), b.Bytes()...)
}

func TestTheCorpusHasEveryShape(t *testing.T) {
	kinds, cut := map[uint16]int{}, 0
	for _, frame := range corpus() {
		if len(frame.Bytes) >= 14 {
			kinds[binary.BigEndian.Uint16(frame.Bytes[12:])]++
		}
		if uint32(len(frame.Bytes)) < frame.Length {
			cut++
		}
	}
	for _, kind := range []uint16{0x0800, 0x86dd, 0x0806, 0x8035, 0x8100, 0x88a8, 0x9100, 0x8847, 0x8863, 0x8864, 0x6003, 0x809b, 0x8137} {
		if kinds[kind] < 2 {
			t.Errorf("%d frames have the type %#x", kinds[kind], kind)
		}
	}
	if n := len(corpus()); n < 8000 || cut < 2000 {
		t.Errorf("the corpus has %d frames, of which %d are cut short", n, cut)
	}
}
