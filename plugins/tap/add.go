package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/podtap/podtap/api/agent"
	"github.com/podtap/podtap/pkg/cniconf"
	"github.com/podtap/podtap/pkg/mirror"
	"github.com/podtap/podtap/pkg/tap"
)

// cmdAdd makes the pod's taps and hands the chain's result on. If it fails,
// nothing of what it made is left.
func cmdAdd(args *skel.CmdArgs) error {
	// What fails before the configuration is read goes where the agent is by default.
	r := reporter{socket: cniconf.DefaultAgentSocket}
	err := add(args, &r)
	if err != nil || len(r.leftOut) > 0 {
		r.tell(args, err)
	}
	return err
}

// add is ADD, but for telling the node agent.
func add(args *skel.CmdArgs, r *reporter) error {
	conf, err := cniconf.Parse(args.StdinData)
	if err != nil {
		return err
	}
	if conf.Untapped {
		return conf.WriteResult(os.Stdout, nil)
	}
	r.socket = conf.AgentSocket
	log := newLogger(conf.Log, conf.Name, args)
	w, err := wantedTaps(conf, args, log, r)
	if err != nil {
		return err
	}
	log.Debug("taps wanted", "network", w.own, "annotation", len(w.taps)-w.own)
	if len(w.taps) == 0 {
		return conf.WriteResult(os.Stdout, nil)
	}
	s, err := openSession(conf, args)
	if err != nil {
		return err
	}
	defer s.close()
	if s.present.Remains {
		// Of an ADD that was cut short, or that the runtime repeats.
		if err := s.pod.Remove(s.owner); err != nil {
			return cniconf.Error(codeOf(err, false), fmt.Errorf("remove what an earlier ADD has left: %w", err))
		}
	}
	made, err := s.add(w, log, r)
	if err == nil {
		err = s.answer(w, made)
	}
	if err == nil {
		return nil
	}
	if undo := s.pod.Remove(s.owner); undo != nil {
		log.Error("not everything of a failed ADD could be undone", "error", undo)
	}
	return err
}

// wanted is what a pod is to have.
type wanted struct {
	taps []tap.Tap
	// own is how many of them, from the start, are the network configuration's;
	// the rest are the pod author's.
	own int
	// alone says that podtap is the network's only plugin.
	alone bool
}

func (w wanted) isAuthors(i int) bool { return i >= w.own }

// origin words where a tap comes from.
func (w wanted) origin(i int) string {
	switch {
	case !w.isAuthors(i):
		return "network configuration"
	case w.alone:
		return "network configuration with the attachment's cni-args"
	}
	return "annotation " + cniconf.AnnotationKey
}

// wantedTaps gathers the taps of the network configuration and of the pod's
// annotations.
func wantedTaps(conf *cniconf.Config, args *skel.CmdArgs, log *slog.Logger, r *reporter) (wanted, error) {
	if conf.PrevResult == nil {
		t, changed, err := conf.AttachmentTap(args.IfName)
		w := wanted{taps: []tap.Tap{t}, own: 1, alone: true}
		if changed {
			w.own = 0
		}
		return w, err
	}
	own, err := conf.NetworkTaps()
	if err != nil {
		return wanted{}, err
	}
	values := conf.Annotations.Values
	if conf.Annotations.Ask {
		values = askAgent(conf.AgentSocket, args, log)
	}
	authors, err := cniconf.AnnotationTaps(values)
	if err != nil && conf.FailurePolicy == cniconf.Ignore {
		log.Error("the pod starts without the taps of its annotation", "error", err)
		r.leftOut = append(r.leftOut, err)
		authors, err = nil, nil
	}
	return wanted{taps: append(own, authors...), own: len(own)}, err
}

