package node

import "time"

// Report is what podtapd knows of its node, for finding faults.
type Report struct {
	Node    string  `json:"node"`
	Podtapd string  `json:"podtapd"`        // version
	Arch    string  `json:"arch,omitempty"` // podtapd's, as Go calls it: amd64
	Install Install `json:"install"`
	Plugin  Plugin  `json:"plugin"`
	Kernel  Kernel  `json:"kernel"`
	Runtime Runtime `json:"runtime"`
	// Pods are those whose taps are not what their annotation asks for.
	Pods []Pod `json:"pods"`
}

// State is how far the installation on the node has come.
type State string

const (
	StateStarting    State = "Starting"    // nothing is known yet
	StateStandby     State = "Standby"     // another podtapd of this node is at work
	StateNoNetwork   State = "NoNetwork"   // there is no configuration to chain podtap to yet
	StateUnsupported State = "Unsupported" // there is one, which podtap cannot be chained to
	StateFailing     State = "Failing"     // a file could not be read or written; podtapd tries again
	StateConflict    State = "Conflict"    // somebody takes the entry out again and again
	StateReady       State = "Ready"       // chained, and read back
)

// Install is the state of podtap's place in the node's CNI configuration.
type Install struct {
	State   State     `json:"state"`
	Since   time.Time `json:"since"`
	Message string    `json:"message,omitempty"` // what is wrong, and what to do
	// Settings says what is wrong with the ConfigMap's settings, if anything is;
	// the last good ones are in force then.
	Settings string   `json:"settings,omitempty"`
	File     string   `json:"file,omitempty"`    // the configuration's name in its folder
	Network  string   `json:"network,omitempty"` // its network's name
	Chain    []string `json:"chain,omitempty"`   // the types of its plugins, in order
	Rewrites int      `json:"rewrites"`          // how often podtapd has written the entry since it started
}

// Plugin is the binary that runtimes call.
type Plugin struct {
	Path   string `json:"path"`
	Digest string `json:"digest,omitempty"` // sha256 of its bytes, in hex
}

// Kernel is the node's.
type Kernel struct {
	Release string `json:"release"`
	Problem string `json:"problem,omitempty"` // why taps cannot work on it
}

// Runtime is the container runtime, as far as CRI tells.
type Runtime struct {
	Name    string   `json:"name,omitempty"`
	Version string   `json:"version,omitempty"`
	Network string   `json:"network,omitempty"` // the network that it has loaded
	Chain   []string `json:"chain,omitempty"`   // the plugins of that, in order
	Problem string   `json:"problem,omitempty"`
}

// Pod is one whose taps are not what its annotation asks for.
type Pod struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid,omitempty"`
	Reason    Reason `json:"reason"`
	Message   string `json:"message"`
}

// Reason says why a pod lacks taps that its annotation asks for.
type Reason string

const (
	ReasonHostNetwork Reason = "HostNetwork" // it is on the node's own network
	ReasonNotChained  Reason = "NotChained"  // it started while podtap was not in the chain
	ReasonRemoved     Reason = "TapRemoved"  // a tap that was there is gone
	ReasonFailed      Reason = "TapFailed"   // the plugin could not make it, or may not
	ReasonMissing     Reason = "TapMissing"  // it is not there, and nobody knows why
)
