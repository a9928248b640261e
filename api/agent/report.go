package agent

import (
	"context"
	"fmt"
	"time"
)

// ReportTimeout bounds a report as a whole: the end of ADD waits for it.
const ReportTimeout = 200 * time.Millisecond

// Failure is a tap, or all taps of a pod, that the plugin could not make or would not.
type Failure struct {
	Namespace   string `json:"namespace"`
	Name        string `json:"name"`
	UID         string `json:"uid,omitempty"`
	ContainerID string `json:"containerID"` // of the sandbox
	Code        uint   `json:"code"`        // CNI's, and podtap's from 100 on
	Message     string `json:"message"`
	// Started says that the pod starts without the tap, under failurePolicy Ignore.
	// Otherwise ADD failed, and the runtime may try again with another sandbox.
	Started bool `json:"started,omitempty"`
}

// Report tells the agent at a socket of failures. It is worth an attempt, no more: it
// returns within ReportTimeout whatever happens, and waits for no answer, because
// nothing would follow from it.
func Report(ctx context.Context, socket string, failures ...Failure) error {
	ctx, cancel := context.WithTimeout(ctx, ReportTimeout)
	defer cancel()
	for i := range failures {
		_, stop, err := send(ctx, socket, Request{Version: Version, Failure: &failures[i]})
		if err != nil {
			return fmt.Errorf("tell the node agent: %w", err)
		}
		stop()
	}
	return nil
}
