package mirror

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/podtap/podtap/internal/lab"
)

// follow keeps the taps of a node at their paths until the test ends, as podtapd does.
func follow(t *testing.T, n *Node) {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		var f Follower
		done <- n.WatchPaths(ctx, time.Hour, func() {
			if _, err := f.Round(n); err != nil {
				t.Error(err)
			}
		})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("watching ended with %v", err)
		}
	})
}

// The underlay becomes narrower, and wide again: copies fit it soon, while they are counted on.
func TestCopiesFollowThePathToTheCollector(t *testing.T) {
	needsEBPF(t)
	for _, v := range variants[1:3] {
		for how, set := range map[string]func(s *scene, mtu int){
			"the device's MTU": func(s *scene, mtu int) { s.node.MTU("eth0", mtu) },
			"a route's MTU": func(s *scene, mtu int) {
				for _, to := range []string{s.collector.IPv4() + "/32", s.collector.IPv6() + "/128"} {
					s.node.Run("ip", "route", "replace", to, "dev", "eth0", "mtu", fmt.Sprint(mtu))
				}
			},
		} {
			t.Run(v.name+"/"+how, func(t *testing.T) {
				s := newScene(t, 1450, 1500)
				local := s.node.Pod("local", 1450) // the path to it stays as it is
				lab.Settle(t, local.Space)
				s.node.Offloads("eth0", false, "tx-checksum-ip-generic") // so that segments are made here
				node, p := open(t, s.node, s.pod)
				watched, _ := open(t, s.node, s.pod)
				follow(t, watched)
				want := s.want(t, v.text, "direction: both")
				made := add(t, p, ownerOf("c1"), want)
				longest := func() int {
					t.Helper()
					copies, outer := s.watch(made, want), s.collector.Capture("eth0")
					defer copies.Stop()
					defer outer.Stop()
					if n := lab.Stream(t, s.pod.Space, local.Space, local.IPv4, 100_000); n != 100_000 {
						t.Fatalf("%d bytes came back", n)
					}
					_, longest := streams(t, copies.Settle(1), true)
					for _, f := range outer.Frames() {
						if isFragment(f) {
							t.Fatal("there is a fragment")
						}
					}
					return longest
				}
				whole := longest()
				for _, mtu := range []int{1400, 1300, 1500} {
					set(s, mtu)
					fit := mtu - overhead(want.VXLAN) + ethernetHeader
					waitFor(t, func() bool {
						list := listOf(t, node)
						at, err := node.trimAt(asLink(s.node.Link(made.Host.Name)))
						return err == nil && at.Path == fit && len(list.Taps) == 1
					})
					if n := longest(); n > fit || mtu == 1500 && n != whole || mtu < 1500 && n >= whole {
						t.Errorf("with an MTU of %d the longest copy has %d bytes, before %d", mtu, n, whole)
					}
				}
				healthy(t, p, ownerOf("c1"), want)
				if is := only(t, node); is.Trimmed == nil || is.Trimmed.Segments == 0 || is.Trimmed.Cut.Packets > 0 {
					t.Errorf("trimmed is %+v", is.Trimmed)
				}
				remove(t, p, ownerOf("c1"))
			})
		}
	}
}

// waitFor waits some seconds for something.
func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatal("it does not come about")
}
