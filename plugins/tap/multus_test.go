package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/podtap/podtap/pkg/cniconf"
)

// attached is a network whose only plugin is podtap, as a
// NetworkAttachmentDefinition has it.
func attached(version, name, taps string) conf {
	return conf{"cniVersion": version, "name": name, "type": "podtap", "taps": json.RawMessage(taps)}
}

// cniArgs are the attachment's words, which Multus puts into the configuration.
func cniArgs(text string) conf {
	return conf{"args": map[string]any{"cni": json.RawMessage(text)}}
}

// net1 is the attachment of the scene's pod that Multus makes first.
func (s *scene) net1() attachment {
	a := s.attachment()
	a.IfName = "net1"
	return a
}

func TestAnAttachmentIsExactlyOneInterfaceOfThePod(t *testing.T) {
	s := newScene(t)
	untouched := s.untouched()
	for _, version := range versions {
		for name, taps := range map[string]string{
			"a list":             `[{"veth":{}}]`,
			"one tap":            `{"veth":{}}`,
			"its own name":       `[{"device":"net1","interface":"eth0","veth":{}}]`,
			"a relay":            `[{"vxlan":{"vni":100,"remote":"198.18.0.200"}}]`,
			"VXLAN in the pod":   `[{"vxlan":{"vni":100,"remote":"198.18.0.200","placement":"pod","oversize":"fragment"}}]`,
			"a wire":             `[{"wire":{"addresses":["198.19.0.2/30"]}}]`,
			"a name on the node": `[{"veth":{"hostInterface":"sensor0"}}]`,
		} {
			t.Run(version+" "+name, func(t *testing.T) {
				s := s.in(t)
				c := attached(version, "sensors", taps)
				got := s.callFor(s.net1(), "ADD", c).succeeds()
				result := got.result()
				if len(result.Interfaces) != 1 || len(result.IPs) != 0 || len(result.Routes) != 0 {
					t.Fatalf("result is %s, want one interface and no addresses", got.stdout)
				}
				link := s.pod.Link("net1").Attrs()
				i := result.Interfaces[0]
				if i.Name != "net1" || i.Sandbox != s.pod.Path() || i.Mac != link.HardwareAddr.String() {
					t.Errorf("the interface is %+v, want the pod's net1, %s, in %s", i, link.HardwareAddr, s.pod.Path())
				}
				if version >= "0.4.0" {
					cached := c.with(conf{"prevResult": json.RawMessage(got.stdout)})
					s.callFor(s.net1(), "CHECK", cached).silent()
					if err := s.pod.Netlink.LinkSetDown(s.pod.Link("net1")); err != nil {
						t.Fatal(err)
					}
					s.callFor(s.net1(), "CHECK", cached).fails(cniconf.CodeDrift, "net1", "down")
					if err := s.pod.Netlink.LinkDel(s.pod.Link("net1")); err != nil {
						t.Fatal(err)
					}
					s.callFor(s.net1(), "CHECK", cached).fails(cniconf.CodeDrift, "net1", "missing")
				}
				s.callFor(s.net1(), "DEL", c.with(conf{"prevResult": json.RawMessage(got.stdout)})).silent()
				untouched(t)
			})
		}
	}
}

func TestAnAttachmentHasExactlyOneTap(t *testing.T) {
	s := newScene(t)
	untouched := s.untouched()
	for name, c := range map[string]struct {
		taps   string
		phrase string
	}{
		"none":           {`[]`, "exactly one"},
		"null":           {`null`, "exactly one"},
		"two":            {`[{"veth":{}},{"veth":{}}]`, "exactly one"},
		"invalid":        {`[{"vxlan":{"vni":0,"remote":"198.18.0.200"}}]`, "vxlan.vni"},
		"another device": {`[{"device":"mirror","veth":{}}]`, `"net1"`},
	} {
		t.Run(name, func(t *testing.T) {
			s := s.in(t)
			s.callFor(s.net1(), "ADD", attached(newest, "sensors", c.taps)).fails(types.ErrInvalidNetworkConfig, c.phrase)
			untouched(t)
			s.callFor(s.net1(), "DEL", attached(newest, "sensors", c.taps)).silent()
			untouched(t)
		})
	}
	a := s.attachment() // eth0 is there already
	s.callFor(a, "ADD", attached(newest, "sensors", `[{"veth":{}}]`)).fails(types.ErrInvalidNetworkConfig, "eth0", "in use")
	untouched(t)
}

