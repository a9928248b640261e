// Package tap is podtap's one idea: a Tap says which packets of which pod
// interface are copied, and where the copies go. The package parses taps from
// YAML or JSON, fills in defaults and validates; it knows nothing of CNI's
// protocol, Kubernetes or the kernel, so that annotations, network configurations and
// command lines all mean the same thing.
package tap

import "net/netip"

const (
	// MaxTaps is how many taps one pod may have.
	MaxTaps = 16
	// MaxBytes is the largest text that Parse reads. Kubernetes allows 256 KiB
	// for all annotations of an object together; 16 taps need a few KiB.
	MaxBytes = 64 << 10
	// MaxNameLength is the longest device name: IFNAMSIZ (16) less the final zero.
	MaxNameLength = 15
	// MaxAddresses is how many addresses one end of a wire may have.
	MaxAddresses = 16
	// MaxVNI is the largest VXLAN network identifier, 24 bits (RFC 7348, section 5).
	MaxVNI = 1<<24 - 1
	// DefaultPort is VXLAN's UDP port (RFC 7348, section 8).
	DefaultPort = 4789
	// DefaultTTL is the IP time to live of the outer packets.
	DefaultTTL = 64
	// MaxSampleRate is the sparsest sampling: one packet in so many.
	MaxSampleRate = 1_000_000
	// MinSnapLength is the shortest cut, in bytes: an Ethernet header with those of IPv4 and
	// TCP, and a few more.
	MinSnapLength = 64
	// MaxSnapLength is more than any packet has, in bytes.
	MaxSnapLength = 65535
	// DefaultDevice is the first name given to a tap without one; the next are
	// mirror1, mirror2, …
	DefaultDevice = "mirror"
)

// Direction says which packets are copied, seen from the pod.
type Direction string

const (
	Ingress Direction = "ingress" // what the pod receives
	Egress  Direction = "egress"  // what the pod sends
	Both    Direction = "both"    // ingress and egress, each packet once
)

// Sink names what a tap's copies go to.
type Sink string

const (
	SinkVeth  Sink = "veth"  // a device on the node
	SinkVXLAN Sink = "vxlan" // a collector, in VXLAN
	SinkWire  Sink = "wire"  // no copies: a plain second interface
)

// Placement says in which network namespace the VXLAN device is.
type Placement string

const (
	PlacementNode Placement = "node" // on the node, shared by taps of one collector
	PlacementPod  Placement = "pod"  // in the pod, its underlay in the node
)

// Oversize says what happens to a copy that does not fit the path to its collector.
type Oversize string

const (
	// FitIfPossible is Fit, and Fragment on a kernel that cannot; it is what a tap has that
	// leaves the field out, unless it has PlacementPod.
	FitIfPossible Oversize = ""
	// Fit makes the copy fit: TCP is segmented smaller, anything else is
	// cut to the path. It does not go with PlacementPod.
	Fit Oversize = "fit"
	// Fragment sends the copy whole, in IP fragments.
	Fragment Oversize = "fragment"
	// Refuse fails the tap's setup where the pod's packets would not fit.
	Refuse Oversize = "refuse"
)

// Tap is one mirror, or one wire, of one pod. Exactly one of Veth, VXLAN and
// Wire is set. A Tap out of Parse is valid in itself; Complete adds what depends
// on its surroundings.
type Tap struct {
	// Device is the name of the device made in the pod, and the tap's identity there.
	Device string `json:"device,omitempty"`
	// Interface is the pod's interface that is tapped; a wire takes its MTU.
	Interface string `json:"interface,omitempty"`
	// Direction is empty for a wire.
	Direction Direction `json:"direction,omitempty"`
	// Filter is a pcap-filter(7) expression, which pkg/pcapfilter compiles; empty means
	// all packets. A wire has none.
	Filter string `json:"filter,omitempty"`
	// SampleRate copies one packet in so many of those that the filter matches, at random; 1,
	// and 0, copy all. It is at most MaxSampleRate. A wire has none.
	SampleRate uint32 `json:"sampleRate,omitempty"`
	// SnapLength is how many bytes are kept of a copy, from the Ethernet header on,
	// MinSnapLength to MaxSnapLength; 0 keeps all. A wire has none, nor has PlacementPod.
	SnapLength uint16 `json:"snapLength,omitempty"`
	// MaxBitrate is what the copies may have together, in bits of their frames per second;
	// what exceeds it is dropped. 0 is no limit. A wire has none.
	MaxBitrate Bitrate `json:"maxBitrate,omitempty"`

	Veth  *Veth  `json:"veth,omitempty"`
	VXLAN *VXLAN `json:"vxlan,omitempty"`
	Wire  *Wire  `json:"wire,omitempty"`
}

// Veth lets the copies come out of a device on the node.
type Veth struct {
	// HostInterface is that device's name; empty means a generated one.
	HostInterface string `json:"hostInterface,omitempty"`
}

// VXLAN sends the copies to a collector.
type VXLAN struct {
	VNI       uint32     `json:"vni"`    // 1 to MaxVNI
	Remote    netip.Addr `json:"remote"` // unicast IPv4 or IPv6
	Port      uint16     `json:"port"`   // UDP, 1 to 65535
	TTL       uint8      `json:"ttl"`    // 1 to 255
	Placement Placement  `json:"placement"`
	Oversize  Oversize   `json:"oversize,omitempty"`
}

// Wire is a plain second interface between pod and node; nothing is copied.
type Wire struct {
	// HostInterface is the node's end; empty means a generated name.
	HostInterface string         `json:"hostInterface,omitempty"`
	Addresses     []netip.Prefix `json:"addresses,omitempty"`     // of the pod's end
	HostAddresses []netip.Prefix `json:"hostAddresses,omitempty"` // of the node's end
	// MTU in bytes; 0 means that of the tapped interface.
	MTU int `json:"mtu,omitempty"`
}

// Samples says whether a tap copies only some of the packets that its filter matches.
func (t Tap) Samples() bool { return t.SampleRate > 1 }

// Sink says which of the three sinks the tap has.
func (t Tap) Sink() Sink {
	switch {
	case t.Veth != nil:
		return SinkVeth
	case t.VXLAN != nil:
		return SinkVXLAN
	default:
		return SinkWire
	}
}

// HostInterface is the name asked for the node's end, empty where none was.
func (t Tap) HostInterface() string {
	switch {
	case t.Veth != nil:
		return t.Veth.HostInterface
	case t.Wire != nil:
		return t.Wire.HostInterface
	default:
		return ""
	}
}

// Includes says whether packets of one direction, Ingress or Egress, are copied.
func (t Tap) Includes(direction Direction) bool {
	return t.Direction == Both || t.Direction == direction
}
