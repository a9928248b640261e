package main

import (
	"context"
	"errors"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/podtap/podtap/api/agent"
	"github.com/podtap/podtap/pkg/cniconf"
)

// reporter tells the node agent of taps that are not there, so that an event of the
// pod can say why. An ADD that makes all of its taps never comes here, and none fares
// otherwise for what comes of it.
type reporter struct {
	socket string
	// leftOut are the failures under failurePolicy Ignore.
	leftOut []error
}

// tell tells of what was left out or, where ADD failed, of that: then the pod does not
// start, and nothing was left out.
func (r *reporter) tell(args *skel.CmdArgs, failed error) {
	if !exists(r.socket) {
		return
	}
	told := r.leftOut
	if failed != nil {
		told = []error{failed}
	}
	pod := cniconf.ParseArgs(args.Args)
	var failures []agent.Failure
	for _, err := range told {
		f := agent.Failure{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ContainerID: args.ContainerID,
			Code: types.ErrInternal, Message: err.Error(), Started: failed == nil}
		if known := (*types.Error)(nil); errors.As(err, &known) {
			f.Code, f.Message = known.Code, known.Msg
		}
		failures = append(failures, f)
	}
	// The log and the runtime have it already.
	_ = agent.Report(context.Background(), r.socket, failures...)
}
