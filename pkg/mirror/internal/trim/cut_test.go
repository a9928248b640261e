package trim

import (
	"bytes"
	"testing"
)

// pattern are bytes of which none is like its neighbours.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// Of frames on their way to a device's listeners, or to a relay, the first bytes are left; the
// shorter of two limits counts.
func TestFramesAreCutBehindTheLimit(t *testing.T) {
	for s, limit := range map[Spec]int{{Snap: 64}: 64, {Snap: 96}: 96, {Snap: 1000}: 1000, {Snap: 96, Path: 1464}: 96, {Snap: 2000, Path: 1464}: 1464} {
		p, want := load(t, s), Counts{}
		for _, length := range []int{14, 60, limit - 1, limit, limit + 1, limit + 2, 2 * limit, 1514, 3000} {
			in := pattern(length)
			verdict, out, err := p.Test(in)
			if err != nil {
				t.Fatal(err)
			}
			if left := min(length, limit); verdict != xdpPass || !bytes.Equal(out, in[:left]) {
				t.Errorf("%+v: of %d bytes %d are left, and the verdict is %d", s, length, len(out), verdict)
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
