package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/podtap/podtap/pkg/cniconf"
)

func policyOf(text string) conf { return conf{"policy": json.RawMessage(text)} }

func TestWithoutAPolicyAuthorsMayOnlyHaveVethMirrors(t *testing.T) {
	s := newScene(t)
	untouched := s.untouched()
	for name, c := range map[string]struct {
		taps    string
		phrases []string // none: allowed
	}{
		"a veth":                {taps: "veth: {}"},
		"sixteen veths":         {taps: "[" + strings.Repeat("{veth: {}}, ", 16) + "]"},
		"a vxlan":               {"vxlan: {vni: 7, remote: 198.18.0.200}", []string{"vxlan", "sinks", `adding "vxlan"`, `adding "198.18.0.200"`}},
		"a vxlan in the pod":    {"vxlan: {vni: 7, remote: 198.18.0.200, placement: pod, oversize: fragment}", []string{`adding "pod"`}},
		"a wire":                {"wire: {addresses: [198.19.0.2/30]}", []string{`adding "wire"`}},
		"a name on the node":    {"veth: {hostInterface: sensor0}", []string{"sensor0", "hostNames"}},
		"one of two is a vxlan": {"[{veth: {}}, {vxlan: {vni: 7, remote: 198.18.0.200}}]", []string{"tap 2", `adding "vxlan"`}},
	} {
		t.Run(name, func(t *testing.T) {
			s := s.in(t)
			conf := s.annotated(c.taps)
			got := s.call("ADD", conf)
			if c.phrases != nil {
				got.fails(cniconf.CodePolicy, append(c.phrases, "refused", cniconf.AnnotationKey)...)
			} else {
				got.succeeds()
				s.call("CHECK", conf).silent()
				s.call("DEL", conf).silent()
			}
			untouched(t)
		})
	}
}

func TestAPolicyBoundsAuthorsAndNotTheNetworksConfiguration(t *testing.T) {
	const rules = `{"maxTaps":2,"rules":[{"namespaces":["default","prod-*"],"sinks":["vxlan"],"destinations":["198.18.0.0/24","fd00:18::200"],
		"vnis":["100-199"],"ports":["4789","14000"]}]}`
	vxlan := func(vni int, remote string, port int) string {
		return fmt.Sprintf(`{"vxlan":{"vni":%d,"remote":%q,"port":%d}}`, vni, remote, port)
	}
	allowed := vxlan(100, "198.18.0.200", 4789)
	cases := []struct {
		name, namespace, taps string
		phrases               []string // none: allowed
	}{
		{"within all", "default", allowed, nil},
		{"another namespace that matches", "prod-eu", vxlan(199, "fd00:18::200", 14000), nil},
		{"namespace", "dev", allowed, []string{"namespace dev", "policy.rules[0]", `adding "dev"`}},
		{"namespace unknown", "", allowed, []string{"namespace is unknown"}},
		{"destination", "default", vxlan(100, "198.18.1.1", 4789), []string{"198.18.1.1", "destinations", `adding "198.18.1.1"`}},
		{"VNI", "default", vxlan(200, "198.18.0.200", 4789), []string{"VNI 200", "100-199"}},
		{"port", "default", vxlan(100, "198.18.0.200", 4790), []string{"port 4790", "14000"}},
		{"sink", "default", `{"veth":{}}`, []string{"sink veth", `adding "veth"`}},
		{"too many", "default", "[" + allowed + "," + allowed + "," + allowed + "]", []string{"tap 3", "policy.maxTaps"}},
	}
	s := newScene(t)
	untouched := s.untouched()
	a := s.attachment()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := s.in(t)
			a.Namespace = c.namespace
			conf := s.annotated(c.taps).with(policyOf(rules))
			got := s.callFor(a, "ADD", conf)
			if c.phrases != nil {
				got.fails(cniconf.CodePolicy, c.phrases...)
				untouched(t)
				conf = s.configured(c.taps).with(policyOf(rules)) // nobody asks the administrator
				s.callFor(a, "ADD", conf).succeeds()
			} else {
				got.succeeds()
			}
			s.callFor(a, "CHECK", conf).silent()
			s.callFor(a, "DEL", conf).silent()
			untouched(t)
		})
	}
}

func TestAPolicyThatCannotBeReadFailsAddAndCheck(t *testing.T) {
	s := newScene(t)
	untouched := s.untouched()
	for text, phrase := range map[string]string{
		`{"rule":[]}`:                            "known are maxTaps",
		`{"maxTaps":17}`:                         "from 0 to 16",
		`{"rules":[{"sinks":["tee"]}]}`:          "veth, vxlan or wire",
		`{"rules":[{"vnis":["9-3"]}]}`:           "from 1 to 16777215",
		`{"rules":[{"ports":["0"]}]}`:            "from 1 to 65535",
		`{"rules":[{"destinations":["there"]}]}`: "198.18.0.0/15",
	} {
		for _, verb := range []string{"ADD", "CHECK"} {
			s.call(verb, s.annotated("veth: {}").with(policyOf(text))).fails(7, "policy", phrase)
		}
	}
	untouched(t)
}

