package mirror

import (
	"net"
	"slices"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/podtap/podtap/internal/lab"
)

// Calico routes its pods, and has its overlay on VXLAN's own port, which is also
// most collectors'.
func TestRoutedPodsBesideCalicosVXLANAreCopiedOnce(t *testing.T) {
	for name, o := range map[string]lab.Overlay{
		"vxlan.calico":  overlays["Calico"],
		"external mode": {Device: "vxlan.calico", Port: 4789},
	} {
		t.Run(name, func(t *testing.T) {
			s := newOverlayScene(t, o, (*lab.Host).RoutedPod, 1450)
			s.copiesBeside(t, o, 4789)
		})
	}
}

func TestCalicosOwnVNIIsKnownToBeTaken(t *testing.T) {
	s := newOverlayScene(t, overlays["Calico"], (*lab.Host).RoutedPod, 1450)
	if list := s.foreign(t); !slices.Equal(list, []VXLAN{{Name: "vxlan.calico", Port: 4789, VNI: 4096}}) {
		t.Errorf("foreign are %v", list)
	}
}

// The gateway of a routed pod is nobody's address: the host's end answers the pod's
// ARP, and a tap must neither answer it too nor keep the answer away.
func TestARoutedPodsGatewayAnswersOnce(t *testing.T) {
	s := newOverlayScene(t, overlays["Calico"], (*lab.Host).RoutedPod, 1450)
	s.node.Sysctl("ipv4", "all", "proxy_arp", "1") // for whatever asks, the tap's end on the node too
	_, p := open(t, s.node, s.pod)
	made := add(t, p, ownerOf("c1"), s.want(t, variants[0].text, "direction: both"))
	copies, eth0 := s.node.Capture(made.Host.Name), s.pod.Capture("eth0")
	// The first packet asks for the gateway.
	if n := s.pod.Ping(s.peer.IPv4, 3); n != 3 {
		t.Fatalf("%d of 3 pings answered", n)
	}
	expectPings(t, "the tap", copies, 3)
	for where, c := range map[string]*lab.Capture{"eth0 showed": eth0, "the tap copied": copies} {
		if asked, answered := gatewayARP(c.Settle(8)); asked != 1 || answered != 1 {
			t.Errorf("%s %d questions and %d answers for the gateway; want one of each", where, asked, answered)
		}
	}
}

// gatewayARP counts the questions for a routed pod's gateway, and the answers.
func gatewayARP(frames []lab.Frame) (asked, answered int) {
	for _, f := range frames {
		a, ok := decode(f).Layer(layers.LayerTypeARP).(*layers.ARP)
		switch gateway := net.IPv4(169, 254, 1, 1); {
		case !ok:
		case a.Operation == layers.ARPRequest && gateway.Equal(a.DstProtAddress):
			asked++
		case a.Operation == layers.ARPReply && gateway.Equal(a.SourceProtAddress):
			answered++
		}
	}
	return asked, answered
}
