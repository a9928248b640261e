package mirror

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket/layers"

	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/tap"
)

const (
	changes       = 100
	whileChanging = 60_000 // packets
)

// A tap that is changed a hundred times while sixty thousand packets pass copies each of
// them once, by what was in force.
func TestEachPacketIsCopiedOnceWhileTheTapIsChanged(t *testing.T) {
	needsEBPF(t)
	every := func(more ...string) func(int) string {
		return func(i int) string { return more[i%len(more)] }
	}
	for name, c := range map[string]struct {
		variants []int // of variants
		more     func(i int) string
	}{
		"filter":           {[]int{0, 1, 2, 3}, every(`filter: udp`, `filter: "udp port 5000 or icmp"`, `filter: "not tcp"`)},
		"filter, and none": {[]int{0, 1}, every(`filter: udp`, `direction: egress`)},
		"cut":              {[]int{0, 1, 2}, every(`snapLength: 128`, `snapLength: 96`, `direction: egress`, `snapLength: 200`)},
		"cap":              {[]int{0, 1, 3}, every(`maxBitrate: 50G`, `maxBitrate: 60G`, `maxBitrate: 100G`)},
		"all":              {[]int{1}, every(`maxBitrate: 50G`, `maxBitrate: 60G, filter: udp, snapLength: 96`, `maxBitrate: 50G, snapLength: 128`)},
	} {
		for _, v := range c.variants {
			t.Run(name+"/"+variants[v].name, func(t *testing.T) {
				s := newScene(t, 1450, 1500)
				node, p := open(t, s.node, s.pod)
				taps := make([]tap.Tap, changes+1)
				for i := range taps {
					taps[i] = s.want(t, variants[v].text, "device: mirror, "+c.more(i))
					taps[i].Direction = tap.Egress
				}
				copies := s.watch(add(t, p, ownerOf("c1"), taps[0]), taps[0])
				s.changing(t, p, taps, copies)
				s.copiedOnce(t, copies, taps)
				healthy(t, p, ownerOf("c1"), taps[changes])
				if is := only(t, node); len(is.Counters) != 1 || len(is.Counters[0].Dropped) > 0 || is.Lost+is.Capped > 0 {
					t.Errorf("the counters are %+v", is)
				}
				remove(t, p, ownerOf("c1"))
			})
		}
	}
}

// Each packet goes to the one collector or to the other.
func TestEachPacketGoesToOneCollectorWhileTheDestinationChanges(t *testing.T) {
	needsEBPF(t)
	s := newScene(t, 1450, 1500)
	node, p := open(t, s.node, s.pod)
	before := track(t, s.node.Space, s.pod.Space)
	taps := make([]tap.Tap, changes+1)
	for i := range taps {
		taps[i] = s.want(t, variants[1+i%2].text, "direction: egress")
		taps[i].VXLAN.VNI = uint32(100 + i%3)
	}
	add(t, p, ownerOf("c1"), taps[0])
	copies := s.watch(Made{}, taps[0])
	s.changing(t, p, taps, copies)
	s.copiedOnce(t, copies, taps)
	of := map[uint32]int{}
	for _, f := range copies.Frames() {
		of[f.VNI]++
	}
	if len(of) != 3 || of[100] < 1000 || of[101] < 1000 || of[102] < 1000 {
		t.Errorf("copies by VNI: %v", of)
	}
	healthy(t, p, ownerOf("c1"), taps[changes])
	if list := listOf(t, node); len(list.Senders) != 1 {
		t.Errorf("there are relays without users: %+v", list.Senders)
	}
	remove(t, p, ownerOf("c1"))
	before.unchanged("after Remove")
}

// changing changes a tap again and again, while the pod sends.
func (s *scene) changing(t *testing.T, p *Pod, taps []tap.Tap, copies *lab.Capture) {
	t.Helper()
	inPod, atPeer := s.pod.UDP("[::]:5000"), s.peer.UDP("[::]:5000")
	defer inPod.Close()
	defer atPeer.Close()
	done := make(chan error, 1)
	var sent int
	go func() {
		var err error
		sent, err = sendPaced(inPod, atPeer, s.peer.IPv4, whileChanging, copies)
		done <- err
	}()
	const each = whileChanging / (changes + 1)
	for i := 1; i <= changes; i++ {
		// The changes are spread over the packets.
		for deadline := time.Now().Add(20 * time.Second); copies.Len() < i*each && time.Now().Before(deadline) && len(done) == 0; {
			time.Sleep(time.Millisecond)
		}
		if _, err := p.Change(ownerOf("c1"), taps[i-1], taps[i]); err != nil {
			t.Errorf("change %d: %v", i, err)
		}
	}
	if err := <-done; err != nil || sent != whileChanging {
		t.Fatalf("%d datagrams of %d were sent and received: %v", sent, whileChanging, err)
	}
}

