package main

import (
	"fmt"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/podtap/podtap/pkg/cniconf"
	"github.com/podtap/podtap/pkg/mirror"
	"github.com/podtap/podtap/pkg/policy"
	"github.com/podtap/podtap/pkg/tap"
)

// session is one ADD's or CHECK's work on one pod, under the pod's lock.
type session struct {
	conf  *cniconf.Config
	args  *skel.CmdArgs
	owner mirror.Owner
	node  *mirror.Node
	pod   *mirror.Pod
	// present is what the pod had when the session began.
	present mirror.Present
	unlock  func()
}

func openSession(conf *cniconf.Config, args *skel.CmdArgs) (*session, error) {
	s := &session{conf: conf, args: args, owner: owner(conf.Name, args)}
	var err error
	if s.unlock, err = mirror.LockPod(args.ContainerID); err != nil {
		return nil, cniconf.Error(codeOf(err, false), err)
	}
	if s.node, err = mirror.OpenNode(); err != nil {
		s.close()
		return nil, cniconf.Error(types.ErrIOFailure, err)
	}
	if s.pod, err = s.node.OpenPod(args.Netns); err != nil {
		s.close()
		return nil, cniconf.Error(types.ErrInvalidNetNS, err)
	}
	if s.present, err = s.pod.Present(s.owner); err != nil {
		s.close()
		return nil, cniconf.Error(types.ErrIOFailure, err)
	}
	return s, nil
}

func (s *session) close() {
	if s.pod != nil {
		s.pod.Close()
	}
	if s.node != nil {
		s.node.Close()
	}
	s.unlock()
}

// complete fills in the defaults of the network configuration's own taps, or of
// the author's beside those: the chain's interface where the pod has it, else
// eth0, and the names of devices.
func (s *session) complete(taps []tap.Tap, code uint, w wanted) error {
	if len(taps) == 0 {
		return nil
	}
	iface := "eth0"
	if s.present.Has(s.args.IfName) && !w.alone {
		iface = s.args.IfName
	}
	of, others := "network configuration", []tap.Tap(nil)
	if code == cniconf.CodeAnnotation && !w.alone {
		of, others = "annotation "+cniconf.AnnotationKey, w.taps[:w.own]
	}
	if n := len(taps) + len(others); s.present.Taps > 0 && s.present.Taps+n > tap.MaxTaps {
		return cniconf.Error(code, fmt.Errorf("taps of the %s: the pod has %d of other networks, and %d more are too many; a pod may have at most %d",
			of, s.present.Taps, n, tap.MaxTaps))
	}
	if err := tap.Complete(taps, iface, s.present.Has, others...); err != nil {
		return cniconf.Error(code, fmt.Errorf("taps of the %s: %w", of, err))
	}
	return nil
}

// facts gathers what the policy must know, if there is a tap that it must know it for.
func (s *session) facts(taps []tap.Tap) (policy.Facts, error) {
	var facts policy.Facts
	sends := false
	for _, t := range taps {
		sends = sends || t.VXLAN != nil
	}
	if !sends {
		return facts, nil
	}
	told, err := s.conf.Addresses()
	if err != nil {
		return facts, err
	}
	has, err := s.pod.Addresses()
	if err != nil {
		return facts, cniconf.Error(types.ErrIOFailure, err)
	}
	foreign, err := s.node.ForeignVXLANs()
	if err != nil {
		return facts, cniconf.Error(types.ErrIOFailure, err)
	}
	facts.PodAddresses = append(told, has...)
	for _, v := range foreign {
		facts.NodeVXLANs = append(facts.NodeVXLANs, policy.NodeVXLAN(v))
	}
	return facts, nil
}

// permit says whether a tap may be made.
func (s *session) permit(w wanted, i int, namespace string, facts policy.Facts) error {
	var err error
	if w.isAuthors(i) {
		// First: what is refused to everybody tells of the node's networks.
		err = s.conf.Policy.Allow(w.taps[i], i-w.own, namespace)
	}
	if err == nil {
		err = policy.Refused(w.taps[i], facts)
	}
	if err != nil {
		return cniconf.Error(cniconf.CodePolicy, fmt.Errorf("tap %d (%q) of the %s is refused: %w", i+1, w.taps[i].Device, w.origin(i), err))
	}
	return nil
}
