package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/vishvananda/netlink"
	"go.yaml.in/yaml/v3"

	"github.com/podtap/podtap/pkg/cniconf"
)

// mistake is a text of taps that is wrong in itself, and what the message says
// that mends it.
type mistake struct {
	name, taps string
	phrases    []string
}

func mistakes() []mistake {
	vxlan := func(fields string) string { return "vxlan: {" + fields + "}" }
	remote := func(name, address string) mistake {
		return mistake{"remote is " + name, vxlan("vni: 7, remote: '" + address + "'"), []string{"vxlan.remote", address, "address"}}
	}
	device := func(name, device string, phrases ...string) mistake {
		return mistake{"device is " + name, "{device: " + device + ", veth: {}}", append([]string{"device"}, phrases...)}
	}
	const allowedName = "a name for a network device: at most 15 bytes"
	list := []mistake{
		{"unknown field", "{veth: {}, colour: red}", []string{"colour", "unknown field", "known are device, interface, direction"}},
		{"unknown field of a sink", vxlan("vni: 7, remote: 198.18.0.200, vid: 3"), []string{"vxlan.vid", "unknown field", "known are"}},
		{"a field of later", vxlan("vni: 7, node: worker1"), []string{"vxlan.node", "unknown field"}},
		{"two sinks", "{veth: {}, wire: {}}", []string{"veth and wire", "exactly one of veth, vxlan, wire"}},
		{"no sink", "{device: tap0}", []string{"has none", "exactly one of veth, vxlan, wire"}},
		{"not a tap", "[7]", []string{"7 is not a tap", "{veth: {}}"}},
		{"direction", "{veth: {}, direction: up}", []string{"direction", `"up"`, "ingress, egress, both"}},
		{"direction of a wire", "{wire: {}, direction: both}", []string{"direction", "wire"}},
		{"VNI 0", vxlan("vni: 0, remote: 198.18.0.200"), []string{"vxlan.vni: 0", "from 1 to 16777215"}},
		{"VNI too large", vxlan("vni: 16777216, remote: 198.18.0.200"), []string{"vxlan.vni: 16777216", "from 1 to 16777215"}},
		{"VNI missing", vxlan("remote: 198.18.0.200"), []string{"vxlan.vni: is missing", "from 1 to 16777215"}},
		{"VNI in words", vxlan("vni: seven, remote: 198.18.0.200"), []string{"vxlan.vni", "seven", "from 1 to 16777215"}},
		{"port 0", vxlan("vni: 7, remote: 198.18.0.200, port: 0"), []string{"vxlan.port: 0", "from 1 to 65535"}},
		{"port too large", vxlan("vni: 7, remote: 198.18.0.200, port: 65536"), []string{"vxlan.port: 65536", "from 1 to 65535"}},
		{"ttl too large", vxlan("vni: 7, remote: 198.18.0.200, ttl: 256"), []string{"vxlan.ttl: 256", "from 1 to 255"}},
		{"remote missing", vxlan("vni: 7"), []string{"vxlan.remote: is missing", "IPv4 or IPv6 address"}},
		remote("IPv4 multicast", "239.1.1.1"), remote("IPv6 multicast", "ff02::1"), remote("unspecified", "0.0.0.0"),
		remote("unspecified, IPv6", "::"), remote("loopback", "127.0.0.1"), remote("loopback, IPv6", "::1"),
		remote("loopback, mapped", "::ffff:127.0.0.1"), remote("link-local", "169.254.1.1"), remote("link-local, IPv6", "fe80::1"),
		remote("broadcast", "255.255.255.255"), remote("a hostname", "collector.example.com"), remote("a prefix", "198.18.0.0/24"),
		remote("with a zone", "fe80::1%eth0"), remote("with a port", "198.18.0.200:4789"),
		device("too long", "sixteen-bytes-xx", "sixteen-bytes-xx", allowedName), device("lo", "lo", allowedName),
		device("all", "all", allowedName), device("default", "default", allowedName), device("with a slash", "a/b", "a/b", allowedName),
		device("with a newline", `"a\nb"`, `a\nb`, allowedName), device("with a colon", "'a:b'", allowedName),
		device("with a space", "a b", allowedName), device("a pattern", "tap%d", allowedName), device("a dot", ".", allowedName),
		device("empty", "''", allowedName), device("a number", "7", allowedName),
		{"a host interface too long", "veth: {hostInterface: sixteen-bytes-xx}", []string{"veth.hostInterface", allowedName}},
		{"duplicate devices", "[{device: a, veth: {}}, {device: a, veth: {}}]", []string{"tap 2", "device", "tap 1's too", "each needs its own"}},
		{"duplicate host interfaces", "[{veth: {hostInterface: a}}, {wire: {hostInterface: a}}]", []string{"tap 2", "wire.hostInterface", "each needs its own"}},
		{"17 taps", "[" + strings.Repeat("{veth: {}}, ", 17) + "]", []string{"17 taps are too many", "at most 16"}},
		{"many mistakes", "[" + strings.Repeat("{device: "+strings.Repeat("long", 20)+", vxlan: {vni: -1, remote: nowhere, port: none}}, ", 16) + "]", []string{"tap 1", "more mistakes"}},
		{"a wire's address", "wire: {addresses: [198.19.0.2]}", []string{"wire.addresses[0]", "prefix length"}},
		{"a wire's MTU", "wire: {mtu: 67}", []string{"wire.mtu: 67", "from 68 to 65535"}},
		{"the tap's interface", "{interface: 'a/b', veth: {}}", []string{"interface", "such as eth0"}},
		{"interface is no name", "{interface: [eth0], veth: {}}", []string{"interface", "such as eth0"}},
	}
	return list
}

