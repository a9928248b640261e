package demo

import (
	"bytes"
	"fmt"
	"net"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// kind sorts packets for the counts.
type kind string

const (
	kindICMP kind = "ICMP"
	kindUDP  kind = "UDP"
	// What a network says by itself, whenever it needs to: address resolution, and
	// who listens to which multicast group.
	kindNeighbours kind = "ARP, ND"
	kindMulticast  kind = "IGMP, MLD"
	kindOther      kind = "other"
)

// packet is a frame as the counts see it.
type packet struct {
	kind kind
	sent bool   // by the pod; else received
	data string // the frame, less its UDP checksum
	text string // what it says, for people
}

// decode reads an Ethernet frame that the pod with a MAC sent or received.
func decode(frame []byte, pod net.HardwareAddr) packet {
	parsed := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	var p packet
	if ethernet, ok := parsed.Layer(layers.LayerTypeEthernet).(*layers.Ethernet); ok {
		p.sent = bytes.Equal(ethernet.SrcMAC, pod)
	}
	// The kernel leaves a UDP checksum to the network card. Between namespaces
	// there is none, and whether it is filled in where somebody looks is not the
	// tap's doing. The layer's bytes are the parsed packet's own copy.
	if udp, ok := parsed.Layer(layers.LayerTypeUDP).(*layers.UDP); ok {
		udp.Contents[6], udp.Contents[7] = 0, 0
	}
	p.kind, p.text = describe(parsed)
	p.data = string(parsed.Data())
	return p
}

// describe words a packet as SOURCE → DESTINATION and what it is.
func describe(p gopacket.Packet) (kind, string) {
	if arp, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP); ok {
		what := "ARP reply"
		if arp.Operation == layers.ARPRequest {
			what = "ARP request"
		}
		return kindNeighbours, words(net.IP(arp.SourceProtAddress), net.IP(arp.DstProtAddress), what)
	}
	network := p.NetworkLayer()
	if network == nil {
		return kindOther, fmt.Sprintf("%d bytes without an IP header", len(p.Data()))
	}
	flow := network.NetworkFlow()
	kind, what := transport(p)
	return kind, words(flow.Src(), flow.Dst(), what)
}

func words(from, to fmt.Stringer, what string) string {
	return fmt.Sprintf("%-15s → %-15s  %s", from, to, what)
}

// transport words what is in an IP packet.
func transport(p gopacket.Packet) (kind, string) {
	if icmp, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok {
		switch icmp.TypeCode.Type() {
		case layers.ICMPv4TypeEchoRequest:
			return kindICMP, fmt.Sprintf("ICMP echo request seq %d", icmp.Seq)
		case layers.ICMPv4TypeEchoReply:
			return kindICMP, fmt.Sprintf("ICMP echo reply   seq %d", icmp.Seq)
		}
		return kindOther, fmt.Sprintf("ICMP %s", icmp.TypeCode)
	}
	if udp, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP); ok {
		return kindUDP, fmt.Sprintf("UDP port %d, %d bytes", uint16(udp.DstPort), len(udp.Payload))
	}
	if p.Layer(layers.LayerTypeIGMP) != nil {
		return kindMulticast, "IGMP"
	}
	if icmp, ok := p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); ok {
		return icmpv6(icmp.TypeCode)
	}
	return kindOther, fmt.Sprintf("%d bytes", len(p.Data()))
}

// icmpv6 knows MLD (RFC 2710, RFC 3810) and neighbour discovery (RFC 4861).
func icmpv6(c layers.ICMPv6TypeCode) (kind, string) {
	switch t := c.Type(); {
	case t >= layers.ICMPv6TypeMLDv1MulticastListenerQueryMessage && t <= layers.ICMPv6TypeMLDv1MulticastListenerDoneMessage,
		t == layers.ICMPv6TypeMLDv2MulticastListenerReportMessageV2:
		return kindMulticast, "MLD"
	case t >= layers.ICMPv6TypeRouterSolicitation && t <= layers.ICMPv6TypeRedirect:
		return kindNeighbours, "ND " + c.String()
	}
	return kindOther, "ICMPv6 " + c.String()
}
