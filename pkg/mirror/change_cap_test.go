package mirror

import (
	"testing"
	"time"

	"github.com/podtap/podtap/pkg/tap"
)

// To put a queue in, or to take it away, the kernel needs a moment, in which a device drops
// what it is to send: those copies, and no others, are lost, and each is counted.
func TestACapThatComesOrGoesLosesNoCopyUncounted(t *testing.T) {
	s := newScene(t, 1450, 1500)
	node, p := open(t, s.node, s.pod)
	const count, turns = 4000, 10
	for _, v := range variants[:2] {
		t.Run(v.name, func(t *testing.T) {
			taps := []tap.Tap{s.want(t, v.text, "direction: egress"), s.want(t, v.text, "direction: egress, maxBitrate: 50G")}
			copies := s.watch(add(t, p, ownerOf("c1"), taps[0]), taps[0])
			defer copies.Stop()
			before, _, sentBefore := s.counted(t, node)
			inPod, atPeer := s.pod.UDP("[::]:5000"), s.peer.UDP("[::]:5000")
			defer inPod.Close()
			defer atPeer.Close()
			done := make(chan error, 1)
			go func() {
				_, err := sendPaced(inPod, atPeer, s.peer.IPv4, count, copies)
				done <- err
			}()
			for i := range turns {
				time.Sleep(20 * time.Millisecond)
				if _, err := p.Change(ownerOf("c1"), taps[i%2], taps[(i+1)%2]); err != nil {
					t.Errorf("change %d: %v", i, err)
				}
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			is, _, sent := s.counted(t, node)
			was, now := direction(t, before.Counters, tap.Egress), direction(t, is.Counters, tap.Egress)
			copied, dropped := now.Copied.Packets-was.Copied.Packets, now.Dropped[DropMirror].Packets-was.Dropped[DropMirror].Packets
			if interfaces := sent.Packets - sentBefore.Packets; copied+dropped != interfaces || dropped > count/2 {
				t.Errorf("of %d packets %d were copied and %d dropped", interfaces, copied, dropped)
			}
			if got := len(datagrams(copies.Settle(int(copied) - 50))); got > int(copied) || got < int(copied)-50 {
				t.Errorf("%d datagrams arrived, of %d copies", got, copied)
			}
			t.Logf("%d copies were dropped in %d changes", dropped, turns)
			remove(t, p, ownerOf("c1"))
		})
	}
}
