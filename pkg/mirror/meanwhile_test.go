package mirror

import (
	"sync"
	"testing"

	"github.com/podtap/podtap/internal/lab"
)

// The last two users of a relay go at the same time: each has looked at what there
// is before the other has changed anything.
func TestOfTwoThatGoTogetherOneTakesTheRelay(t *testing.T) {
	s := newScene(t, 1430, 1500)
	second := s.node.Pod("second", 1430)
	lab.Settle(t, s.node.Space, s.pod.Space, second.Space)
	before := track(t, s.node.Space, s.pod.Space, second.Space)
	var nodes [2]*Node
	var pods [2]*Pod
	for i, at := range []*lab.Pod{s.pod, second} {
		nodes[i], pods[i] = open(t, s.node, at)
		add(t, pods[i], ownerOf([]string{"c1", "c2"}[i]), s.want(t, "vxlan: {vni: 1, remote: COLLECTOR4}", "direction: both"))
	}
	var looked, done sync.WaitGroup
	looked.Add(2)
	done.Add(2)
	for i := range nodes {
		var once sync.Once
		nodes[i].before = func(string) error {
			once.Do(func() {
				looked.Done()
				looked.Wait()
			})
			return nil
		}
		go func() {
			defer done.Done()
			if err := pods[i].Remove(ownerOf([]string{"c1", "c2"}[i])); err != nil {
				t.Error(err)
			}
		}()
	}
	done.Wait()
	before.unchanged("after both have gone")
}

// A sweep has visited a pod when taps are made there that are to go: it meets them
// again on the node, and takes the pod's side along.
func TestASweepTakesAlongWhatWasMadeWhileItLooked(t *testing.T) {
	s := newScene(t, 1430, 1500)
	node, p := open(t, s.node, s.pod)          // node-pod
	later := s.node.Pod("visited-later", 1430) // behind it in a list by name
	q := openPod(t, node, later)
	lab.Settle(t, s.node.Space, s.pod.Space, later.Space)
	before := track(t, s.node.Space, s.pod.Space, later.Space)
	// Of this one the node knows nothing, so that it is asked of in the pod.
	add(t, q, ownerOf("c2"), s.want(t, "vxlan: {vni: 7, remote: COLLECTOR4, placement: pod}", "direction: both"))
	var once sync.Once
	_, err := node.Sweep(func(Trace) bool {
		once.Do(func() {
			add(t, p, ownerOf("c1"), s.want(t, "vxlan: {vni: 1, remote: COLLECTOR4}", "direction: both"))
		})
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	before.unchanged("after the sweep")
}
