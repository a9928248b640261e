package mirror

import (
	"bytes"
	"encoding/binary"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// kindsOfFilters has one of each kind that the language knows.
var kindsOfFilters = []string{
	"arp", "ip", "ip6", "tcp", "udp", "icmp", "icmp6", "sctp", "not (tcp or udp)",
	"host 198.18.77.1", "src host 198.18.77.1", "dst host 198.18.77.1", "src and dst host 198.18.77.1", "host fd77::1", "ip6 dst fd77::2",
	"net 198.18.77.0/24", "net 198.18/15", "dst net fd77::/64", "port 53", "tcp port 80 or 443", "udp src port 53", "portrange 50-100",
	"ip proto 132", "proto 50", "ether proto 0x88b5", "ether dst 02:00:00:00:00:02", "ether host 02:00:00:00:00:01", "broadcast", "multicast", "ip multicast",
	"vlan", "vlan 100", "vlan 100 and tcp port 80", "vlan and vlan", "vlan 100 and vlan 200 and udp", "not vlan", "vlan 101", "vlan and ip6", "ether[12:2] = 0x8100", "ether[14:2] & 0xfff = 100",
	"mpls", "mpls 16 and ip", "pppoes and ip", "less 70", "greater 200", "len > 70 and len < 200",
	"tcp[tcpflags] & tcp-syn != 0", "ip[8] < 10", "ip[2:2] - ((ip[0] & 0xf) << 2) > 40", "icmp[icmptype] = icmp-echo", "icmp6[icmp6type] = icmp6-neighborsolicit",
	"ether[len - 1] = 0x2a", "ip[6:2] & 0x1fff != 0", "tcp port 80 and not host 198.18.77.1",
}

// everyKind are frames of which each of those filters matches some, and not others. None is
// for the machine that it comes to.
func everyKind(t *testing.T) (frames [][]byte) {
	t.Helper()
	vlan := func(id uint16, kind layers.EthernetType) *layers.Dot1Q {
		return &layers.Dot1Q{VLANIdentifier: id, Type: kind}
	}
	frame := func(destination []byte, kind layers.EthernetType, l ...gopacket.SerializableLayer) {
		b := gopacket.NewSerializeBuffer()
		l = append([]gopacket.SerializableLayer{&layers.Ethernet{SrcMAC: attacker, DstMAC: destination, EthernetType: kind}}, l...)
		if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true}, l...); err != nil {
			t.Fatal(err)
		}
		frames = append(frames, append([]byte(nil), b.Bytes()...))
	}
	unicast, other := []byte{2, 0, 0, 0, 0, 1}, []byte{2, 0, 0, 0, 0, 2}
	four := func(proto layers.IPProtocol, source, destination string, change func(*layers.IPv4)) *layers.IPv4 {
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: proto, SrcIP: parseIP(source), DstIP: parseIP(destination)}
		if change != nil {
			change(ip)
		}
		return ip
	}
	six := func(proto layers.IPProtocol, source, destination string) *layers.IPv6 {
		return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: proto, SrcIP: parseIP(source), DstIP: parseIP(destination)}
	}
	body := func(n int) gopacket.Payload { return bytes.Repeat([]byte{0x2a}, n) }
	ports := func(source, destination uint16, flags byte) gopacket.Payload {
		b := append(binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, source), destination), body(40)...)
		b[12], b[13] = 0x50, flags
		return b
	}
	const a, b, c = "198.18.77.1", "198.18.77.2", "192.0.2.1"
	tcp := func(to string, source, destination uint16, flags byte) []gopacket.SerializableLayer {
		return []gopacket.SerializableLayer{four(layers.IPProtocolTCP, a, to, nil), ports(source, destination, flags)}
	}
	v4, v6, q := layers.EthernetTypeIPv4, layers.EthernetTypeIPv6, layers.EthernetTypeDot1Q
	frame(unicast, v4, tcp(b, 50000, 80, 2)...)
	frame(other, v4, tcp(c, 443, 50000, 0x10)...)
	frame(unicast, v4, four(layers.IPProtocolTCP, b, c, nil), ports(80, 1, 0x12))
	frame(unicast, v4, four(layers.IPProtocolUDP, b, a, nil), ports(53, 60, 0))
	frame(unicast, v4, four(layers.IPProtocolUDP, a, a, func(ip *layers.IPv4) { ip.TTL = 3 }), ports(4000, 53, 0), body(300))
	frame(unicast, v4, four(layers.IPProtocolUDP, c, b, func(ip *layers.IPv4) { ip.FragOffset = 100 }), ports(53, 53, 0))
	frame(unicast, v4, four(layers.IPProtocolTCP, c, b, func(ip *layers.IPv4) {
		ip.Options = []layers.IPv4Option{{OptionType: 148, OptionLength: 4, OptionData: []byte{0, 0}}}
	}), ports(50000, 80, 2))
	frame(unicast, v4, four(layers.IPProtocolICMPv4, b, c, nil), gopacket.Payload{8, 0, 0, 0, 1, 2, 3, 4})
	frame(unicast, v4, four(layers.IPProtocolICMPv4, b, a, nil), gopacket.Payload{0, 0, 0, 0, 1, 2, 3, 4})
	frame(unicast, v4, four(layers.IPProtocolSCTP, b, c, nil), ports(80, 50, 0))
	frame(unicast, v4, four(layers.IPProtocolESP, b, c, nil), body(30))
	frame([]byte{1, 0, 0x5e, 0, 0, 5}, v4, four(layers.IPProtocolUDP, b, "224.0.0.5", nil), ports(1, 2, 0))
	frame([]byte{255, 255, 255, 255, 255, 255}, layers.EthernetTypeARP, &layers.ARP{AddrType: 1, Protocol: v4, HwAddressSize: 6, ProtAddressSize: 4, Operation: 1,
		SourceHwAddress: attacker, SourceProtAddress: parseIP(a), DstHwAddress: make([]byte, 6), DstProtAddress: parseIP(b)})
	frame(unicast, v6, six(layers.IPProtocolTCP, "fd77::1", "fd77::2"), ports(50000, 443, 2))
	frame(unicast, v6, six(layers.IPProtocolUDP, "fd77::2", "fd78::1"), ports(53, 40000, 0))
	frame(unicast, v6, six(layers.IPProtocolICMPv6, "fd77::1", "fd78::2"), gopacket.Payload{135, 0, 0, 0, 1, 2, 3, 4})
	frame(unicast, 0x88b5, body(60))
	frame(unicast, layers.EthernetTypeMPLSUnicast, &layers.MPLS{Label: 16, StackBottom: true, TTL: 9}, four(layers.IPProtocolUDP, b, c, nil), ports(1, 2, 0))
	frame(unicast, layers.EthernetTypeMPLSUnicast, &layers.MPLS{Label: 17, StackBottom: true, TTL: 9}, six(layers.IPProtocolUDP, "fd77::1", "fd77::2"), ports(1, 2, 0))
	frame(unicast, 0x8864, gopacket.Payload{0x11, 0, 0, 1, 0, 60, 0, 0x21}, four(layers.IPProtocolTCP, b, c, nil), ports(1, 80, 2))
	frame(unicast, q, append([]gopacket.SerializableLayer{vlan(100, v4)}, tcp(b, 50000, 80, 2)...)...)
	frame(unicast, q, append([]gopacket.SerializableLayer{vlan(101, v4)}, tcp(b, 50000, 80, 2)...)...)
	frame(unicast, q, vlan(100, v6), six(layers.IPProtocolUDP, "fd77::1", "fd77::2"), ports(1, 53, 0))
	frame(unicast, q, vlan(100, q), vlan(200, v4), four(layers.IPProtocolUDP, a, b, nil), ports(1, 53, 0))
	frame(unicast, layers.EthernetTypeQinQ, vlan(100, q), vlan(201, v4), four(layers.IPProtocolTCP, a, b, nil), ports(1, 443, 0))
	frame(unicast, q, vlan(4095, layers.EthernetTypeARP), body(46))
	return frames
}

func parseIP(text string) net.IP {
	ip := net.ParseIP(text)
	if four := ip.To4(); four != nil {
		return four
	}
	return ip
}

// verdicts has tcpdump read frames from a file, and returns those that a filter lets through.
func verdicts(t *testing.T, filter string, frames [][]byte) (matching [][]byte) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "frames.pcap")
	var b bytes.Buffer
	w := pcapgo.NewWriter(&b)
	err := w.WriteFileHeader(65535, layers.LinkTypeEthernet)
	for _, f := range frames {
		if err == nil {
			err = w.WritePacket(gopacket.CaptureInfo{Timestamp: time.Unix(1, 0), CaptureLength: len(f), Length: len(f)}, f)
		}
	}
	if err == nil {
		err = os.WriteFile(file, b.Bytes(), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("tcpdump", "-r", file, "-w", "-", "--", filter).Output()
	if err != nil {
		t.Fatalf("tcpdump -r %s %q: %v", file, filter, err)
	}
	r, err := pcapgo.NewReader(bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	for {
		data, _, err := r.ReadPacketData()
		if err != nil {
			return matching
		}
		matching = append(matching, data)
	}
}