func TestSomeCollectorsAreRefusedWhoeverAsks(t *testing.T) {
	s := newScene(t)
	foreign := &netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: "flannel.1"}, VxlanId: 1, Port: 8472}
	if err := s.node.Netlink.LinkAdd(foreign); err != nil {
		t.Fatal(err)
	}
	s.node.Up("flannel.1")
	s.node.VXLAN("vxlan.calico", 4096, 4789)
	s.pod.Address("lo", "198.18.9.9/32")
	untouched := s.untouched()
	for name, c := range map[string]struct {
		fields  string
		phrases []string
	}{
		"the pod's IPv4 address":                  {`"vni":7,"remote":"` + s.pod.IPv4 + `"`, []string{s.pod.IPv4, "pod's own address"}},
		"the pod's IPv6 address":                  {`"vni":7,"remote":"` + s.pod.IPv6 + `"`, []string{s.pod.IPv6, "pod's own address"}},
		"the pod's IPv4 address, mapped":          {`"vni":7,"remote":"::ffff:` + s.pod.IPv4 + `"`, []string{s.pod.IPv4, "pod's own address"}},
		"an address that the chain does not know": {`"vni":7,"remote":"198.18.9.9"`, []string{"pod's own address"}},
		"the cluster network's port and VNI":      {`"vni":1,"port":8472,"remote":"198.18.0.200"`, []string{"flannel.1", "port 8472 with VNI 1", "choose another"}},
		"Calico's, at the usual port":             {`"vni":4096,"remote":"198.18.0.200"`, []string{"vxlan.calico", "port 4789 with VNI 4096", "choose another"}},
		"flannel's, from the pod":                 {`"vni":1,"port":8472,"placement":"pod","oversize":"fragment","remote":"198.18.0.200"`, []string{"flannel.1"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := s.in(t)
			tap := `{"vxlan":{` + c.fields + `}}`
			s.call("ADD", s.annotated(tap).with(allowing())).fails(cniconf.CodePolicy, c.phrases...)
			untouched(t)
			s.call("ADD", s.configured(tap)).fails(cniconf.CodePolicy, append(c.phrases, "network configuration")...)
			untouched(t)
			attached := s.configured(tap).without("prevResult")
			a := s.attachment()
			a.IfName = "net1"
			s.callFor(a, "ADD", attached).fails(cniconf.CodePolicy, c.phrases...)
			untouched(t)
		})
	}
	for _, fields := range []string{`"vni":1,"remote":"198.18.0.200"`, `"vni":2,"port":8472,"remote":"198.18.0.200"`,
		`"vni":4096,"port":8472,"remote":"198.18.0.200"`} {
		conf := s.configured(`{"vxlan":{` + fields + `}}`)
		s.call("ADD", conf).succeeds()
		s.call("ADD", conf).succeeds() // its own relay is not foreign
		s.call("CHECK", conf).silent()
		s.call("DEL", conf).silent()
		untouched(t)
	}
}

func TestAVXLANDeviceInExternalModeOccupiesNoVNI(t *testing.T) {
	s := newScene(t)
	external := &netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: "cilium_vxlan"}, FlowBased: true, Port: 4789}
	if err := s.node.Netlink.LinkAdd(external); err != nil {
		t.Fatal(err)
	}
	s.node.Up("cilium_vxlan")
	untouched := s.untouched()
	for _, placement := range []string{"node", "pod"} {
		conf := s.configured(`{"vxlan":{"vni":7,"remote":"198.18.0.200","oversize":"fragment","placement":"` + placement + `"}}`)
		s.call("ADD", conf).succeeds()
		s.call("CHECK", conf).silent()
		s.call("DEL", conf).silent()
		untouched(t)
	}
}

// What is refused to everybody tells of the node's networks; an author who may
// not have the tap anyway learns nothing of them.
func TestWhomThePolicyRefusesLearnsNothingOfTheNode(t *testing.T) {
	s := newScene(t)
	s.node.VXLAN("flannel.1", 1, 8472)
	const taken = `{"vxlan":{"vni":1,"port":8472,"remote":"198.18.0.200"}}`
	got := s.call("ADD", s.annotated(taken)).fails(cniconf.CodePolicy, `adding "vxlan"`)
	if strings.Contains(got.stdout+got.stderr, "flannel.1") {
		t.Errorf("the author is told of the node's devices: %s", got.stdout)
	}
	s.call("ADD", s.annotated(taken).with(allowing())).fails(cniconf.CodePolicy, "flannel.1")
}

func TestTheNetworksTapsDoNotCountAsTheAuthors(t *testing.T) {
	s := newScene(t)
	c := s.annotated("[{veth: {}}, {veth: {}}]").with(policyOf(`{"maxTaps":2,"rules":[{"sinks":["veth"]}]}`),
		conf{"taps": json.RawMessage(`[{"device":"a","veth":{}},{"device":"b","veth":{}}]`)})
	s.call("ADD", c).succeeds()
	s.call("CHECK", c).silent()
}

// An address that the chain has given the pod, and that is nowhere in it: a
// plugin may have put it on a device of a virtual machine's.
func TestAnAddressThatOnlyTheChainKnowsIsThePodsToo(t *testing.T) {
	s := newScene(t)
	prev := strings.Replace(string(prevResult(newest, s.pod)), `"ips":[`, `"ips":[{"address":"198.18.9.8/32"},`, 1)
	s.call("ADD", s.configured(`{"vxlan":{"vni":7,"remote":"198.18.9.8"}}`).with(conf{"prevResult": json.RawMessage(prev)})).
		fails(cniconf.CodePolicy, "198.18.9.8", "pod's own address")
}
