package agent

import (
	"context"
	"time"

	"github.com/podtap/podtap/pkg/mirror"
)

// lookAtPaths is how often the paths to the collectors are looked at, where nothing tells of
// a change.
const lookAtPaths = 10 * time.Second

// followPaths keeps copies at what the paths to their collectors take, until ctx ends.
func (a *Agent) followPaths(ctx context.Context) error {
	n, err := mirror.OpenNode()
	if err != nil {
		return err
	}
	defer n.Close()
	var f mirror.Follower
	said := ""
	return n.WatchPaths(ctx, lookAtPaths, func() {
		changed, err := f.Round(n)
		if changed > 0 {
			a.Log.Info("the path to a collector has changed; copies are made to fit it", "taps", changed)
		}
		problem := ""
		if err != nil {
			problem = err.Error()
		}
		if problem != "" && problem != said { // not again at each change of the network
			a.Log.Warn("copies may not fit the path to their collector", "error", err)
		}
		said = problem
	})
}
