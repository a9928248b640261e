package mirror

import (
	"maps"
	"strings"
	"testing"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/tap"
)

// age makes a relayed tap what a podtap made before there were lists: aliases
// without a time, an MTU of 65535 at both ends, rules that do not count, and a
// redirect that does not say whose it is, at the first priority, where others have it second.
func age(t *testing.T, s *scene, p *Pod, o Owner, want tap.Tap, made Made) {
	t.Helper()
	device, host := s.pod.Link(made.Device.Name), s.node.Link(made.Host.Name)
	relay := s.node.Link(s.relay())
	m, ok := parseMark(host.Attrs().Alias)
	if !ok || m.Since.IsZero() {
		t.Fatalf("the alias is %q", host.Attrs().Alias)
	}
	alias, _, _ := strings.Cut(device.Attrs().Alias, " at=")
	claim(t, s.pod.Space, made.Device.Name, alias)
	alias, _, _ = strings.Cut(host.Attrs().Alias, " at=")
	claim(t, s.node.Space, made.Host.Name, alias)
	s.pod.MTU(made.Device.Name, mirrorMTU)
	s.pod.Sysctl("ipv6", made.Device.Name, "disable_ipv6", "1")
	for i, hook := range []uint32{hookIngress, hookEgress} {
		instead(t, p.namespace, s.pod.Link("eth0"), hook, rule{priority: firstPriority + uint16(i), program: passCopies(want.VXLAN),
			mirred: &mirred{to: device.Attrs().Index, cookie: newCookie(o, want.Device, ownClsact)}})
	}
	instead(t, p.node.namespace, host, hookIngress,
		rule{priority: 1, program: matchAll(), mirred: &mirred{redirect: true, to: relay.Attrs().Index}},
		rule{priority: 2, program: dropAll()})
}

// What makes copies fit comes in front of an older podtap's redirect, too: of rules with the
// same priority the kernel takes the newest first.
func TestATapOfAnOlderPodtapCanBeMadeToFit(t *testing.T) {
	needsEBPF(t)
	s := newScene(t, 1500, 1500)
	node, p := open(t, s.node, s.pod)
	want := s.want(t, "vxlan: {vni: 1, remote: COLLECTOR4, oversize: fragment}", "direction: both")
	made := add(t, p, ownerOf("c1"), want)
	age(t, s, p, ownerOf("c1"), want, made)
	healthy(t, p, ownerOf("c1"), want)
	fit := s.want(t, "vxlan: {vni: 1, remote: COLLECTOR4, oversize: fit}", "direction: both")
	if _, err := p.Change(ownerOf("c1"), want, fit); err != nil {
		t.Fatal(err)
	}
	healthy(t, p, ownerOf("c1"), fit)
	outer := s.collector.Capture("eth0")
	if n := lab.Stream(t, s.pod.Space, s.peer.Space, s.peer.IPv4, 100_000); n != 100_000 {
		t.Errorf("%d bytes came back", n)
	}
	noFragments(t, outer.Settle(1))
	if is := only(t, node); is.Trimmed == nil || is.Trimmed.Segments == 0 {
		t.Errorf("it is listed as %+v", is)
	}
}

// podtap may be replaced while pods run.
func TestTheTapsOfAnOlderPodtapAreWholeAndGo(t *testing.T) {
	s := newScene(t, 1430, 1500)
	node, p := open(t, s.node, s.pod)
	before := track(t, s.node.Space, s.pod.Space)
	want := s.want(t, "vxlan: {vni: 1, remote: COLLECTOR4}", "direction: both")
	made := add(t, p, ownerOf("c1"), want)
	capture := s.watch(made, want)
	age(t, s, p, ownerOf("c1"), want, made)
	lab.Settle(t, s.node.Space, s.pod.Space)
	s.pod.Ping(s.peer.IPv4, 3)
	expectPings(t, "the collector", capture, 3)
	healthy(t, p, ownerOf("c1"), want)
	list := listOf(t, node)
	if len(list.Senders) != 1 || list.Senders[0].Missing || list.Senders[0].Taps != 1 ||
		list.Senders[0].Device != s.relay() || list.Senders[0].Destination != s.collector.IPv4()+":4789/1" || list.Senders[0].Sent.Packets < 6 {
		t.Errorf("the senders are %+v", list.Senders)
	}
	if is := list.Taps; len(is) != 1 || is[0].NetNS != s.pod.Path() || !is[0].Since.IsZero() || is[0].Device != "mirror" ||
		is[0].Destination != s.collector.IPv4()+":4789/1" || len(is[0].Counters) == 0 || !is[0].Counters[0].Segments {
		t.Errorf("the taps are %+v", is)
	} else {
		addUp(t, is[0].Counters)
	}
	remove(t, p, ownerOf("c1"))
	before.unchanged("after Remove")
}

// The end in the pod may have the MTU of either age, and no other.
func TestCheckTellsAnMTUThatNoPodtapGave(t *testing.T) {
	s := newScene(t, 1430, 1500)
	_, p := open(t, s.node, s.pod)
	want := parse(t, "veth: {}")
	add(t, p, ownerOf("c1"), want)
	s.pod.MTU("mirror", 1000)
	s.expectCheck(t, p, want, "the device mirror has MTU 1000 instead of 1279")
}

// Another pod's ADD finds a relay without alias, as one is whose making was cut
// short; but a tap sends through it.
func TestARelayInUseWhoseAliasIsGoneIsRepairedInPlace(t *testing.T) {
	s := newScene(t, 1430, 1500)
	node, p := open(t, s.node, s.pod)
	second := s.node.Pod("second", 1430)
	other := openPod(t, node, second)
	before := track(t, s.node.Space)
	want := s.want(t, "vxlan: {vni: 1, remote: COLLECTOR4}", "direction: both")
	capture := s.watch(add(t, p, ownerOf("c1"), want), want)
	relay := s.node.Link(s.relay())
	if err := s.node.Netlink.LinkSetAlias(relay, ""); err != nil {
		t.Fatal(err)
	}
	if now := s.relay(); now != "no relay" {
		t.Fatalf("%s still has its alias", now)
	}
	s.node.Down(relay.Attrs().Name)
	add(t, other, ownerOf("c2"), want)
	if now := s.relay(); now != relay.Attrs().Name || s.node.Link(now).Attrs().Index != relay.Attrs().Index {
		t.Errorf("the relay was made anew: %s", now)
	}
	s.pod.Ping(s.peer.IPv4, 3)
	expectPings(t, "the collector", capture, 3)
	healthy(t, p, ownerOf("c1"), want)
	healthy(t, other, ownerOf("c2"), want)
	if is := sender(t, node); is.Missing || is.Taps != 2 {
		t.Errorf("the sender is %+v", is)
	}
	remove(t, p, ownerOf("c1"))
	remove(t, other, ownerOf("c2"))
	before.unchanged("after Remove")
}

// Kernels before 5.18 let a frame that is nearly empty conform, and the default of police
// is to end the classification then: neither this copy nor anybody else's rule would come.
func TestAPoliceActionSendsOnWhatConforms(t *testing.T) {
	within := func(b []byte, kind uint16) []byte { return maps.Collect(attributes(b))[kind] }
	list := (&mirred{counted: byPolice, to: 1}).actions(1).Serialize()[unix.SizeofRtAttr:]
	options := within(within(list, 1), nl.TCA_ACT_OPTIONS)
	if got := within(options, nl.TCA_POLICE_RESULT); len(got) != 4 || int32(number(got)) != actPipe {
		t.Errorf("the result of a packet that conforms is %v", got)
	}
}
