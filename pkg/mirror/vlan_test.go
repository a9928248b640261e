package mirror

import (
	"fmt"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/podtap/podtap/internal/lab"
)

// tagged is a frame with a VLAN tag and a text.
func tagged(t *testing.T, id uint16, text string) []byte {
	t.Helper()
	b := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{},
		&layers.Ethernet{SrcMAC: attacker, DstMAC: []byte{2, 0, 0, 0, 0, 1}, EthernetType: layers.EthernetTypeDot1Q},
		&layers.Dot1Q{VLANIdentifier: id, Type: 0x88b5}, // an EtherType for experiments
		gopacket.Payload(fmt.Sprintf("%-60s", text)))
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// The kernel carries a VLAN tag beside a packet's bytes, not in them.
func TestACopyHasItsVLANTag(t *testing.T) {
	s := newScene(t, 1450, 1500)
	_, p := open(t, s.node, s.pod)
	for _, v := range variants[1:] {
		t.Run(v.name, func(t *testing.T) {
			want := s.want(t, v.text, "direction: both")
			capture := s.watch(add(t, p, ownerOf("c1"), want), want)
			defer capture.Stop()
			inject(t, s.pod.Space, "eth0", [][]byte{tagged(t, 100, "out"), tagged(t, 101, "out")})
			inject(t, s.node.Space, "pod1", [][]byte{tagged(t, 200, "in"), tagged(t, 201, "in")})
			got := map[string]int{}
			for _, f := range onlyFrom(capture.Settle(4), attacker) {
				tag, ok := decode(f).Layer(layers.LayerTypeDot1Q).(*layers.Dot1Q)
				if !ok {
					t.Errorf("a copy without a tag: %x", f.Data)
					continue
				}
				got[fmt.Sprintf("%d %.3s", tag.VLANIdentifier, tag.Payload)]++
			}
			for _, frame := range []string{"100 out", "101 out", "200 in ", "201 in "} {
				if got[frame] != 1 {
					t.Errorf("the frame %q was copied %d times; all: %v", frame, got[frame], got)
				}
			}
			remove(t, p, ownerOf("c1"))
		})
	}
}

// onlyFrom keeps the frames of one source.
func onlyFrom(frames []lab.Frame, source []byte) (out []lab.Frame) {
	for _, f := range frames {
		if string(f.SourceMAC()) == string(source) {
			out = append(out, f)
		}
	}
	return out
}