func TestAMistakeInAnAnnotationFailsAddAndTheMessageMendsIt(t *testing.T) {
	s := newScene(t)
	untouched := s.untouched()
	textual := []mistake{
		{"broken YAML", "veth: {", []string{"not valid YAML or JSON", "line 1"}},
		{"a tab", "- veth: {}\n\t- veth: {}", []string{"not valid YAML or JSON", "line 2"}},
		{"two documents", "veth: {}\n---\nveth: {}", []string{"YAML document", "one list"}},
		{"a field twice", "{veth: {}, veth: {}}", []string{"veth"}},
		{"1 MB", strings.Repeat("[{veth: {}}, ", 1<<20/13), []string{"bytes", "at most 65536"}},
		{"an alias bomb", aliasBomb(), []string{"alias"}},
		{"words", "please tap me", []string{"is not a tap", "{veth: {}}"}},
		{"control characters", "veth: \x01\x02", []string{"not valid YAML or JSON"}},
	}
	for _, m := range append(textual, mistakes()...) {
		t.Run(m.name, func(t *testing.T) {
			s := s.in(t)
			c := s.annotated(m.taps).with(allowing())
			phrases := append([]string{cniconf.AnnotationKey}, m.phrases...)
			if strings.HasPrefix(m.name, "duplicate") {
				phrases[0] = "annotation"
			}
			s.call("ADD", c).fails(cniconf.CodeAnnotation, phrases...)
			untouched(t)
		})
	}
}

func TestAMistakeInTheNetworkConfigurationsTapsFailsAddAsItsOwn(t *testing.T) {
	s := newScene(t)
	untouched := s.untouched()
	for _, m := range mistakes() {
		t.Run(m.name, func(t *testing.T) {
			s := s.in(t)
			c := s.configured(inJSON(t, m.taps))
			s.call("ADD", c).fails(types.ErrInvalidNetworkConfig, append([]string{"network configuration"}, m.phrases...)...)
			untouched(t)
		})
	}
}

