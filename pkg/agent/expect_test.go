package agent

import (
	"fmt"
	"testing"

	"github.com/podtap/podtap/api/node"
	"github.com/podtap/podtap/pkg/tap"
)

func TestEachTapIsFoundOnceByWhatItsAnnotationSays(t *testing.T) {
	veth := func(device string) node.Tap {
		return node.Tap{ContainerID: "c1", Device: device, Interface: "eth0", Direction: tap.Both, Sink: tap.SinkVeth}
	}
	vxlan := func(device, to string, p tap.Placement) node.Tap {
		return node.Tap{ContainerID: "c1", Device: device, Interface: "eth0", Direction: tap.Both, Sink: tap.SinkVXLAN, Placement: p, Destination: to}
	}
	wire := node.Tap{ContainerID: "c1", Device: "mirror", Interface: "eth0", Sink: tap.SinkWire}
	ingress := veth("mirror")
	ingress.Direction = tap.Ingress
	const far = "vxlan: {vni: 1, remote: 198.18.0.9}"
	for _, c := range []struct {
		annotation string
		have       []node.Tap
		want       string
	}{
		{"veth: {}", []node.Tap{veth("mirror")}, "[true]"},
		{"veth: {}", []node.Tap{veth("mirror7")}, "[true]"}, // the names before it were taken
		{"veth: {}", []node.Tap{veth("mirrored")}, "[false]"},
		{"veth: {}", []node.Tap{veth("other")}, "[false]"},
		{"veth: {}", []node.Tap{ingress}, "[false]"},
		{"veth: {}", []node.Tap{wire}, "[false]"},
		{"wire: {}", []node.Tap{wire}, "[true]"},
		{"{device: a, veth: {}}", []node.Tap{veth("a")}, "[true]"},
		{"{device: a, veth: {}}", []node.Tap{veth("mirror")}, "[false]"},
		{"{interface: eth1, veth: {}}", []node.Tap{veth("mirror")}, "[false]"},
		{"[{veth: {}}, {veth: {}}]", []node.Tap{veth("mirror")}, "[true false]"},
		{"[{veth: {}}, {veth: {}}]", []node.Tap{veth("mirror1"), veth("mirror")}, "[true true]"},
		{"[{veth: {}}, {device: mirror, veth: {}}]", []node.Tap{veth("mirror")}, "[false true]"},
		{"[{veth: {}}, {device: mirror, veth: {}}]", []node.Tap{veth("mirror"), veth("mirror1")}, "[true true]"},
		{far, []node.Tap{vxlan("mirror", "198.18.0.9:4789/1", tap.PlacementNode)}, "[true]"},
		{far, []node.Tap{vxlan("mirror", "198.18.0.9:4789/2", tap.PlacementNode)}, "[false]"},
		{far, []node.Tap{vxlan("mirror", "", tap.PlacementNode)}, "[true]"}, // its relay was deleted
		{far, []node.Tap{vxlan("mirror", "198.18.0.9:4789/1", tap.PlacementPod)}, "[false]"},
		{`vxlan: {vni: 1, remote: "fd00:18::9"}`, []node.Tap{vxlan("mirror", "[fd00:18::9]:4789/1", tap.PlacementNode)}, "[true]"},
	} {
		want, err := wanted(map[string]string{"podtap.io/taps": c.annotation})
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(present(c.have, true).match("c1", want)); got != c.want {
			t.Errorf("%s with %+v: %s, want %s", c.annotation, c.have, got, c.want)
		}
		if got := present(c.have, true).match("c2", want); got[0] {
			t.Errorf("%s: another container has it", c.annotation)
		}
	}
}
