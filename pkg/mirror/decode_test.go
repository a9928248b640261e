package mirror

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/podtap/podtap/internal/lab"
)

// mapped writes an IPv4 address for a dual-stack socket.
func mapped(a string) string {
	return netip.AddrFrom16(netip.MustParseAddr(a).As16()).String()
}

func decode(f lab.Frame) gopacket.Packet {
	return gopacket.NewPacket(f.Data, layers.LayerTypeEthernet, gopacket.NoCopy)
}

// pings counts what is left of a ping among frames.
type pings struct{ requests, replies, broken int }

// echoes counts the lab's pings; one whose payload is not whole is broken.
func echoes(frames []lab.Frame) (n pings) {
	for _, f := range frames {
		p := decode(f)
		kind, body, sequence := "", []byte(nil), uint16(0)
		if l, ok := p.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok {
			kind, body, sequence = fmt.Sprint(l.TypeCode.Type()), l.Payload, l.Seq
		} else if l, ok := p.Layer(layers.LayerTypeICMPv6Echo).(*layers.ICMPv6Echo); ok {
			kind, body, sequence = fmt.Sprint(p.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6).TypeCode.Type()), l.Payload, l.SeqNumber
		}
		switch kind {
		case "8", "128":
			n.requests++
		case "0", "129":
			n.replies++
		default:
			continue
		}
		if string(body) != fmt.Sprintf("podtap lab %d", sequence) {
			n.broken++
		}
	}
	return n
}

// datagrams returns the frames of the lab's bursts by direction and number, with
// the UDP checksum zeroed: on the way between namespaces it may be left to a
// network card that never comes. A frame that comes twice is told by its key.
func datagrams(frames []lab.Frame) map[string]string {
	out := map[string]string{}
	for _, f := range frames {
		p := decode(f)
		udp, ok := p.Layer(layers.LayerTypeUDP).(*layers.UDP)
		if !ok || udp.DstPort != 5000 || len(udp.Payload) < 4 {
			continue
		}
		frame := append([]byte(nil), f.Data...)
		at := len(frame) - len(udp.Payload) - 2
		frame[at], frame[at+1] = 0, 0
		key := fmt.Sprintf("%s %d", p.NetworkLayer().NetworkFlow(), binary.BigEndian.Uint32(udp.Payload))
		if _, twice := out[key]; twice {
			key += " again"
		}
		out[key] = string(frame)
	}
	return out
}

// compare reports how copies differ from originals.
func compare(t *testing.T, sent, copied map[string]string) {
	t.Helper()
	missing, changed, extra := 0, 0, 0
	for key, frame := range sent {
		switch other, there := copied[key]; {
		case !there:
			missing++
		case other != frame:
			changed++
		}
	}
	for key := range copied {
		if _, there := sent[key]; !there {
			extra++
		}
	}
	if missing+changed+extra > 0 || len(sent) == 0 {
		t.Errorf("of %d packets %d were not copied, %d copied differently; %d copies are of no packet", len(sent), missing, changed, extra)
	}
}

// destinationPort is a UDP frame's, 0 of any other.
func destinationPort(f lab.Frame) int {
	if udp, ok := decode(f).Layer(layers.LayerTypeUDP).(*layers.UDP); ok {
		return int(udp.DstPort)
	}
	return 0
}

// isVXLAN tells VXLAN by its header, on any port and from any: a copy that podtap
// does not know as one is still a copy.
func isVXLAN(udp *layers.UDP) bool {
	return len(udp.Payload) >= 8 && binary.BigEndian.Uint32(udp.Payload) == vxlanFlags
}

// vxlans counts VXLAN packets among frames.
func vxlans(frames []lab.Frame) (n int) {
	for _, f := range frames {
		if udp, ok := decode(f).Layer(layers.LayerTypeUDP).(*layers.UDP); ok && isVXLAN(udp) {
			n++
		}
	}
	return n
}

// isCopyOfCopy tells a copy whose inner frame is a copy itself.
func isCopyOfCopy(f lab.Frame) bool {
	udp, ok := decode(f).Layer(layers.LayerTypeUDP).(*layers.UDP)
	return ok && isVXLAN(udp) && vxlans([]lab.Frame{{Data: udp.Payload[8:]}}) > 0
}
