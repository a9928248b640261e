package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/podtap/podtap/internal/lab"
)

func TestTheChainsOwnInterfaceIsTappedElseEth0(t *testing.T) {
	s := newScene(t)
	lab.Cable(s.node.Space, "second", s.pod.Space, "eth1", 1450)
	untouched := s.untouched()
	for ifName, tapped := range map[string]string{"eth0": "eth0", "eth1": "eth1", "ens5": "eth0"} {
		t.Run(ifName, func(t *testing.T) {
			s := s.in(t)
			a := s.attachment()
			a.IfName = ifName
			for origin, c := range map[string]conf{"annotation": s.annotated("veth: {}"), "network": s.configured(`{"veth":{}}`)} {
				s.callFor(a, "ADD", c).succeeds()
				now := snap(t, s.pod.Space)
				other := map[string]string{"eth0": "eth1", "eth1": "eth0"}[tapped]
				if now.count("filter on "+tapped) == 0 || now.count("filter on "+other) != 0 {
					t.Errorf("the %s's tap is not at %s alone: %q", origin, tapped, now)
				}
				s.callFor(a, "CHECK", c).silent()
				s.callFor(a, "DEL", c).silent()
				untouched(t)
			}
		})
	}
}

func TestLongNamesOfContainersAndNetworksAreToldApart(t *testing.T) {
	s := newScene(t)
	nameless(t, s.node.Space)
	untouched := s.untouched()
	one, two := s.attachment(), s.attachment()
	one.ID, two.ID = strings.Repeat("c", 200)+"1", strings.Repeat("c", 200)+"2"
	network := conf{"name": strings.Repeat("n", 200)}
	first := s.configured(`[{"device":"a","vxlan":{"vni":100,"remote":"198.18.0.200"}}]`).with(network)
	second := s.configured(`[{"device":"b","vxlan":{"vni":100,"remote":"198.18.0.200"}}]`).with(network)
	s.callFor(one, "ADD", first).succeeds()
	before := s.untouched()
	s.callFor(two, "ADD", second).succeeds()
	s.callFor(one, "CHECK", first).silent()
	s.callFor(two, "CHECK", second).silent()
	valid := conf{"cni.dev/valid-attachments": []any{map[string]string{"containerID": one.ID, "ifname": one.IfName}}}
	s.call("GC", first.with(valid)).silent()
	before(t)
	s.callFor(two, "DEL", second).silent()
	before(t)
	s.callFor(one, "DEL", first).silent()
	untouched(t)
}

func TestAResultThatCannotBeReadFailsAddAndLeavesNothing(t *testing.T) {
	s := newScene(t)
	untouched := s.untouched()
	for name, prev := range map[string]string{
		"not an object":       `7`,
		"addresses of a kind": `{"cniVersion":"1.1.0","ips":"none"}`,
		"an address":          `{"cniVersion":"1.1.0","ips":[{"address":"nowhere"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			s := s.in(t)
			for _, taps := range []string{`[{"veth":{}}]`, everySink} {
				c := s.configured(taps).with(conf{"prevResult": json.RawMessage(prev)})
				s.call("ADD", c).fails(types.ErrDecodingFailure, "prevResult")
				untouched(t)
			}
		})
	}
}

// A plugin before may answer in a version of the same form.
func TestAResultOfAnotherVersionIsHandedOnInTheNetworks(t *testing.T) {
	s := newScene(t)
	untouched := s.untouched()
	for network, result := range map[string]string{"1.1.0": "1.0.0", "1.0.0": "1.1.0", "0.3.1": "0.4.0", "0.4.0": "0.3.0"} {
		for _, taps := range []string{`[{"veth":{}}]`, `[]`} {
			t.Run(network+" after "+result+" with "+taps, func(t *testing.T) {
				s := s.in(t)
				c := s.chained(network).with(conf{"taps": json.RawMessage(taps), "prevResult": prevResult(result, s.pod)})
				got := s.call("ADD", c).succeeds()
				if !strings.Contains(strings.ReplaceAll(got.stdout, " ", ""), `"cniVersion":"`+network+`"`) || len(got.result().IPs) != 2 {
					t.Errorf("result is %s, want the pod's addresses in version %s", got.stdout, network)
				}
				s.call("DEL", c).silent()
				untouched(t)
			})
		}
	}
}
