package drivers

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/podtap/podtap/internal/lab"
)

// The kernels of pod and node send packets of their own (ARP, IGMP, neighbour
// discovery), which are copied as well. What a test sends is counted by its kind.
const (
	arp  = -1
	icmp = 1
	udp  = 17
)

// kind is ARP, or the protocol that an IPv4 packet carries; 0 of any other.
func kind(f lab.Frame) int {
	const header = 14
	if len(f.Data) < header+20 {
		return 0
	}
	switch binary.BigEndian.Uint16(f.Data[header-2:]) {
	case 0x0806:
		return arp
	case 0x0800:
		return int(f.Data[header+9])
	}
	return 0
}

// of are the frames of a kind, in their order.
func of(want int, frames []lab.Frame) []lab.Frame {
	return slices.DeleteFunc(slices.Clone(frames), func(f lab.Frame) bool { return kind(f) != want })
}

// come are the frames of a kind that have come to a capture after a number of others.
// It waits for at least count of them, and for more than that for a while.
func come(c *lab.Capture, after, want, count int) []lab.Frame {
	const most = 5 * time.Second
	for end := time.Now().Add(most); len(of(want, c.Frames()[after:])) < count && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
	return of(want, c.Settle(0)[after:])
}

// pinged has a pod ping its gateway, and insists that each capture gets a copy of each
// request and each reply, in their order, and no other of ICMP.
func (n *node) pinged(pod *lab.Space, captures ...*lab.Capture) {
	n.t.Helper()
	const count = 5
	before := make([]int, len(captures))
	for i, c := range captures {
		before[i] = c.Len() // all that was counted before has come
	}
	if answered := pod.Ping(gateway, count); answered != count {
		n.t.Errorf("%d of %d pings of %s were answered", answered, count, pod.Name)
	}
	mac := pod.Link("eth0").Attrs().HardwareAddr
	for i, c := range captures {
		frames := come(c, before[i], icmp, 2*count)
		if len(frames) != 2*count {
			n.t.Errorf("capture %d has %d copies of %s's packets, want %d", i, len(frames), pod.Name, 2*count)
			continue
		}
		for j, f := range frames {
			if fromPod := bytes.Equal(f.SourceMAC(), mac); fromPod != (j%2 == 0) {
				n.t.Errorf("copy %d of capture %d is from %s; the pod has %s", j, i, f.SourceMAC(), mac)
			}
			if want := fmt.Appendf(nil, "podtap lab %d", 1+j/2); !bytes.HasSuffix(f.Data, want) {
				n.t.Errorf("copy %d of capture %d ends in %q, want %q", j, i, f.Data[max(0, len(f.Data)-len(want)):], want)
			}
		}
	}
}

// untouched insists that nobody taps a pod: it has no other device and no rule.
func (n *node) untouched(pod *lab.Space) {
	n.t.Helper()
	s := snap(n.t, pod)
	if devices := s.having("device "); len(devices) != 2 || !pod.Has("eth0") || !pod.Has("lo") {
		n.t.Errorf("%s has %q, want lo and eth0 alone", pod.Name, devices)
	}
	for _, line := range append(s.having("filter on "), s.having("qdisc clsact")...) {
		n.t.Errorf("%s has %s", pod.Name, line)
	}
	for _, line := range snap(n.t, n.host.Space).having(" pod=default/" + strings.TrimPrefix(pod.Name, "cni-")) {
		n.t.Errorf("the node has %s", line)
	}
}

func TestAPodIsTappedFromItsFirstPacket(t *testing.T) {
	both(t, func(t *testing.T, name string) {
		n := newNode(t, name, network{})
		p, space := n.sandbox("web", `[{device: near, veth: {hostInterface: sensor0}},
			{device: far, vxlan: {vni: 100, remote: `+n.collector.IPv4()+`}}]`)
		n.add(p)
		near := n.host.Capture("sensor0")
		n.pinged(space, near, n.copies)

		// Who pings first asks for the gateway's MAC.
		mac := space.Link("eth0").Attrs().HardwareAddr
		if asks := of(arp, near.Frames()); len(asks) == 0 || !bytes.Equal(asks[0].SourceMAC(), mac) {
			t.Errorf("of the pod's %s first packet, a request by ARP, there is no copy among %d", mac, len(near.Frames()))
		}

		const burst, size = 200, 600
		before := n.copies.Len()
		from, to := space.UDP("0.0.0.0:7001"), n.host.UDP(gateway+":7001")
		if got := lab.Burst(t, from, to, gateway+":7001", burst, size, n.copies); got != burst {
			t.Errorf("%d of %d datagrams arrived", got, burst)
		}
		frames := come(n.copies, before, udp, burst)
		if len(frames) != burst {
			t.Errorf("the collector has %d copies of %d datagrams", len(frames), burst)
		}
		for i, f := range frames {
			if !bytes.HasSuffix(f.Data, lab.Payload(i, size)) || f.VNI != vni {
				t.Fatalf("copy %d, of VNI %d, is not of datagram %d", i, f.VNI, i)
			}
		}

		n.remove(p)
		n.nothingIsLeft(space)
	})
}

func TestPodsShareACollector(t *testing.T) {
	both(t, func(t *testing.T, name string) {
		n := newNode(t, name, network{})
		one, first := n.sandbox("one", n.far())
		two, second := n.sandbox("two", n.far())
		n.add(one)
		n.add(two)
		if relays := n.relays(); len(relays) != 1 {
			t.Errorf("two pods have %d relays to one collector: %q", len(relays), relays)
		}
		n.pinged(first, n.copies)
		n.pinged(second, n.copies)
		n.remove(one)
		n.pinged(second, n.copies)
		n.remove(two)
		n.nothingIsLeft(first, second)
	})
}

func TestAPodWithoutTapsIsLeftAlone(t *testing.T) {
	both(t, func(t *testing.T, name string) {
		n := newNode(t, name, network{})
		for _, given := range []map[string]string{nil, {}, {"another": "value"}, {"podtap.io/taps": "[]"}} {
			p, space := n.sandbox("plain", "")
			p.Annotations = given
			if o := n.add(p); len(o.Result.Interfaces) != 3 {
				t.Errorf("with %v the result has %v, want bridge's three", given, o.Result.Interfaces)
			}
			n.untouched(space)
			if marked := snap(t, n.host.Space).having("podtap"); len(marked) != 0 {
				t.Errorf("with %v the node has %q", given, marked)
			}
			n.remove(p)
			n.nothingIsLeft(space)
			space.Destroy()
		}
	})
}

// All pods of a network may be tapped, whatever their authors say.
func TestTheNetworksOwnTapsNeedNoAnnotation(t *testing.T) {
	both(t, func(t *testing.T, name string) {
		n := newNode(t, name, network{taps: `[{"device":"every","veth":{"hostInterface":"sensor0"}}]`})
		p, space := n.sandbox("plain", "")
		n.add(p)
		n.pinged(space, n.host.Capture("sensor0"))
		n.remove(p)
		n.nothingIsLeft(space)
	})
}