// sendPaced sends datagrams, never more than a window ahead of the receiver and the copies.
func sendPaced(from, to *net.UDPConn, address string, count int, copies *lab.Capture) (int, error) {
	const window, size = 32, 300
	target, b := &net.UDPAddr{IP: net.ParseIP(address), Port: 5000}, make([]byte, 2048)
	for n := 0; n < count; n += window {
		last := min(n+window, count)
		for i := n; i < last; i++ {
			if _, err := from.WriteTo(lab.Payload(i, size), target); err != nil {
				return i, err
			}
		}
		for i := n; i < last; i++ {
			if err := to.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
				return i, err
			}
			if _, _, err := to.ReadFrom(b); err != nil {
				return i, err
			}
		}
		// A copy that is lost is for the judge to find: nobody waits for it for long.
		for deadline := time.Now().Add(20 * time.Millisecond); copies.Len() < last && time.Now().Before(deadline); {
			time.Sleep(50 * time.Microsecond)
		}
	}
	return count, nil
}

// copiedOnce fails where a datagram was not copied once, or with a length that no tap asked for.
func (s *scene) copiedOnce(t *testing.T, copies *lab.Capture, taps []tap.Tap) {
	t.Helper()
	lengths := map[int]bool{}
	for _, want := range taps {
		lengths[int(want.SnapLength)] = true
	}
	const whole = 14 + 20 + 8 + 300
	lengths[whole] = lengths[0]
	times, odd := map[uint32]int{}, map[int]int{}
	for _, f := range copies.Settle(whileChanging) {
		p := decode(f)
		ip, ok := p.NetworkLayer().(*layers.IPv4)
		if !ok || ip.Protocol != layers.IPProtocolUDP || len(f.Data) < 46 || binary.BigEndian.Uint16(f.Data[36:]) != 5000 {
			continue
		}
		times[binary.BigEndian.Uint32(f.Data[42:])]++
		if !lengths[len(f.Data)] {
			odd[len(f.Data)]++
		}
	}
	missing, twice := 0, 0
	for i := range uint32(whileChanging) {
		switch times[i] {
		case 0:
			missing++
		case 1:
		default:
			twice++
		}
	}
	if missing+twice+len(odd) > 0 {
		t.Errorf("of %d packets %d were not copied and %d more than once; of other lengths than asked for are %v", whileChanging, missing, twice, odd)
	}
}

// Counts go on where the tap counts the same things as before.
func TestCountsGoOnThroughAChange(t *testing.T) {
	s := newScene(t, 1450, 1500)
	node, p := open(t, s.node, s.pod)
	for _, v := range variants[:4] {
		t.Run(v.name, func(t *testing.T) {
			taps := []tap.Tap{s.want(t, v.text, `filter: udp, sampleRate: 3`), s.want(t, v.text, `filter: "udp port 5000", sampleRate: 5`), s.want(t, v.text, "filter: udp, sampleRate: 2")}
			add(t, p, ownerOf("c1"), taps[0])
			before, receivedBefore, sentBefore := s.counted(t, node)
			for i := range taps {
				if i > 0 {
					if _, err := p.Change(ownerOf("c1"), taps[i-1], taps[i]); err != nil {
						t.Fatal(err)
					}
				}
				healthy(t, p, ownerOf("c1"), taps[i])
				s.exchange(t, "changed", 300)
			}
			now, received, sent := s.counted(t, node)
			for d, interfaces := range map[tap.Direction]uint64{tap.Ingress: received.Packets - receivedBefore.Packets, tap.Egress: sent.Packets - sentBefore.Packets} {
				was, is := direction(t, before.Counters, d), direction(t, now.Counters, d)
				sum := is.Matched.Packets + is.PassedOver.Packets + is.SampledOut.Packets - was.Matched.Packets - was.PassedOver.Packets - was.SampledOut.Packets
				if sum != interfaces || is.Matched.Packets < 500 || is.SampledOut.Packets < 1000 {
					t.Errorf("%s: the counts sum up to %d, the interface has %d: %+v", d, sum, interfaces, is)
				}
			}
			// Something that was not counted before: from here on all begins at zero.
			plain := s.want(t, v.text, "direction: both")
			if _, err := p.Change(ownerOf("c1"), taps[2], plain); err != nil {
				t.Fatal(err)
			}
			healthy(t, p, ownerOf("c1"), plain)
			// The kernel frees what the old rules had a little later.
			is := only(t, node)
			waitFor(t, func() bool {
				is = only(t, node)
				return !slices.ContainsFunc(is.Counters, func(c Counters) bool { return c.PassedOver != nil || c.SampledOut != nil })
			})
			for _, c := range is.Counters {
				if c.PassedOver != nil || c.SampledOut != nil || c.Matched.Packets > 100 {
					t.Errorf("after the change the counts are %+v", c)
				}
			}
			remove(t, p, ownerOf("c1"))
		})
	}
}