// askAgent asks the node agent for the pod's annotations. If nobody can say, the
// pod starts, and the log tells.
func askAgent(socket string, args *skel.CmdArgs, log *slog.Logger) map[string]string {
	if !exists(socket) {
		log.Warn("the runtime did not hand over the pod's annotations, and there is no node agent to ask; the pod starts without taps of its annotation", "agentSocket", socket)
		return nil
	}
	pod := cniconf.ParseArgs(args.Args)
	values, err := agent.Annotations(context.Background(), socket, agent.Request{
		Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ContainerID: args.ContainerID})
	if err != nil {
		log.Warn("the pod's annotations are unknown; the pod starts without taps of its annotation", "error", err)
		return nil
	}
	return values
}

// add makes the taps that are allowed. Under failurePolicy Ignore it goes on
// without those that cannot be; it returns one Made for each tap that is there.
func (s *session) add(w wanted, log *slog.Logger, r *reporter) ([]mirror.Made, error) {
	if err := s.complete(w.taps[:w.own], types.ErrInvalidNetworkConfig, w); err != nil {
		if err := s.lenient(w, err, log, r); err != nil {
			return nil, err
		}
		w.taps, w.own = w.taps[w.own:], 0
	}
	if err := s.complete(w.taps[w.own:], cniconf.CodeAnnotation, w); err != nil {
		if err := s.lenient(w, err, log, r); err != nil {
			return nil, err
		}
		w.taps = w.taps[:w.own]
	}
	facts, err := s.facts(w.taps)
	if err != nil {
		return nil, err
	}
	pod := cniconf.ParseArgs(s.args.Args)
	name := ""
	if pod.Name != "" {
		name = pod.Namespace + "/" + pod.Name
	}
	var made []mirror.Made
	for i, t := range w.taps {
		err := s.permit(w, i, pod.Namespace, facts)
		if err == nil {
			var m mirror.Made
			if m, err = s.pod.Add(s.owner, t, name); err == nil {
				for _, warning := range m.Warnings {
					log.Warn(warning, "tap", t.Device)
				}
				host := ""
				if m.Host != nil {
					host = m.Host.Name
				}
				log.Info("tap made", "tap", t.Device, "interface", t.Interface, "direction", t.Direction, "sink", t.Sink(), "host", host)
				made = append(made, m)
				continue
			}
			err = cniconf.Error(codeOf(err, w.isAuthors(i)), fmt.Errorf("tap %d (%q) of the %s: %w", i+1, t.Device, w.origin(i), err))
		}
		if err := s.lenient(w, err, log, r); err != nil {
			return nil, err
		}
	}
	return made, nil
}

// lenient swallows a tap's failure under failurePolicy Ignore. An attachment's
// only tap is the attachment itself and has to be.
func (s *session) lenient(w wanted, err error, log *slog.Logger, r *reporter) error {
	if s.conf.FailurePolicy != cniconf.Ignore || w.alone {
		return err
	}
	log.Error("the pod starts without a tap", "error", err)
	r.leftOut = append(r.leftOut, err)
	return nil
}

// codeOf is the CNI code of an error of pkg/mirror.
func codeOf(err error, authors bool) uint {
	switch {
	case errors.Is(err, mirror.ErrNoInterface):
		return cniconf.CodeInterface
	case errors.Is(err, mirror.ErrMTU):
		return cniconf.CodeMTU
	case errors.Is(err, mirror.ErrUnsupported):
		return cniconf.CodeUnsupported
	case errors.Is(err, mirror.ErrForbidden):
		return cniconf.CodePolicy
	case errors.Is(err, mirror.ErrBusy):
		return types.ErrTryAgainLater
	case errors.Is(err, mirror.ErrConflict) && authors:
		return cniconf.CodeAnnotation
	case errors.Is(err, mirror.ErrConflict):
		return types.ErrInvalidNetworkConfig
	}
	return types.ErrIOFailure
}

// answer prints the result.
func (s *session) answer(w wanted, made []mirror.Made) error {
	if w.alone {
		return s.conf.WriteAttachment(os.Stdout, cniconf.HostDevice(made[0].Device), s.args.Netns)
	}
	var hosts []cniconf.HostDevice
	for _, m := range made {
		if m.Host != nil {
			hosts = append(hosts, cniconf.HostDevice(*m.Host))
		}
	}
	return s.conf.WriteResult(os.Stdout, hosts)
}
