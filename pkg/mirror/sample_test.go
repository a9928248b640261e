package mirror

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/tap"
)

// One packet in so many is copied, at random; what is not is counted, so that all together
// are what the interface counts.
func TestOnePacketInSoManyIsCopied(t *testing.T) {
	count := 160_000
	if testing.Short() {
		count = 16_000
		t.Logf("-short: %d packets, not 160,000", count)
	}
	s := newScene(t, 1430, 1500)
	node, p := open(t, s.node, s.pod)
	for _, v := range variants[:2] {
		for _, filter := range []string{"", "udp dst port 5000"} {
			t.Run(v.name+"/"+filter, func(t *testing.T) {
				want := s.want(t, v.text, "direction: both, sampleRate: 16")
				want.Filter = filter
				count := count
				if filter != "" {
					count = 16_000
				}
				// A sound die fails once in 370 times, by chance; twice in 137,000.
				for range 2 {
					if s.samples(t, node, p, want, count) {
						return
					}
				}
				t.Error("the sample is off by more than three standard deviations, twice")
			})
		}
	}
}

// samples taps the pod, has it send and receive so many datagrams together, and says whether
// the sample is as large as chance allows. The counters are exact.
func (s *scene) samples(t *testing.T, node *Node, p *Pod, want tap.Tap, count int) bool {
	t.Helper()
	capture := s.watch(add(t, p, ownerOf("c1"), want), want)
	defer capture.Stop()
	healthy(t, p, ownerOf("c1"), want)
	inPod, atPeer, others := s.pod.UDP("[::]:5000"), s.peer.UDP("[::]:5000"), s.peer.UDP("[::]:6000")
	defer inPod.Close()
	defer atPeer.Close()
	defer others.Close()
	before := s.settled(t, node, capture)
	toPeer, toPod := fmt.Sprintf("[%s]:5000", mapped(s.peer.IPv4)), fmt.Sprintf("[%s]:5000", mapped(s.pod.IPv4))
	_, there := lab.Flow(t, inPod, atPeer, toPeer, count*5/8, 64, never)
	_, back := lab.Flow(t, atPeer, inPod, toPod, count*3/8, 64, never)
	if there+back != count {
		t.Fatalf("%d of %d datagrams arrived", there+back, count)
	}
	const passed = 1000
	lab.Flow(t, inPod, others, fmt.Sprintf("[%s]:6000", mapped(s.peer.IPv4)), passed, 64, never)
	now := s.settled(t, node, capture)
	population, copied := uint64(0), uint64(0)
	for d, interfaces := range now.interfaces {
		c := direction(t, before.Counters, d).until(direction(t, now.Counters, d))
		if interfaces -= before.interfaces[d]; c.passedOver+c.sampledOut+c.copied+c.dropped != interfaces || c.dropped != 0 {
			t.Errorf("%s: %+v; the interface counted %d", d, c, interfaces)
		}
		if want.Filter != "" && d == tap.Egress && c.passedOver < passed {
			t.Errorf("only %d packets were passed over", c.passedOver)
		}
		population += c.sampledOut + c.copied
		copied += c.copied
	}
	if n := now.copies - before.copies; n != int(copied) {
		t.Errorf("there are %d copies; counted were %d", n, copied)
	}
	remove(t, p, ownerOf("c1"))
	rate := float64(want.SampleRate)
	expected, deviation := float64(population)/rate, math.Sqrt(float64(population)/rate*(1-1/rate))
	t.Logf("%d of %d packets were copied; expected are %.0f ± %.0f", copied, population, expected, 3*deviation)
	return math.Abs(float64(copied)-expected) <= 3*deviation
}

// reading is what there is of a pod's only tap at one moment.
type reading struct {
	ListedTap
	interfaces map[tap.Direction]uint64 // packets that the tapped interface has counted
	copies     int                      // that have arrived
}

// settled reads what there is when nothing moves: the kernel sends a little of its own now
// and then.
func (s *scene) settled(t *testing.T, node *Node, capture *lab.Capture) (r reading) {
	t.Helper()
	for range 10 {
		r.copies = len(capture.Settle(0))
		is, received, sent := s.counted(t, node)
		r.ListedTap, r.interfaces = is, map[tap.Direction]uint64{tap.Ingress: received.Packets, tap.Egress: sent.Packets}
		if capture.Len() == r.copies {
			return r
		}
	}
	t.Fatal("the copies do not come to rest")
	return
}

// counts are the packets that a direction has counted between two readings.
type counts struct{ passedOver, sampledOut, copied, dropped uint64 }

func (c Counters) until(later Counters) counts {
	of := func(a *Amount) uint64 {
		if a == nil {
			return 0
		}
		return a.Packets
	}
	return counts{of(later.PassedOver) - of(c.PassedOver), of(later.SampledOut) - of(c.SampledOut),
		later.Copied.Packets - c.Copied.Packets, later.Dropped[DropMirror].Packets - c.Dropped[DropMirror].Packets}
}

// What samples is known by its program, to the packet up to 65536. Above that neighbouring
// rates have the same program: 32 random bits do not tell one in 999,999 from one in a million.
func TestAProgramTellsTheRateThatItSamplesWith(t *testing.T) {
	end := matchAll()
	check := func(rate uint32) {
		program := sampled(end, rate)
		rest, ok := unsampled(program, rate)
		if !ok || !slices.Equal(rest, end) {
			t.Fatalf("rate %d: without the dice it is %v, %t", rate, rest, ok)
		}
		got := rateOf(program)
		if _, same := unsampled(program, got); !same || rate <= 65536 && got != rate {
			t.Fatalf("rate %d is read as %d", rate, got)
		}
		if off := math.Abs(float64(program[1].K)*float64(rate)/(1<<32) - 1); off > 0.0002 {
			t.Fatalf("rate %d is kept to %f", rate, off)
		}
	}
	for rate := uint32(2); rate <= 70_000; rate++ {
		check(rate)
	}
	for rate := uint32(70_001); rate < tap.MaxSampleRate; rate += 997 {
		check(rate)
	}
	check(tap.MaxSampleRate)
}

// Nothing else is taken for a program that samples, nor one rate for a slightly other one.
func TestWhatDoesNotSampleHasNoRate(t *testing.T) {
	program := sampled(matchAll(), 16)
	for rate := range uint32(40) {
		if rest, ok := unsampled(program, rate); ok != (rate == 16) {
			t.Errorf("rate %d: %v, %t", rate, rest, ok)
		}
		if rest, ok := unsampled(matchAll(), rate); ok != (rate <= 1) || ok && !slices.Equal(rest, matchAll()) {
			t.Errorf("a program that takes all, rate %d: %v, %t", rate, rest, ok)
		}
	}
	if got := rateOf(matchAll()); got != 1 {
		t.Errorf("a program that takes all has rate %d", got)
	}
	for i := range dice(16) {
		other := slices.Clone(program)
		other[i].Op ^= 0x40
		if got := rateOf(other); got != 1 {
			t.Errorf("with another instruction %d the rate is %d", i, got)
		}
		if got := rateOf(program[:i]); got != 1 {
			t.Errorf("of its first %d instructions the rate is %d", i, got)
		}
	}
	// Somebody else's, which take no packet, all but one in 2^32, and two in three.
	for _, threshold := range []uint32{0, 1<<32 - 1, 2863311531} {
		theirs := slices.Clone(program)
		if theirs[1].K = threshold; rateOf(theirs) != 1 {
			t.Errorf("a program that takes %d packets in 2^32 has the rate %d", threshold, rateOf(theirs))
		}
	}
}