// What cannot be changed in place is said, and nothing is changed.
func TestWhatCannotBeChangedInPlaceIsRefused(t *testing.T) {
	s := newScene(t, 1450, 1500)
	_, p := open(t, s.node, s.pod)
	for _, c := range []struct{ was, is, more string }{
		{"veth: {}", "vxlan: {vni: 100, remote: COLLECTOR4}", ""},
		{"veth: {}", "veth: {hostInterface: other0}", ""},
		{"veth: {}", "veth: {}", "direction: ingress"},
		{"vxlan: {vni: 100, remote: COLLECTOR4}", "vxlan: {vni: 100, remote: COLLECTOR4, placement: pod}", ""},
		{"vxlan: {vni: 100, remote: COLLECTOR4, placement: pod}", "vxlan: {vni: 101, remote: COLLECTOR4, placement: pod}", ""},
	} {
		t.Run(c.was+" to "+c.is+c.more, func(t *testing.T) {
			was, is := s.want(t, c.was, ""), s.want(t, c.is, c.more)
			add(t, p, ownerOf("c1"), was)
			lab.Settle(t, s.node.Space, s.pod.Space)
			before := track(t, s.node.Space, s.pod.Space)
			if _, err := p.Change(ownerOf("c1"), was, is); !errors.Is(err, ErrUnsupported) {
				t.Errorf("the error is %v", err)
			}
			if _, err := p.Change(ownerOf("c2"), was, was); err == nil {
				t.Error("somebody else's tap can be changed")
			}
			before.unchanged("after a refused change")
			healthy(t, p, ownerOf("c1"), was)
			remove(t, p, ownerOf("c1"))
		})
	}
}

// A change that fails half way leaves the tap as it was.
func TestAFailedChangeIsUndone(t *testing.T) {
	needsEBPF(t)
	s := newScene(t, 1450, 1500)
	node, p := open(t, s.node, s.pod)
	was := s.want(t, variants[1].text, "direction: both")
	is := s.want(t, variants[2].text, "filter: udp, sampleRate: 2, snapLength: 96, maxBitrate: 1G")
	add(t, p, ownerOf("c1"), was)
	lab.Settle(t, s.node.Space, s.pod.Space)
	numbers := regexp.MustCompile(`((?:mirred\.2|police\.1)=)[0-9a-f]{8}`) // of actions, which are made anew
	likeBefore := func() string {
		return numbers.ReplaceAllString(s.node.Snapshot()+s.pod.Snapshot(), "$1") + "\n" + s.offloads(t)
	}
	before, failed := likeBefore(), 0
	for at := 1; ; at++ {
		step := 0
		fails := func(what string) error {
			if step++; step == at {
				failed++
				return fmt.Errorf("%s fails by order of the test", what)
			}
			return nil
		}
		p.before, node.before = fails, fails
		_, err := p.Change(ownerOf("c1"), was, is)
		p.before, node.before = nil, nil
		if err == nil {
			break
		}
		if is := likeBefore(); is != before {
			t.Errorf("%v: it has changed:\n%s", err, lab.Difference(before, is))
		}
		healthy(t, p, ownerOf("c1"), was)
	}
	if failed < 10 {
		t.Errorf("%d steps could fail", failed)
	}
	remove(t, p, ownerOf("c1"))
}
