package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/podtap/podtap/pkg/cniconf"
	"github.com/podtap/podtap/pkg/tap"
)

// cmdCheck compares the kernel with the taps in its own input. It asks nobody: of
// taps of an annotation that is not in it, and of all where ADD was free to leave
// some out, it checks that those which are there are whole.
func cmdCheck(args *skel.CmdArgs) error {
	conf, err := cniconf.Parse(args.StdinData)
	if err != nil {
		return err
	}
	s, err := openSession(conf, args)
	if err != nil {
		return err
	}
	defer s.close()
	problems, err := s.check()
	if err != nil {
		return err
	}
	if len(problems) > 0 {
		return cniconf.Error(cniconf.CodeDrift, errors.New(strings.Join(problems, "; ")+"; recreate the pod to have its taps made anew"))
	}
	return nil
}

func (s *session) check() ([]string, error) {
	w, all, err := s.expected()
	if err != nil {
		return nil, err
	}
	if err := s.complete(w.taps[:w.own], types.ErrInvalidNetworkConfig, w); err != nil {
		return nil, err
	}
	if err := s.complete(w.taps[w.own:], cniconf.CodeAnnotation, w); err != nil {
		return nil, err
	}
	problems, err := s.pod.Check(s.owner, w.taps)
	if err == nil && !all {
		var more []string
		more, err = s.pod.CheckOwned(s.owner)
		problems = append(problems, slices.DeleteFunc(more, func(p string) bool { return slices.Contains(problems, p) })...)
	}
	if err != nil {
		return nil, cniconf.Error(types.ErrIOFailure, err)
	}
	return problems, nil
}

// expected are the taps that ADD must have made, as far as the input tells; all is
// false where there may be others.
func (s *session) expected() (w wanted, all bool, err error) {
	if s.conf.IsAttachment(s.args.IfName, s.args.Netns) {
		// A chain behind a plugin without addresses looks the same: there the
		// interface is not a tap's.
		if !s.present.Has(s.args.IfName) {
			t, _, err := s.conf.AttachmentTap(s.args.IfName)
			return wanted{taps: []tap.Tap{t}, own: 1, alone: true}, true, err
		}
	}
	own, err := s.conf.NetworkTaps()
	if err != nil || s.conf.FailurePolicy == cniconf.Ignore {
		return w, false, err
	}
	if s.conf.Annotations.Ask {
		return wanted{taps: own, own: len(own)}, false, nil
	}
	authors, err := cniconf.AnnotationTaps(s.conf.Annotations.Values)
	return wanted{taps: append(own, authors...), own: len(own)}, true, err
}
