package mirror

import (
	"slices"
	"testing"

	"github.com/podtap/podtap/internal/lab"
)

// flannel's overlay is on Linux' own VXLAN port, and so may the collector be.
func TestBridgedPodsBesideFlannelsVXLANAreCopiedOnce(t *testing.T) {
	o := overlays["flannel"]
	s := newOverlayScene(t, o, (*lab.Host).Pod, 1450)
	if list := s.foreign(t); !slices.Equal(list, []VXLAN{{Name: "flannel.1", Port: 8472, VNI: 1}}) {
		t.Errorf("foreign are %v", list)
	}
	s.copiesBeside(t, o, 8472)
}
