package tap

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Parse reads one tap or a list of taps, as YAML or JSON. It reports every
// mistake that it finds, as Errors. Nothing at all is no tap.
func Parse(text []byte) ([]Tap, error) {
	tree, err := decode(text)
	if err != nil {
		return nil, err
	}
	return FromTree(tree)
}

// FromTree reads one tap or a list of taps out of decoded YAML or JSON: objects
// as map[string]any, lists as []any, numbers as int or json.Number.
func FromTree(tree any) ([]Tap, error) {
	list, isList := tree.([]any)
	switch {
	case tree == nil:
		return nil, nil
	case !isList:
		list = []any{tree}
	case len(list) > MaxTaps:
		return nil, tooMany(len(list), 0)
	}
	var taps []Tap
	var mistakes Errors
	for i, item := range list {
		t, errs := parseTap(i+1, item)
		mistakes = append(mistakes, errs...)
		taps = append(taps, t)
	}
	if len(mistakes) > 0 {
		return nil, mistakes
	}
	return taps, nil
}

func tooMany(n, others int) Errors {
	beside := ""
	if others > 0 {
		beside = fmt.Sprintf(" beside the %d of the network configuration", others)
	}
	return inText("%d taps are too many%s; a pod may have at most %d", n, beside, MaxTaps)
}

func parseTap(position int, item any) (Tap, Errors) {
	var mistakes Errors
	fields, ok := item.(map[string]any)
	if !ok {
		return Tap{}, Errors{{Tap: position, Problem: Quote(item) + " is not a tap; a tap is an object such as {veth: {}}"}}
	}
	device, _ := fields["device"].(string)
	o := &object{fields: fields, mistake: func(field, problem string) {
		mistakes = append(mistakes, FieldError{Tap: position, Device: device, Field: field, Problem: problem})
	}}

	t := Tap{
		Device:     o.deviceName("device"),
		Interface:  o.interfaceName("interface"),
		Direction:  oneOf(o, "direction", Both, Ingress, Egress, Both),
		Filter:     parseFilter(o),
		SampleRate: uint32(o.number("sampleRate", 1, 1, MaxSampleRate)),
		SnapLength: parseSnapLength(o),
		MaxBitrate: parseMaxBitrate(o),
	}
	parseSinks(o, &t)
	if t.Wire != nil {
		t.Direction, t.SampleRate = "", 0 // the others have no default
		refuseCopies(o)
	}
	if t.SnapLength > 0 && t.VXLAN != nil && t.VXLAN.Placement == PlacementPod {
		o.mistake("snapLength", "does not go with placement pod, because the cut is made on the node; use placement node, or a veth")
	}
	o.unknown()
	return t, mistakes
}

// parseSinks reads the sink and insists that there is exactly one.
func parseSinks(o *object, t *Tap) {
	var sinks []string
	if veth, present := o.child(string(SinkVeth)); present {
		sinks = append(sinks, string(SinkVeth))
		t.Veth = parseVeth(veth)
	}
	if vxlan, present := o.child(string(SinkVXLAN)); present {
		sinks = append(sinks, string(SinkVXLAN))
		t.VXLAN = parseVXLAN(vxlan)
	}
	if wire, present := o.child(string(SinkWire)); present {
		sinks = append(sinks, string(SinkWire))
		t.Wire = parseWire(wire)
	}
	if len(sinks) != 1 {
		have := "none"
		if len(sinks) > 0 {
			have = strings.Join(sinks, " and ")
		}
		o.mistake("", "has "+have+"; it must have exactly one of veth, vxlan, wire")
	}
}

func parseVeth(o *object) *Veth {
	if o == nil {
		return &Veth{}
	}
	v := &Veth{HostInterface: o.deviceName("hostInterface")}
	o.unknown()
	return v
}

func parseVXLAN(o *object) *VXLAN {
	if o == nil {
		return &VXLAN{}
	}
	const someVNI = "a whole number from 1 to 16777215"
	const someAddress = "an IPv4 or IPv6 address, such as 198.18.0.9"
	o.required("vni", someVNI)
	o.required("remote", someAddress)
	v := &VXLAN{
		VNI:       uint32(o.number("vni", 0, 1, MaxVNI)),
		Port:      uint16(o.number("port", DefaultPort, 1, 65535)),
		TTL:       uint8(o.number("ttl", DefaultTTL, 1, 255)),
		Placement: oneOf(o, "placement", PlacementNode, PlacementNode, PlacementPod),
	}
	if remote := o.text("remote", someAddress); remote != "" {
		address, err := netip.ParseAddr(remote)
		if err != nil {
			o.bad("remote", remote, someAddress)
		} else if problem := unusable(address); problem != "" {
			o.mistake(o.path+"remote", Quote(remote)+" is "+problem+"; it must be a collector's own unicast address")
		}
		v.Remote = address.Unmap()
	}
	v.Oversize = parseOversize(o, v.Placement)
	o.unknown()
	return v
}

// parseOversize reads what happens to copies that do not fit.
func parseOversize(o *object, placement Placement) Oversize {
	const name = "oversize"
	if placement != PlacementPod {
		return oneOf(o, name, FitIfPossible, Fit, Fragment, Refuse)
	}
	// Copies are made to fit on the node, where those of a device in the pod never come by.
	if v := o.fields[name]; v == string(Fit) {
		o.take(name)
		o.mistake(o.path+name, Quote(v)+" is not allowed; placement pod knows only fragment and refuse; use placement node")
		return Refuse
	}
	// A VXLAN device in the pod shares the pod's routes with the packets that it
	// copies: a copy that does not fit would lower the pod's own path MTU, so
	// that is done only for those who ask for it.
	return oneOf(o, name, Refuse, Fragment, Refuse)
}

// unusable says why copies cannot be sent to an address, "" where they can.
func unusable(a netip.Addr) string {
	a4 := a.Unmap()
	switch {
	case a.Zone() != "":
		return "an address with a zone"
	case a4.IsUnspecified():
		return "the unspecified address"
	case a4.IsLoopback():
		return "a loopback address"
	case a4.IsMulticast():
		return "a multicast address"
	case a4.IsLinkLocalUnicast():
		return "a link-local address"
	case a4 == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "the broadcast address"
	}
	return ""
}

func parseWire(o *object) *Wire {
	if o == nil {
		return &Wire{}
	}
	w := &Wire{
		HostInterface: o.deviceName("hostInterface"),
		Addresses:     o.prefixes("addresses"),
		HostAddresses: o.prefixes("hostAddresses"),
		// 68 is the least an IPv4 link may have (RFC 791), 65535 the most of a veth.
		MTU: int(o.number("mtu", 0, 68, 65535)),
	}
	for _, p := range slices.Concat(w.Addresses, w.HostAddresses) {
		if p.Addr().Is6() && w.MTU > 0 && w.MTU < 1280 {
			o.bad("mtu", w.MTU, "at least 1280 with an IPv6 address (RFC 8200)")
			break
		}
	}
	for _, p := range w.Addresses {
		for _, q := range w.HostAddresses {
			if p.Addr() == q.Addr() {
				o.mistake(o.path+"hostAddresses", p.Addr().String()+" is the pod's address too; the two ends need different ones")
			}
		}
	}
	o.unknown()
	return w
}
