package trim

import (
	"bytes"
	"testing"

	"github.com/cilium/ebpf"
)

// pattern are bytes of which none is like its neighbours.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// Of frames on their way to a device's listeners the first bytes are left.
func TestADevicesFramesAreCutBehindTheLimit(t *testing.T) {
	for _, snap := range []int{64, 96, 1000} {
		p, want := load(t, ebpf.XDP, Spec{Snap: snap}), Counts{}
		for _, length := range []int{14, 60, snap - 1, snap, snap + 1, snap + 2, 2 * snap, 1514, 3000} {
			in := pattern(length)
			verdict, out, err := p.Test(in)
			if err != nil {
				t.Fatal(err)
			}
			if left := min(length, snap); verdict != xdpPass || !bytes.Equal(out, in[:left]) {
				t.Errorf("cut to %d: of %d bytes %d are left, and the verdict is %d", snap, length, len(out), verdict)
			}
			if length > snap {
				want.CutPackets++
				want.CutBytes += uint64(length - snap)
			}
		}
		if got := p.counted(t); got != want {
			t.Errorf("cut to %d: counted are %+v; want %+v", snap, got, want)
		}
	}
}

// The same on the way to a relay, whatever the frames are; the shorter of two limits counts.
func TestARelaysFramesAreCutBehindTheLimit(t *testing.T) {
	for _, s := range []Spec{{Snap: 64}, {Snap: 96}, {Snap: 96, Path: 1464, Longest: 1514, Relay: 1}, {Snap: 2000, Path: 1464, Longest: 1514, Relay: 1}} {
		p, limit, want := load(t, ebpf.SchedCLS, s), s.limit(), Counts{}
		for _, length := range []int{60, limit - 1, limit, limit + 1, limit + 2, limit + 72, 1514, 2500} {
			in := pattern(length)
			verdict, out, err := p.Test(in)
			if err != nil {
				t.Fatal(err)
			}
			if left := min(length, limit); int32(verdict) != actNext || !bytes.Equal(out, in[:left]) {
				t.Errorf("%+v: of %d bytes %d are left, and the verdict is %d", s, length, len(out), int32(verdict))
			}
			if length > limit {
				want.CutPackets++
				want.CutBytes += uint64(length - limit)
			}
		}
		if got := p.counted(t); got != want {
			t.Errorf("%+v: counted are %+v; want %+v", s, got, want)
		}
	}
}
