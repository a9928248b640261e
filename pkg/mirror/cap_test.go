package mirror

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/tap"
)

// However fast the pod sends, its copies have the cap's bitrate, also a changed one's, and
// the pod loses nothing.
func TestCopiesHaveTheCapsBitrateAndThePodKeepsItsOwn(t *testing.T) {
	s := newScene(t, 1430, 1500)
	node, p := open(t, s.node, s.pod)
	for _, v := range []int{0, 1, 3} { // a veth, and VXLAN of each placement
		t.Run(variants[v].name, func(t *testing.T) {
			want := s.want(t, variants[v].text, "direction: egress, maxBitrate: 10M")
			capture := s.watch(add(t, p, ownerOf("c1"), want), want)
			defer capture.Stop()
			healthy(t, p, ownerOf("c1"), want)
			before := s.settled(t, node, capture)
			flow := s.flow(t)
			atRate(t, capture, want.MaxBitrate)
			faster := want
			faster.MaxBitrate = 20_000_000
			if _, err := p.Change(ownerOf("c1"), want, faster); err != nil {
				t.Errorf("change the cap: %v", err)
			}
			healthy(t, p, ownerOf("c1"), faster)
			atRate(t, capture, faster.MaxBitrate)
			flow()
			now := s.settled(t, node, capture)
			c := direction(t, before.Counters, tap.Egress).until(direction(t, now.Counters, tap.Egress))
			if interfaces := now.interfaces[tap.Egress] - before.interfaces[tap.Egress]; c.copied+c.dropped != interfaces || c.dropped == 0 {
				t.Errorf("%+v; the interface counted %d", c, interfaces)
			}
			if now.MaxBitrate != faster.MaxBitrate || now.Capped-before.Capped != c.dropped || now.Lost != before.Lost {
				t.Errorf("listed are a cap of %s, %d capped and %d lost; dropped were %d", now.MaxBitrate, now.Capped, now.Lost, c.dropped)
			}
			n := now.copies - before.copies
			// A full bucket is more than an ordinary user's capture holds at once.
			if n != int(c.copied) && (lab.Privileged() || n > int(c.copied) || n < int(c.copied)*9/10) {
				t.Errorf("there are %d copies; counted were %d", n, c.copied)
			}
			remove(t, p, ownerOf("c1"))
		})
	}
}

// flow has the pod send to the peer as fast as that receives, until what it returns is
// called; that fails where a datagram was lost, or the flow was too slow to show anything.
func (s *scene) flow(t *testing.T) (end func()) {
	t.Helper()
	inPod, atPeer := s.pod.UDP("[::]:5000"), s.peer.UDP("[::]:5000")
	const size = 1200
	var enough atomic.Bool
	var sent, arrived int
	begin, done := time.Now(), make(chan struct{})
	go func() {
		defer close(done)
		sent, arrived = lab.Flow(t, inPod, atPeer, fmt.Sprintf("[%s]:5000", mapped(s.peer.IPv4)), 1<<30, size, enough.Load)
	}()
	stop := func() {
		enough.Store(true)
		<-done
		_ = inPod.Close()
		_ = atPeer.Close()
	}
	t.Cleanup(stop)
	return func() {
		t.Helper()
		stop()
		bitrate := 8 * size * float64(sent) / time.Since(begin).Seconds()
		t.Logf("the flow had %.0f Mbit/s", bitrate/1e6)
		if arrived != sent || bitrate < 60e6 {
			t.Errorf("%d of %d datagrams arrived, at %.0f Mbit/s", arrived, sent, bitrate/1e6)
		}
	}
}

// atRate fails where copies do not come at a bitrate, once the token bucket is empty.
func atRate(t *testing.T, capture *lab.Capture, want tap.Bitrate) {
	t.Helper()
	const begin, window = 500 * time.Millisecond, 1500 * time.Millisecond
	time.Sleep(begin)
	first, from := capture.Len(), time.Now()
	time.Sleep(window)
	bytes := 0
	took, frames := time.Since(from), capture.Frames()
	for _, f := range frames[first:] {
		bytes += len(f.Data)
	}
	got := 8 * float64(bytes) / took.Seconds()
	t.Logf("copies have %.2f Mbit/s, of %s", got/1e6, want)
	if off := got/float64(want) - 1; off < -0.05 || off > 0.05 {
		t.Errorf("copies have %.2f Mbit/s; the cap is %s", got/1e6, want)
	}
}

// A super-packet that exceeds the cap is no reason to have the pod wait, or send again.
func TestACapCostsThePodsTCPNothing(t *testing.T) {
	s := newScene(t, 1430, 1500)
	node, p := open(t, s.node, s.pod)
	for _, v := range []int{0, 1, 3} {
		t.Run(variants[v].name, func(t *testing.T) {
			want := s.want(t, variants[v].text, "direction: both, maxBitrate: 1M")
			add(t, p, ownerOf("c1"), want)
			original := s.pod.Capture("eth0")
			defer original.Stop()
			const size = 2 << 20
			begin := time.Now()
			for _, to := range []string{s.peer.IPv4, s.peer.IPv6} {
				if n := lab.Stream(t, s.pod.Space, s.peer.Space, to, size); n != size {
					t.Errorf("%d of %d bytes came back", n, size)
				}
			}
			took := time.Since(begin)
			if _, longest := streamed(original.Settle(1)); lab.Privileged() && longest < 3000 {
				t.Errorf("the longest packet had %d bytes, and shows nothing", longest)
			}
			// At the cap's bitrate the streams would take a minute.
			is := only(t, node)
			dropped := direction(t, is.Counters, tap.Egress).Dropped[DropMirror].Packets + direction(t, is.Counters, tap.Ingress).Dropped[DropMirror].Packets
			if took > 5*time.Second || dropped == 0 || is.Capped != dropped {
				t.Errorf("the streams took %v, and of their copies %d were dropped, %d by the cap", took, dropped, is.Capped)
			}
			remove(t, p, ownerOf("c1"))
		})
	}
}
