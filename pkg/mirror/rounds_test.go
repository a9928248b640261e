package mirror

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/tap"
)

// Attributes of a dump of actions, from linux/rtnetlink.h.
const (
	dumpedActions  = 1 // TCA_ROOT_TAB: the actions of one message
	sizeofDumpHead = 4 // struct tcamsg
)

// mirreds counts the mirred actions of a namespace, of whatever rule or of none.
func mirreds(t *testing.T, s *lab.Space) int {
	t.Helper()
	count := 0
	s.Do(func() error {
		n := &namespace{}
		var err error
		if n.socket, err = openSocket(); err != nil {
			return err
		}
		defer n.socket.close()
		table := nl.NewRtAttr(dumpedActions, nil)
		table.AddRtAttr(1, nil).AddRtAttr(nl.TCA_ACT_KIND, nl.ZeroTerminated("mirred"))
		_, err = query(n, unix.RTM_GETACTION, unix.NLM_F_DUMP, func(m []byte) (struct{}, bool, error) {
			for kind, value := range attributes(m[min(sizeofDumpHead, len(m)):]) {
				if kind == dumpedActions {
					for range attributes(value) {
						count++
					}
				}
			}
			return struct{}{}, false, nil
		}, rawMessage(binary.NativeEndian.AppendUint32(nil, unix.AF_UNSPEC)), table)
		return err
	})
	return count
}

// rawMessage is the head of a netlink request that the library has no type for.
type rawMessage []byte

func (m rawMessage) Len() int          { return len(m) }
func (m rawMessage) Serialize() []byte { return m }

// inUse is what this process holds of what could run out.
type inUse struct{ descriptors, threads, goroutines int }

func using(t *testing.T) inUse {
	t.Helper()
	count := func(dir string) int {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	return inUse{count("/proc/self/fd"), count("/proc/self/task"), runtime.NumGoroutine()}
}

// threadSlack is how many threads more the Go runtime may have made for itself.
const threadSlack = 8

// A node's agent, and one day's pods: what a round leaves, five hundred show.
func TestFiveHundredRoundsLeakNothing(t *testing.T) {
	const warmUp = 10
	rounds := 500
	if testing.Short() {
		rounds = 50
		t.Logf("-short: %d rounds, not five hundred", rounds)
	}
	s := newScene(t, 1450, 1500)
	var taps []tap.Tap
	for _, v := range variants {
		taps = append(taps, s.want(t, v.text, "direction: both"))
	}
	taps = append(taps, parse(t, "{%s}", wireText))
	o := ownerOf("c1")
	round := func(i int) (tapped int) {
		t.Helper()
		var node *Node
		s.node.Do(func() (err error) { node, err = OpenNode(); return err })
		defer node.Close()
		unlock, err := LockPod(o.ContainerID)
		if err != nil {
			t.Fatal(err)
		}
		defer unlock()
		p, err := node.OpenPod(s.pod.Path())
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		add(t, p, o, taps[i%len(taps)])
		if i < warmUp {
			tapped = mirreds(t, s.pod.Space)
		}
		remove(t, p, o)
		return tapped
	}
	track := track(t, s.node.Space, s.pod.Space)
	for i := range warmUp { // the runtime's own threads, and what is opened once
		if n := round(i); n == 0 && taps[i%len(taps)].Wire == nil {
			t.Fatal("no mirred action is seen while the pod is tapped, so a leak would not be either")
		}
	}
	runtime.GC()
	before, begin := using(t), time.Now()
	for i := range rounds {
		round(i)
	}
	t.Logf("%v a round", (time.Since(begin) / time.Duration(rounds)).Round(time.Millisecond))
	track.unchanged(fmt.Sprintf("after %d rounds", rounds))
	// Rules, and with them their actions, and threads end some time after they are
	// deleted.
	var now inUse
	inPod, onNode := 0, 0
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		now, inPod, onNode = using(t), mirreds(t, s.pod.Space), mirreds(t, s.node.Space)
		if now.descriptors == before.descriptors && now.goroutines == before.goroutines &&
			now.threads <= before.threads+threadSlack && inPod == 0 && onNode == 0 {
			return
		}
	}
	t.Errorf("after %d rounds there are %+v, before %+v; and %d mirred actions in the pod, %d on the node", rounds, now, before, inPod, onNode)
}