// aliasBomb is a short text that stands for 10^9 words.
func aliasBomb() string {
	text := "a0: &a0 [x]\n"
	for i := range 9 {
		text += fmt.Sprintf("a%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i), 10), ", "))
	}
	return text
}

// inJSON is YAML, as somebody writes it in a network configuration.
func inJSON(t *testing.T, text string) string {
	t.Helper()
	var tree any
	if err := yaml.Unmarshal([]byte(text), &tree); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestATapThatDoesNotFitThePodFailsAddAndLeavesNothing(t *testing.T) {
	s := newScene(t)
	tun := &netlink.Tuntap{LinkAttrs: netlink.LinkAttrs{Name: "tun0"}, Mode: netlink.TUNTAP_MODE_TUN}
	haveTun := false
	s.pod.Do(func() error {
		haveTun = netlink.LinkAdd(tun) == nil
		return nil
	})
	s.node.Bridge("sensor0", 1500)
	untouched := s.untouched()
	const ours = 0 // the code that tells whose mistake it is
	cases := []struct {
		name, taps string
		code       uint
		phrases    []string
		skip       bool
	}{
		{"the interface does not exist", "{interface: eth7, veth: {}}", cniconf.CodeInterface, []string{"eth7", "it has lo, ", "eth0"}, false},
		{"the interface is lo", "{interface: lo, veth: {}}", cniconf.CodeUnsupported, []string{"lo", "only Ethernet"}, false},
		{"the interface is a tun device", "{interface: tun0, veth: {}}", cniconf.CodeUnsupported, []string{"tun0", "only Ethernet"}, !haveTun},
		{"the device is eth0", "{device: eth0, veth: {}}", ours, []string{"device", "eth0", "in use", "choose another"}, false},
		{"the host interface is taken", "veth: {hostInterface: sensor0}", ours, []string{"veth.hostInterface", "sensor0", "in use", "choose another"}, false},
		{"the wire's network is the pod's", "wire: {addresses: [" + s.pod.IPv4 + "/24]}", ours, []string{"wire.addresses", "in use", "choose another"}, false},
		{"the wire's network is the node's", "wire: {hostAddresses: ['fd00:18::99/64']}", ours, []string{"wire.hostAddresses", "in use", "choose another"}, false},
		{"the copies do not fit", "vxlan: {vni: 7, remote: 'fd00:18::200', oversize: refuse}", cniconf.CodeMTU, []string{"vxlan.oversize", "1450", "1520", "1500"}, false},
		{"the copies do not fit, in the pod", "vxlan: {vni: 7, remote: 'fd00:18::200', placement: pod}", cniconf.CodeMTU, []string{"vxlan.oversize", "1450", "1500"}, false},
		{"refuse without a route", "vxlan: {vni: 7, remote: '203.0.113.1', oversize: refuse}", cniconf.CodeMTU, []string{"vxlan.oversize", "203.0.113.1"}, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := s.in(t)
			if c.skip {
				t.Log("this kernel has no tun devices")
				return
			}
			for origin, own := range map[string]uint{"annotation": cniconf.CodeAnnotation, "network configuration": types.ErrInvalidNetworkConfig} {
				conf := s.annotated(c.taps).with(allowing())
				if strings.Contains(c.taps, "203.0.113.1") {
					conf["policy"] = json.RawMessage(`{"rules":[{"sinks":["vxlan"],"destinations":["203.0.113.0/24"]}]}`)
				}
				if origin == "network configuration" {
					conf = s.configured(inJSON(t, c.taps))
				}
				code := c.code
				if code == ours {
					code = own
				}
				s.call("ADD", conf).fails(code, append([]string{"tap 1 (", origin}, c.phrases...)...)
				untouched(t)
			}
		})
	}
}

func TestTooManyTapsOfBothTogetherFailAdd(t *testing.T) {
	s := newScene(t)
	var taps []string
	for i := range 9 {
		taps = append(taps, fmt.Sprintf(`{"device":"tap%d","veth":{}}`, i))
	}
	text := "[" + strings.Join(taps, ",") + "]"
	untouched := s.untouched()
	s.call("ADD", s.annotated(text).with(conf{"taps": json.RawMessage(text)})).
		fails(cniconf.CodeAnnotation, "9 taps are too many beside the 9 of the network configuration", "at most 16")
	untouched(t)
}
