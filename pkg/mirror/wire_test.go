package mirror

import (
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/gopacket/gopacket/layers"

	"github.com/podtap/podtap/internal/lab"
)

func TestAWireIsPingableFromBothEndsAndAddsOnlyItsConnectedRoutes(t *testing.T) {
	s := newScene(t, 1450, 1500)
	_, p := open(t, s.node, s.pod)
	want := parse(t, "{%s}", wireText)
	want.Wire.HostInterface = "wire0"
	routes := s.routes()
	made := add(t, p, ownerOf("c1"), want)
	if made.Host.Name != "wire0" || made.Device.Name != "mirror" || made.Device.MTU != 1450 || made.Host.MTU != 1450 {
		t.Errorf("made %+v, host %+v; want the tapped interface's MTU of 1450", made.Device, made.Host)
	}
	// At once: nothing has to be waited for.
	for _, to := range []string{"198.19.0.1", "fd00:19::1"} {
		if n := s.pod.Ping(to, 1); n != 1 {
			t.Errorf("the node's end does not answer the pod at %s", to)
		}
	}
	for _, to := range []string{"198.19.0.2", "fd00:19::2"} {
		if n := s.node.Ping(to, 1); n != 1 {
			t.Errorf("the pod's end does not answer the node at %s", to)
		}
	}
	healthy(t, p, ownerOf("c1"), want)
	lab.Settle(t, s.node.Space, s.pod.Space)
	for _, route := range strings.Split(lab.Difference(routes, s.routes()), "\n") {
		connected := strings.Contains(route, "Dst: 198.19.0.0/24") || strings.Contains(route, "Dst: fd00:19::/64")
		ownLink := strings.Contains(route, "Dst: fe80::/64") || strings.Contains(route, "Dst: ff00::/8")
		if !strings.HasPrefix(route, "+ ") || !connected && !ownLink {
			t.Errorf("routes have changed: %s", route)
		}
	}
	if n := s.pod.Ping(s.peer.IPv4, 1); n != 1 {
		t.Error("the pod has lost its peer")
	}
	remove(t, p, ownerOf("c1"))
	lab.Settle(t, s.node.Space, s.pod.Space)
	if d := lab.Difference(routes, s.routes()); d != "" {
		t.Errorf("after Remove, routes have changed:\n%s", d)
	}
}

// routes are those of pod and node.
func (s *scene) routes() string {
	var out []string
	for _, l := range strings.Split(s.pod.Snapshot()+"\n"+s.node.Snapshot(), "\n") {
		if strings.HasPrefix(l, "route ") {
			out = append(out, l)
		}
	}
	return strings.Join(out, "\n")
}

func TestAWiresAddressesAreAnnouncedAtBothEnds(t *testing.T) {
	s := newScene(t, 1450, 1500)
	_, p := open(t, s.node, s.pod)
	want := parse(t, "{%s}", wireText)
	want.Wire.HostInterface = "wire0"
	// The other end's socket has to be there before the announcement, and its
	// device is made in between: listen as soon as it is up.
	captures := map[string]*lab.Capture{}
	p.node.before = func(what string) error {
		if what == "set wire0 up" {
			captures["node"], captures["pod"] = s.node.Capture("wire0"), s.pod.Capture("mirror")
		}
		return nil
	}
	add(t, p, ownerOf("c1"), want)
	p.node.before = nil
	for end, addresses := range map[string][2]string{"node": {"198.19.0.2", "fd00:19::2"}, "pod": {"198.19.0.1", "fd00:19::1"}} {
		arp, advertised := announced(captures[end].Settle(8))
		if !arp[addresses[0]] || !advertised[addresses[1]] {
			t.Errorf("the %s's end heard gratuitous ARP of %v and advertisements of %v; want %v", end, arp, advertised, addresses)
		}
	}
}

// announced lists the addresses that received frames announce.
func announced(frames []lab.Frame) (arp, advertised map[string]bool) {
	arp, advertised = map[string]bool{}, map[string]bool{}
	for _, f := range frames {
		if f.Outgoing {
			continue
		}
		p := decode(f)
		if a, ok := p.Layer(layers.LayerTypeARP).(*layers.ARP); ok && string(a.SourceProtAddress) == string(a.DstProtAddress) {
			arp[net.IP(a.SourceProtAddress).String()] = true
		}
		// An unsolicited one overrides; that of a node, which forwards, says so too.
		if a, ok := p.Layer(layers.LayerTypeICMPv6NeighborAdvertisement).(*layers.ICMPv6NeighborAdvertisement); ok && a.Override() && !a.Solicited() {
			advertised[a.TargetAddress.String()] = true
		}
	}
	return arp, advertised
}

func TestAWireThatWouldTakeTrafficFromAnotherRouteIsRefused(t *testing.T) {
	s := newScene(t, 1450, 1500)
	_, p := open(t, s.node, s.pod)
	before := track(t, s.node.Space, s.pod.Space)
	for text, says := range map[string]string{
		`{wire: {addresses: [198.18.101.200/32]}}`:                     "wire.addresses: 198.18.101.200/32 is in use",
		`{wire: {addresses: [198.18.0.200/15]}}`:                       "the pod has a route to 198.18.101.0/24 already",
		`{wire: {addresses: ["fd00:18:1::200/128"]}}`:                  "the pod has a route to fd00:18:1::/64 already",
		`{wire: {hostAddresses: [198.18.0.200/32]}}`:                   "the node has a route to 198.18.0.0/24 already",
		`{wire: {hostAddresses: ["fd00::1/16"]}}`:                      "the node has a route to fd00:18",
		`{wire: {hostAddresses: [198.18.102.7/32], hostInterface: w}}`: "the node has a route to 198.18.102.0/24 already",
	} {
		_, err := p.Add(ownerOf("c1"), parse(t, "%s", text), "")
		if !errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v; want %q", text, err, says)
		}
	}
	before.unchanged("after the refusals")
}

func TestAWireMayHaveItsOwnMTUAndNoAddress(t *testing.T) {
	s := newScene(t, 1450, 1500)
	_, p := open(t, s.node, s.pod)
	want := parse(t, "{wire: {mtu: 9000}}")
	if made := add(t, p, ownerOf("c1"), want); made.Device.MTU != 9000 || made.Host.MTU != 9000 {
		t.Errorf("made %+v, host %+v", made.Device, made.Host)
	}
	healthy(t, p, ownerOf("c1"), want)
}

func TestAWireCanBeTappedAndAMirrorCannot(t *testing.T) {
	s := newScene(t, 1450, 1500)
	_, p := open(t, s.node, s.pod)
	before := track(t, s.node.Space, s.pod.Space)
	wire := parse(t, "{device: wire, %s}", wireText)
	mirror := parse(t, "{device: mirror, interface: wire, veth: {}}")
	add(t, p, ownerOf("c1"), wire)
	capture := s.watch(add(t, p, ownerOf("c1"), mirror), mirror)
	s.pod.Ping("198.19.0.1", 3)
	expectPings(t, "the tap of the wire", capture, 3)
	healthy(t, p, ownerOf("c1"), wire, mirror)
	_, err := p.Add(ownerOf("c1"), parse(t, "{device: second, interface: mirror, veth: {}}"), "")
	if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "mirror is not supported: it is a mirror itself") {
		t.Errorf("a mirror of a mirror: %v", err)
	}
	remove(t, p, ownerOf("c1"))
	before.unchanged("after Remove")
}
