package policy

import (
	"net/netip"
	"testing"

	"github.com/podtap/podtap/pkg/tap"
)

var facts = Facts{
	PodAddresses: []netip.Addr{netip.MustParseAddr("10.42.0.7"), netip.MustParseAddr("2001:db8:42::7")},
	NodeVXLANs:   []NodeVXLAN{{Name: "flannel.1", Port: 8472, VNI: 1}, {Name: "vxlan.calico", Port: 4789, VNI: 4096}},
}

func TestATapToThePodItselfIsRefused(t *testing.T) {
	for _, own := range []string{"10.42.0.7", "2001:db8:42::7"} {
		expect(t, own, Refused(vxlan(own), facts), "vxlan.remote: "+own+" is the pod's own address, and its copies would be copied again; "+
			"send them to a collector outside the pod, or use a veth")
	}
	for _, other := range []string{"10.42.0.8", "2001:db8:42::8"} {
		expect(t, other, Refused(vxlan(other), facts), "")
	}
}

func TestATapIntoAnotherDevicesNetworkIsRefused(t *testing.T) {
	for _, c := range []struct {
		port      uint16
		vni       uint32
		objection string
	}{
		{8472, 1, "vxlan.vni: port 8472 with VNI 1 belongs to the VXLAN device flannel.1 of this node, and the copies " +
			"would enter that network as forged frames; choose another VNI or port"},
		{4789, 4096, "port 4789 with VNI 4096 belongs to the VXLAN device vxlan.calico"},
		// Only both together are a network.
		{4789, 1, ""},
		{8472, 4096, ""},
		{8472, 2, ""},
	} {
		for _, placement := range []func(*tap.VXLAN){func(*tap.VXLAN) {}, inPod} {
			expect(t, "vxlan", Refused(vxlan("198.18.0.9", port(c.port), vni(c.vni), placement), facts), c.objection)
		}
	}
}

func TestOnlyVXLANIsEverRefusedToAll(t *testing.T) {
	for _, harmless := range []tap.Tap{veth, vethHost, wire, wireHost} {
		expect(t, string(harmless.Sink()), Refused(harmless, facts), "")
	}
	expect(t, "nothing known", Refused(vxlan("10.42.0.7"), Facts{}), "")
}
