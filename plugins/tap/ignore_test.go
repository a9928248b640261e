package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
)

func TestUnderIgnoreThePodStartsWithoutTheTapThatCannotBe(t *testing.T) {
	s := newScene(t)
	untouched := s.untouched()
	const good = `{"device":"near","veth":{}},{"device":"far","vxlan":{"vni":100,"remote":"198.18.0.200"}}`
	for name, c := range map[string]struct{ bad, says string }{
		"no such interface": {`{"device":"bad","interface":"eth7","veth":{}}`, "no such interface as eth7"},
		"name taken":        {`{"device":"eth0","veth":{}}`, "choose another"},
		"refused":           {`{"device":"bad","vxlan":{"vni":100,"remote":"203.0.113.1"}}`, "203.0.113.1"},
		"does not fit":      {`{"device":"bad","vxlan":{"vni":7,"remote":"fd00:18::200","oversize":"refuse"}}`, "MTU"},
	} {
		t.Run(name, func(t *testing.T) {
			s := s.in(t)
			for _, taps := range []string{"[" + good + "," + c.bad + "]", "[" + c.bad + "," + good + "]"} {
				conf := s.annotated(taps).with(allowing(), ignoring())
				got := s.call("ADD", conf).says("level=ERROR", "the pod starts without a tap", c.says)
				if n := len(got.result().Interfaces); n != 3 {
					t.Errorf("the result has %d interfaces, want eth0 and the node's of the two good taps", n)
				}
				if !s.pod.Has("near") || !s.pod.Has("far") || s.pod.Has("bad") {
					t.Errorf("the pod has not exactly the good taps: %q", snap(t, s.pod.Space))
				}
				s.call("CHECK", conf).silent()
				s.call("DEL", conf).silent()
				untouched(t)
			}
		})
	}
}

func TestUnderIgnoreABadAnnotationOnlyCostsItsOwnTaps(t *testing.T) {
	s := newScene(t)
	untouched := s.untouched()
	for name, annotation := range map[string]string{"broken": "veth: {", "unknown field": "[{veth: {}}, {veth: {}, colour: red}]"} {
		t.Run(name, func(t *testing.T) {
			s := s.in(t)
			conf := s.annotated(annotation).with(ignoring(), conf{"taps": json.RawMessage(`[{"device":"near","veth":{}}]`)})
			s.call("ADD", conf).succeeds().says("level=ERROR", "the pod starts without the taps of its annotation")
			if !s.pod.Has("near") || s.pod.Has("mirror") {
				t.Errorf("the pod has not exactly the network's tap: %q", snap(t, s.pod.Space))
			}
			s.call("CHECK", conf).silent()
			s.call("DEL", conf).silent()
			untouched(t)
			// Nothing but a bad annotation: the result is what came in.
			alone := s.annotated(annotation).with(ignoring())
			if got := s.call("ADD", alone).succeeds(); got.stdout != string(prevResult(newest, s.pod)) {
				t.Errorf("result is %s, want what came in", got.stdout)
			}
			s.call("CHECK", alone).silent()
			untouched(t)
		})
	}
}

func TestUnderIgnoreTheAnnotationCannotCostTheNetworksTaps(t *testing.T) {
	s := newScene(t)
	untouched := s.untouched()
	for name, annotation := range map[string]string{
		"a device of the network's": "{device: near, veth: {}}",
		"too many together":         "[" + strings.Repeat("{veth: {}}, ", 16) + "]",
	} {
		t.Run(name, func(t *testing.T) {
			s := s.in(t)
			conf := s.annotated(annotation).with(ignoring(), conf{"taps": json.RawMessage(`[{"device":"near","veth":{}}]`)})
			s.call("ADD", conf).succeeds()
			if !s.pod.Has("near") {
				t.Error("the pod's author has got rid of the network's tap")
			}
			s.call("CHECK", conf).silent()
			s.call("DEL", conf).silent()
			untouched(t)
		})
	}
}

func TestUnderIgnoreCheckStillSeesDamage(t *testing.T) {
	s := newScene(t)
	conf := s.configured(`[{"device":"near","veth":{}},{"device":"bad","interface":"eth7","veth":{}}]`).with(ignoring())
	s.call("ADD", conf).succeeds()
	s.call("CHECK", conf).silent()
	if err := s.pod.Netlink.LinkSetDown(s.pod.Link("near")); err != nil {
		t.Fatal(err)
	}
	s.call("CHECK", conf).fails(105, "near", "down")
}

func TestUnderIgnoreAnAttachmentStillNeedsItsOnlyTap(t *testing.T) {
	s := newScene(t)
	untouched := s.untouched()
	a := s.attachment()
	a.IfName = "net1"
	bad := s.configured(`[{"interface":"eth7","veth":{}}]`).with(ignoring()).without("prevResult")
	s.callFor(a, "ADD", bad).fails(101, "eth7")
	untouched(t)
	// So does a mistake of the administrator's stay one.
	s.call("ADD", s.configured(`[{"vxlan":{}}]`).with(ignoring())).fails(types.ErrInvalidNetworkConfig, "vxlan.vni")
	untouched(t)
}

// Two taps of the administrator's that cannot be together cost only themselves.
func TestUnderIgnoreTheNetworksMistakeDoesNotCostTheAuthorsTaps(t *testing.T) {
	s := newScene(t)
	untouched := s.untouched()
	c := s.annotated("veth: {}").with(ignoring(), conf{"taps": json.RawMessage(`[{"device":"a","veth":{}},{"device":"a","veth":{}}]`)})
	s.call("ADD", c).succeeds().says("level=ERROR", "the pod starts without a tap")
	if !s.pod.Has("mirror") || s.pod.Has("a") {
		t.Errorf("the pod has not exactly the author's tap: %q", snap(t, s.pod.Space))
	}
	s.call("CHECK", c).silent()
	s.call("DEL", c).silent()
	untouched(t)
}
