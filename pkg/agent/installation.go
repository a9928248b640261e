package agent

import (
	"sync"

	core "k8s.io/api/core/v1"

	"github.com/podtap/podtap/api/node"
)

// Reasons of events of the node.
const (
	eventConflict    = "PodtapConflict"    // somebody rewrites the CNI configuration without podtap again and again
	eventUnsupported = "PodtapUnsupported" // podtap cannot be chained to the network that the node has
	eventFailing     = "PodtapFailing"     // a file could not be read or written, or settings are not valid
	eventReady       = "PodtapReady"       // after one of these
)

// installation remembers what was last told of the node's installation.
type installation struct {
	mu     sync.Mutex
	reason string
}

// InstallChanged takes note of the installation's new state, and tells of what
// somebody should do something about, once for each time that it begins.
func (a *Agent) InstallChanged(s node.Install) {
	reason, known := map[node.State]string{
		node.StateConflict: eventConflict, node.StateUnsupported: eventUnsupported, node.StateFailing: eventFailing, node.StateReady: "",
	}[s.State]
	if !known {
		return
	}
	i := &a.installation
	i.mu.Lock()
	defer i.mu.Unlock()
	if reason == i.reason {
		return
	}
	i.reason = reason
	if reason == "" {
		a.NodeEvent(core.EventTypeNormal, eventReady, "podtap is chained in "+s.File+": pods that start from now on are tapped if they ask for it")
		return
	}
	a.NodeEvent(core.EventTypeWarning, reason, s.Message)
}
