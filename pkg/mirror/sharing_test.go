package mirror

import (
	"fmt"
	"testing"

	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/tap"
)

// expectPings fails where a collector did not get count whole requests and
// replies.
func expectPings(t *testing.T, who string, c *lab.Capture, count int) {
	t.Helper()
	if got := echoes(c.Settle(2 * count)); got.requests != count || got.replies != count || got.broken != 0 {
		t.Errorf("%s got %+v; want %d requests and replies", who, got, count)
	}
}

func TestTwoPodsOfANodeSendOneVNIToOneCollector(t *testing.T) {
	for _, placement := range []tap.Placement{tap.PlacementNode, tap.PlacementPod} {
		t.Run(string(placement), func(t *testing.T) {
			s := newScene(t, 1450, 1500)
			second := s.node.Pod("second", 1450)
			lab.Settle(t, s.node.Space, second.Space)
			_, p := open(t, s.node, s.pod)
			_, q := open(t, s.node, second)
			before := track(t, s.node.Space, s.pod.Space, second.Space)
			want := s.want(t, variants[1].text, "direction: both")
			want.VXLAN.Placement = placement
			capture := s.collector.Collect("[::]:4789")
			add(t, p, ownerOf("c1"), want)
			add(t, q, ownerOf("c2"), want)
			s.pod.Ping(s.peer.IPv4, 3)
			second.Ping(s.peer.IPv4, 3)
			expectPings(t, "the collector", capture, 6)
			remove(t, p, ownerOf("c1"))
			healthy(t, q, ownerOf("c2"), want)
			second.Ping(s.peer.IPv4, 3)
			expectPings(t, "the collector, with one tap gone,", capture, 9)
			remove(t, q, ownerOf("c2"))
			before.unchanged("after both are removed")
		})
	}
}

func TestACollectorOnThePodsOwnNodeGetsEverything(t *testing.T) {
	s := newScene(t, 1450, 1500)
	collector := s.node.Pod("collector", 1450)
	_, p := open(t, s.node, s.pod)
	for name, where := range map[string]struct {
		at     *lab.Space
		remote string
	}{
		"in a pod over IPv4":      {collector.Space, collector.IPv4},
		"in a pod over IPv6":      {collector.Space, collector.IPv6},
		"on the node itself":      {s.node.Space, s.node.IPv4()},
		"on the node by its IPv6": {s.node.Space, s.node.IPv6()},
	} {
		for _, placement := range []tap.Placement{tap.PlacementNode, tap.PlacementPod} {
			t.Run(fmt.Sprintf("%s, placement %s", name, placement), func(t *testing.T) {
				if where.at == s.node.Space && !lab.KernelHas(6, 5) {
					t.Skip("Linux 6.5 is the first that lets a VXLAN device send to its own host's sockets (nolocalbypass)")
				}
				want := parse(t, "{vxlan: {vni: 7, remote: %q, placement: %s, oversize: fragment}}", where.remote, placement)
				capture := where.at.Collect("[::]:4789")
				defer capture.Stop()
				add(t, p, ownerOf("c1"), want)
				s.pod.Ping(s.peer.IPv4, 3)
				expectPings(t, "the collector", capture, 3)
				remove(t, p, ownerOf("c1"))
			})
		}
	}
}

func TestSixteenTapsOfOnePodEachGetEverything(t *testing.T) {
	s := newScene(t, 1450, 1500)
	_, p := open(t, s.node, s.pod)
	before := track(t, s.node.Space, s.pod.Space)
	var taps []tap.Tap
	var captures []*lab.Capture
	for i := range tap.MaxTaps {
		want := parse(t, "{device: tap%d, vxlan: {vni: %d, remote: %s, port: %d}}", i, 100+i, s.collector.IPv4(), 5000+i)
		if i%4 == 0 {
			want = parse(t, "{device: tap%d, veth: {}}", i)
		}
		made := add(t, p, ownerOf("c1"), want)
		taps = append(taps, want)
		captures = append(captures, s.watch(made, want))
	}
	s.pod.Ping(s.peer.IPv4, 3)
	for i, c := range captures {
		expectPings(t, fmt.Sprintf("tap %d", i), c, 3)
	}
	healthy(t, p, ownerOf("c1"), taps...)
	remove(t, p, ownerOf("c1"))
	before.unchanged("after Remove")
}

func TestTapsOfTwoNetworksOnOnePodLeaveEachOtherAlone(t *testing.T) {
	for _, firstGoesFirst := range []bool{true, false} {
		t.Run(fmt.Sprintf("the first goes first: %v", firstGoesFirst), func(t *testing.T) {
			s := newScene(t, 1450, 1500)
			second := s.network.Host("second")
			_, p := open(t, s.node, s.pod)
			before := track(t, s.node.Space, s.pod.Space)
			owners := []Owner{ownerOf("c1"), {Source: SourceCNI, Network: "other", ContainerID: "c1", IfName: "net1"}}
			taps := []tap.Tap{
				parse(t, "{device: mirror, vxlan: {vni: 1, remote: %s}}", s.collector.IPv4()),
				parse(t, "{device: net1, vxlan: {vni: 1, remote: %s}}", second.IPv4()),
			}
			captures := []*lab.Capture{s.collector.Collect("[::]:4789"), second.Collect("[::]:4789")}
			for i := range taps {
				add(t, p, owners[i], taps[i])
			}
			s.pod.Ping(s.peer.IPv4, 3)
			expectPings(t, "the first collector", captures[0], 3)
			expectPings(t, "the second collector", captures[1], 3)
			goes, stays := 0, 1
			if !firstGoesFirst {
				goes, stays = 1, 0
			}
			remove(t, p, owners[goes])
			healthy(t, p, owners[stays], taps[stays])
			s.pod.Ping(s.peer.IPv4, 3)
			expectPings(t, "the collector that is left", captures[stays], 6)
			expectPings(t, "the collector that is not", captures[goes], 3)
			// The clsact that the first made goes with the last.
			remove(t, p, owners[stays])
			before.unchanged("after both are removed")
		})
	}
}

func TestTheClustersOwnVXLANIsNotDisturbed(t *testing.T) {
	for name, overlay := range map[string][2]int{ // id, 0 for external mode, and port
		"external on 4789": {0, 4789}, "an id on 4789": {1, 4789}, "external on 8472": {0, 8472},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, 1450, 1500)
			s.node.VXLAN("overlay", overlay[0], overlay[1])
			_, p := open(t, s.node, s.pod)
			before := track(t, s.node.Space)
			capture := s.collector.Collect("[::]:4789")
			for _, placement := range []tap.Placement{tap.PlacementNode, tap.PlacementPod} {
				want := parse(t, "{device: %s, vxlan: {vni: 100, remote: %s, placement: %s}}", placement, s.collector.IPv4(), placement)
				add(t, p, ownerOf("c1"), want)
			}
			s.pod.Ping(s.peer.IPv4, 3)
			expectPings(t, "the collector of both", capture, 6)
			remove(t, p, ownerOf("c1"))
			before.unchanged("after Remove")
		})
	}
}