func TestAnAttachmentsArgumentsStandUnderThePolicy(t *testing.T) {
	s := newScene(t)
	untouched := s.untouched()
	base := attached(newest, "sensors", `[{"vxlan":{"vni":100,"remote":"198.18.0.200"}}]`)
	rules := policyOf(`{"rules":[{"sinks":["vxlan"],"destinations":["198.18.0.200"],"vnis":["100-199"]}]}`)
	for name, c := range map[string]struct {
		conf    conf
		code    uint // 0: allowed
		phrases []string
	}{
		"VNI allowed":              {base.with(rules, cniArgs(`{"vxlan":{"vni":150}}`)), 0, nil},
		"direction":                {base.with(rules, cniArgs(`{"direction":"egress"}`)), 0, nil},
		"VNI refused":              {base.with(rules, cniArgs(`{"vxlan":{"vni":200}}`)), cniconf.CodePolicy, []string{"VNI 200", "100-199"}},
		"no policy":                {base.with(cniArgs(`{"vxlan":{"vni":150}}`)), cniconf.CodePolicy, []string{`adding "vxlan"`}},
		"no arguments, no policy":  {base, 0, nil},
		"empty arguments":          {base.with(cniArgs(`{}`)), 0, nil},
		"another destination":      {base.with(rules, cniArgs(`{"vxlan":{"remote":"198.18.0.201"}}`)), cniconf.CodePolicy, []string{"198.18.0.201"}},
		"VNI invalid":              {base.with(rules, cniArgs(`{"vxlan":{"vni":0}}`)), cniconf.CodeAnnotation, []string{"vxlan.vni", "16777215"}},
		"unknown field":            {base.with(rules, cniArgs(`{"colour":"red"}`)), cniconf.CodeAnnotation, []string{"colour", "unknown field"}},
		"a second sink":            {base.with(rules, cniArgs(`{"veth":{}}`)), cniconf.CodeAnnotation, []string{"exactly one of veth, vxlan, wire"}},
		"another device":           {base.with(rules, cniArgs(`{"device":"mirror"}`)), cniconf.CodeAnnotation, []string{`"net1"`}},
		"an interface that is not": {base.with(rules, cniArgs(`{"interface":"eth7"}`)), cniconf.CodeInterface, []string{"eth7"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := s.in(t)
			got := s.callFor(s.net1(), "ADD", c.conf)
			if c.code != 0 {
				got.fails(c.code, c.phrases...)
			} else {
				cached := c.conf.with(conf{"prevResult": json.RawMessage(got.succeeds().stdout)})
				s.callFor(s.net1(), "CHECK", cached).silent()
				s.callFor(s.net1(), "DEL", cached).silent()
			}
			untouched(t)
		})
	}
}

func TestTwoNetworksOfOnePodDoNotDisturbEachOther(t *testing.T) {
	for _, first := range []string{"the chain", "the attachment"} {
		t.Run(first+" goes first", func(t *testing.T) {
			s := newScene(t)
			untouched := s.untouched()
			type network struct {
				at     attachment
				conf   conf
				sensor string
			}
			chain := network{s.attachment(), s.configured(`[{"veth":{"hostInterface":"sensor0"}},
				{"vxlan":{"vni":100,"remote":"198.18.0.200"}}]`), "sensor0"}
			extra := network{s.net1(), attached(newest, "sensors", `[{"veth":{"hostInterface":"sensor1"}}]`), "sensor1"}
			shares := network{s.net1(), attached(newest, "far", `[{"vxlan":{"vni":100,"remote":"198.18.0.200"}}]`), ""}
			shares.at.IfName = "net2"
			// Multus adds the default network first.
			for _, n := range []*network{&chain, &extra, &shares} {
				got := s.callFor(n.at, "ADD", n.conf).succeeds()
				n.conf = n.conf.with(conf{"prevResult": json.RawMessage(got.stdout)})
			}
			works := func(n network) {
				t.Helper()
				s.callFor(n.at, "CHECK", n.conf).silent()
				if n.sensor == "" {
					return
				}
				seen := s.node.Capture(n.sensor)
				if answered := s.pod.Ping("198.18.101.1", 2); answered != 2 {
					t.Errorf("%d of 2 pings were answered", answered)
				}
				if frames := len(seen.Settle(4)); frames < 4 {
					t.Errorf("%s saw %d frames, want 2 requests and 2 replies", n.sensor, frames)
				}
				seen.Stop()
			}
			works(chain)
			works(extra)
			works(shares)
			goes, stays := chain, extra
			if first == "the attachment" {
				goes, stays = extra, chain
			}
			s.callFor(goes.at, "DEL", goes.conf).silent()
			works(stays)
			works(shares)
			s.callFor(stays.at, "DEL", stays.conf).silent()
			works(shares)
			s.callFor(shares.at, "DEL", shares.conf).silent()
			untouched(t)
		})
	}
}

func TestAChainBehindAPluginWithoutAddressesIsAChain(t *testing.T) {
	for name, prev := range map[string]string{
		"an empty result":        `{"cniVersion":"1.1.0"}`,
		"an interface, no IPs":   `{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","sandbox":"NETNS"}]}`,
		"an interface, no netns": `{"cniVersion":"1.1.0","interfaces":[{"name":"eth0"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			untouched := s.untouched()
			prev := json.RawMessage(strings.ReplaceAll(prev, "NETNS", s.pod.Path()))
			c := s.configured(`[{"veth":{"hostInterface":"sensor0"}},{"veth":{}}]`).with(conf{"prevResult": prev})
			had := len(parseResult(t, string(prev)).Interfaces)
			got := s.call("ADD", c)
			if n := len(got.result().Interfaces); n != had+2 {
				t.Errorf("the result has %d interfaces, want %d and 2: %s", n, had, got.stdout)
			}
			s.call("CHECK", c.with(conf{"prevResult": json.RawMessage(got.stdout)})).silent()
			s.call("CHECK", c).silent()
			s.call("DEL", c).silent()
			untouched(t)
		})
	}
}

func TestSixteenTapsIsTheMostOfAllNetworksTogether(t *testing.T) {
	s := newScene(t)
	var taps []string
	for i := range 16 {
		taps = append(taps, fmt.Sprintf(`{"device":"tap%d","veth":{}}`, i))
	}
	s.call("ADD", s.configured("["+strings.Join(taps, ",")+"]")).succeeds()
	untouched := s.untouched()
	s.callFor(s.net1(), "ADD", attached(newest, "sensors", `[{"veth":{}}]`)).
		fails(types.ErrInvalidNetworkConfig, "the pod has 16 of other networks, and 1 more are too many", "at most 16")
	untouched(t)
}
