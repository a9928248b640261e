package agent

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/podtap/podtap/api/node"
	"github.com/podtap/podtap/pkg/cniconf"
	"github.com/podtap/podtap/pkg/tap"
)

// expected is a tap that a pod's annotation asks for.
type expected struct {
	tap.Tap        // as it is written
	name    string // of its device; a guess where it is not written
}

// wanted are the taps that annotations ask for. An error means that the plugin has
// refused them all.
func wanted(annotations map[string]string) ([]expected, error) {
	written, err := cniconf.AnnotationTaps(annotations)
	if err != nil || len(written) == 0 {
		return nil, err
	}
	completed := append([]tap.Tap(nil), written...)
	if err := tap.Complete(completed, "eth0", func(string) bool { return false }); err != nil {
		return nil, fmt.Errorf("annotation %s: %w", cniconf.AnnotationKey, err)
	}
	var out []expected
	for i, t := range written {
		out = append(out, expected{t, completed[i].Device})
	}
	return out, nil
}

// inventory is what the node has, by the container ID.
type inventory struct {
	of map[string][]node.Tap
	// left are the namespaces in which taps' rules are left without their devices.
	left map[string]bool
	// whole is false where something could not be read.
	whole bool
}

func present(taps []node.Tap, whole bool) inventory {
	i := inventory{of: map[string][]node.Tap{}, left: map[string]bool{}, whole: whole}
	for _, t := range taps {
		switch {
		case t.ContainerID != "" && t.Device != "":
			i.of[t.ContainerID] = append(i.of[t.ContainerID], t)
		case t.NetNS != "":
			i.left[t.NetNS] = true
		}
	}
	return i
}

// rulesLeft says whether a pod has rules of a tap whose device somebody deleted. Their
// owner is known by the pod's other taps only.
func (i inventory) rulesLeft(id string) bool {
	for _, t := range i.of[id] {
		if t.NetNS != "" && t.Placement != tap.PlacementPod && i.left[t.NetNS] {
			return true
		}
	}
	return false
}

// match says of each tap whether the container has it, those with a name first.
func (i inventory) match(id string, want []expected) []bool {
	found := make([]bool, len(want))
	used := map[int]bool{}
	for _, named := range []bool{true, false} {
		for w, e := range want {
			if (e.Device != "") != named {
				continue
			}
			for at, t := range i.of[id] {
				if !used[at] && e.is(t) {
					found[w], used[at] = true, true
					break
				}
			}
			// A pod's own namespace could not be read: only there it would be.
			if !found[w] && !i.whole && e.placement() == tap.PlacementPod {
				found[w] = true
			}
		}
	}
	return found
}

func (e expected) placement() tap.Placement {
	if e.VXLAN == nil {
		return ""
	}
	return e.VXLAN.Placement
}

// is says whether a tap can be the expected one. Sink and placement tell what the node
// knows from what a pod may have written itself. A name that is not written is one of
// the defaults, which one depends on what else the pod had.
func (e expected) is(t node.Tap) bool {
	if t.Sink != e.Sink() || t.Placement != e.placement() || t.Direction != e.Direction {
		return false
	}
	if e.Device != "" {
		return t.Device == e.Device
	}
	rest, isDefault := strings.CutPrefix(t.Device, tap.DefaultDevice)
	if !isDefault || strings.Trim(rest, "0123456789") != "" {
		return false
	}
	if e.Interface != "" && t.Interface != e.Interface {
		return false
	}
	if e.VXLAN == nil || t.Destination == "" { // unknown where somebody deleted the relay
		return true
	}
	return t.Destination == fmt.Sprintf("%s/%d", netip.AddrPortFrom(e.VXLAN.Remote, e.VXLAN.Port), e.VXLAN.VNI)
}
