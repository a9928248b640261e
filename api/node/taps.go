// Package node is what podtapd tells of its node, as JSON over HTTP: its taps with
// their counts, and what there is to know for finding faults. It has types only;
// podtapd fills them, and kubectl-podtap shows them. Fields are added, never taken
// away or given another meaning, so that programs of different versions understand
// each other; what is unknown is left out.
package node

import (
	"time"

	"github.com/podtap/podtap/pkg/tap"
)

// Paths of podtapd's API.
const (
	PathTaps   = "/v1/taps"   // Taps
	PathReport = "/v1/report" // Report
)

// DefaultAddress is where podtapd serves its API: on the node's loopback, where
// the API server's port-forward comes out.
const DefaultAddress = "127.0.0.1:971"

// Taps are the taps of a node, and the VXLAN devices that send their copies.
type Taps struct {
	Taps    []Tap    `json:"taps"`
	Senders []Sender `json:"senders"`
	// Errors are what could not be read. What could be is there.
	Errors []string `json:"errors,omitempty"`
}

// Tap is one tap of one pod.
type Tap struct {
	Node        string        `json:"node,omitempty"` // its name; only where several are listed
	Pod         string        `json:"pod,omitempty"`  // NAMESPACE/NAME
	Namespace   string        `json:"namespace,omitempty"`
	Name        string        `json:"name,omitempty"`
	ContainerID string        `json:"containerID,omitempty"` // of the sandbox
	Network     string        `json:"network,omitempty"`
	IfName      string        `json:"ifname,omitempty"`
	NetNS       string        `json:"netns,omitempty"`
	Device      string        `json:"device,omitempty"` // in the pod; "" where the pod deleted it
	Interface   string        `json:"interface,omitempty"`
	Direction   tap.Direction `json:"direction,omitempty"`
	Sink        tap.Sink      `json:"sink,omitempty"`
	Placement   tap.Placement `json:"placement,omitempty"`
	Destination string        `json:"destination,omitempty"`
	Since       time.Time     `json:"since,omitzero"`
	SnapLength  int           `json:"snapLength,omitempty"` // bytes that are kept of a copy
	MaxBitrate  uint64        `json:"maxBitrate,omitempty"` // of the copies, in bits per second
	Directions  []Counters    `json:"directions"`
	// Cut are the copies that were cut, with the bytes that were cut off. It and
	// SegmentsAdded are there where copies are trimmed: cut, or made to fit the path.
	Cut *Amount `json:"cut,omitempty"`
	// SegmentsAdded is how many copies there are more than packets, of TCP that was
	// segmented to fit the path.
	SegmentsAdded *uint64 `json:"segmentsAdded,omitempty"`
	// Capped are the copies that exceeded MaxBitrate, in packets only. They are among
	// those that the directions have as dropped by the mirror. It is there where there
	// is a cap.
	Capped *Amount `json:"capped,omitempty"`
	// Lost are the copies that were lost between the tap's device and the node, in
	// packets only: the device took them. It is there where copies are trimmed or
	// capped, unless the pod's own namespace, which knows of some, was not found.
	Lost *Amount `json:"lost,omitempty"`
}

// Counters are those of one direction of a tap. PassedOver, SampledOut and Matched
// together are what the tapped interface had.
type Counters struct {
	Direction  tap.Direction     `json:"direction"`
	PassedOver *Amount           `json:"passedOver,omitempty"` // of a tap with a filter
	SampledOut *Amount           `json:"sampledOut,omitempty"` // of a tap that samples
	Matched    Amount            `json:"matched"`
	Copied     Amount            `json:"copied"`
	Dropped    map[string]Amount `json:"dropped"` // by reason
	Unit       string            `json:"unit"`    // packets or segments
}

// Sender is a VXLAN device that sends copies.
type Sender struct {
	Node        string            `json:"node,omitempty"`
	Device      string            `json:"device"`
	Pod         string            `json:"pod,omitempty"` // where it is a pod's own
	Destination string            `json:"destination,omitempty"`
	Taps        int               `json:"taps"`
	Missing     bool              `json:"missing,omitempty"` // somebody deleted it
	Sent        *Amount           `json:"sent,omitempty"`
	Dropped     map[string]Amount `json:"dropped"`
}

// Amount is a number of packets and, where it is known, of bytes.
type Amount struct {
	Packets uint64  `json:"packets"`
	Bytes   *uint64 `json:"bytes,omitempty"`
}
