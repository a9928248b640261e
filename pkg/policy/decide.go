package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/podtap/podtap/pkg/tap"
)

// Facts are what a decision needs to know of the node and the pod.
type Facts struct {
	// PodAddresses are the pod's own, on every interface.
	PodAddresses []netip.Addr
	// NodeVXLANs are the VXLAN devices in the node's namespace that are not podtap's.
	NodeVXLANs []NodeVXLAN
}

// NodeVXLAN is a VXLAN device that receives on this node.
type NodeVXLAN struct {
	Name string
	Port uint16
	VNI  uint32
}

// Refused says why nobody may make a tap, wherever it comes from: because its
// collector is the pod itself, which would loop; or because its (port, VNI) is
// the own one of another VXLAN device of this node, whose network spans nodes,
// and which the copies would enter as forged frames.
func Refused(t tap.Tap, facts Facts) error {
	if t.VXLAN == nil {
		return nil
	}
	if slices.Contains(facts.PodAddresses, t.VXLAN.Remote) {
		return fmt.Errorf("vxlan.remote: %s is the pod's own address, and its copies would be copied again; "+
			"send them to a collector outside the pod, or use a veth", t.VXLAN.Remote)
	}
	for _, other := range facts.NodeVXLANs {
		if other.Port == t.VXLAN.Port && other.VNI == t.VXLAN.VNI {
			return fmt.Errorf("vxlan.vni: port %d with VNI %d belongs to the VXLAN device %s of this node, and the copies "+
				"would enter that network as forged frames; choose another VNI or port", other.Port, other.VNI, other.Name)
		}
	}
	return nil
}

// Allow says why the policy refuses a tap of a pod's author, nil where it does
// not; it names the rule that came closest and what would allow the tap. The tap
// is the pod's index-th, from 0; namespace is the pod's, empty where it is unknown.
func (p Policy) Allow(t tap.Tap, index int, namespace string) error {
	if index >= p.MaxTaps {
		return fmt.Errorf("the pod asks for more taps than the %d that policy.maxTaps allows", p.MaxTaps)
	}
	closest := -1
	var fewest []string
	for i, r := range p.Rules {
		objections := r.objections(t, namespace)
		if len(objections) == 0 {
			return nil
		}
		if closest < 0 || len(objections) < len(fewest) {
			closest, fewest = i, objections
		}
	}
	if closest < 0 {
		return errors.New("the policy has no rules and allows nothing; an administrator can add one to policy.rules")
	}
	return fmt.Errorf("policy.rules[%d] comes closest, but: %s", closest, strings.Join(fewest, "; "))
}

// objections lists what a rule has against a tap and what would allow it.
func (r Rule) objections(t tap.Tap, namespace string) []string {
	var out []string
	object := func(what, list, have, want string) {
		out = append(out, fmt.Sprintf("%s is not in its %s (%s); adding %q there allows it", what, list, have, want))
	}
	if r.Namespaces != nil && !slices.ContainsFunc(r.Namespaces, func(pattern string) bool {
		ok, _ := path.Match(pattern, namespace)
		return ok && namespace != ""
	}) {
		if namespace == "" {
			out = append(out, "the pod's namespace is unknown, and the rule names namespaces")
		} else {
			object("namespace "+namespace, "namespaces", shown(r.Namespaces), namespace)
		}
	}
	sinks := r.Sinks
	if sinks == nil {
		sinks = []tap.Sink{tap.SinkVeth}
	}
	if !slices.Contains(sinks, t.Sink()) {
		object("sink "+string(t.Sink()), "sinks", shown(sinks), string(t.Sink()))
	}
	if t.HostInterface() != "" && !r.HostNames {
		out = append(out, fmt.Sprintf("hostInterface %s is a name of the pod's own choice; leaving it out, or \"hostNames\": true in the rule, allows it", t.HostInterface()))
	}
	if objection := r.objectBitrate(t); objection != "" {
		out = append(out, objection)
	}
	if t.VXLAN != nil {
		r.objectVXLAN(*t.VXLAN, object)
	}
	if t.Wire != nil && r.Addresses != nil {
		for _, a := range slices.Concat(t.Wire.Addresses, t.Wire.HostAddresses) {
			if !slices.ContainsFunc(r.Addresses, func(p netip.Prefix) bool { return p.Bits() <= a.Bits() && p.Contains(a.Addr()) }) {
				object("address "+a.String(), "addresses", shown(r.Addresses), a.Masked().String())
			}
		}
	}
	return out
}

// objectBitrate says what a rule has against a tap's cap, "" where nothing. A wire needs
// none, because it copies nothing.
func (r Rule) objectBitrate(t tap.Tap) string {
	if r.MaxBitrate == 0 || t.Wire != nil || t.MaxBitrate > 0 && t.MaxBitrate <= r.MaxBitrate {
		return ""
	}
	problem := fmt.Sprintf("maxBitrate %s is above the rule's %s", t.MaxBitrate, r.MaxBitrate)
	if t.MaxBitrate == 0 {
		problem = fmt.Sprintf("maxBitrate is left out, and the rule allows at most %s", r.MaxBitrate)
	}
	return fmt.Sprintf("%s; \"maxBitrate: %s\" or less in the tap allows it", problem, r.MaxBitrate)
}

func (r Rule) objectVXLAN(v tap.VXLAN, object func(what, list, have, want string)) {
	if !slices.ContainsFunc(r.Destinations, func(p netip.Prefix) bool { return p.Contains(v.Remote) }) {
		object("destination "+v.Remote.String(), "destinations", shown(r.Destinations), v.Remote.String())
	}
	ports := r.Ports
	if ports == nil {
		ports = []Range{{tap.DefaultPort, tap.DefaultPort}}
	}
	if !within(ports, uint32(v.Port)) {
		object(fmt.Sprintf("port %d", v.Port), "ports", shown(ports), fmt.Sprint(v.Port))
	}
	if r.VNIs != nil && !within(r.VNIs, v.VNI) {
		object(fmt.Sprintf("VNI %d", v.VNI), "vnis", shown(r.VNIs), fmt.Sprint(v.VNI))
	}
	placements := r.Placements
	if placements == nil {
		placements = []tap.Placement{tap.PlacementNode}
	}
	if !slices.Contains(placements, v.Placement) {
		object("placement "+string(v.Placement), "placements", shown(placements), string(v.Placement))
	}
}

func within(ranges []Range, n uint32) bool {
	return slices.ContainsFunc(ranges, func(r Range) bool { return n >= r.First && n <= r.Last })
}

// shown words a list for a message, its first entries where it is long.
func shown[T any](list []T) string {
	const most = 5
	var words []string
	for i, v := range list {
		if i == most {
			words = append(words, fmt.Sprintf("and %d more", len(list)-most))
			break
		}
		words = append(words, fmt.Sprint(v))
	}
	if len(words) == 0 {
		return "empty"
	}
	return strings.Join(words, ", ")
}
