package cniconf

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

var versions = []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}

// chained is the configuration of a plugin behind others, in a version.
func chained(t *testing.T, version, prevResult string) *Config {
	t.Helper()
	return parsed(t, fmt.Sprintf(`{"cniVersion":%q,"name":"cbr0","type":"podtap","prevResult":%s}`, version, prevResult))
}

// sameJSON compares two texts, whatever their spaces and the order of their keys.
func sameJSON(t *testing.T, what, got, want string) {
	t.Helper()
	var g, w any
	if err := json.Unmarshal([]byte(got), &g); err != nil {
		t.Fatalf("%s: %v in %s", what, err, got)
	}
	if err := json.Unmarshal([]byte(want), &w); err != nil {
		t.Fatalf("%s: %v in %s", what, err, want)
	}
	if !reflect.DeepEqual(g, w) {
		t.Errorf("%s is\n%s\nwant\n%s", what, got, want)
	}
}

func TestAResultWithNothingToAppendGoesOutAsItCameIn(t *testing.T) {
	for _, version := range versions {
		// Odd spaces, an unknown field and the order of keys show any rewriting.
		prev := fmt.Sprintf("{ \"x\" : [1],\n\t\"cniVersion\":\"%s\" ,\"interfaces\": [], \"dns\": {} }", version)
		var out bytes.Buffer
		if err := chained(t, version, prev).WriteResult(&out, nil); err != nil || out.String() != prev {
			t.Errorf("%s: wrote %s, error %v, want the same bytes", version, out.String(), err)
		}
		// A result that does not say its version is one of the network's.
		for _, prev := range []string{`{ "interfaces" :[], "x":1}`, `{"cniVersion":"" ,"x":1}`, `{ "cniVersion":null}`, "{ }"} {
			out.Reset()
			if err := chained(t, version, prev).WriteResult(&out, nil); err != nil || out.String() != prev {
				t.Errorf("%s: wrote %s, error %v, want %s", version, out.String(), err, prev)
			}
		}
	}
}

func TestDevicesOfTheNodeAreAppendedInTheNetworksVersion(t *testing.T) {
	devices := []HostDevice{{Name: "veth0a1b2c3d4e5f", MAC: "02:00:00:00:00:04", MTU: 1450}, {Name: "tap-of-web", MAC: "02:00:00:00:00:05", MTU: 1450}}
	for _, version := range versions {
		c := chained(t, version, golden(t, "prev-"+version+".json"))
		var out bytes.Buffer
		if err := c.WriteResult(&out, devices); err != nil {
			t.Fatalf("%s: %v", version, err)
		}
		// In the golden results the addresses' interface is the same index, and
		// what was appended comes last and has no sandbox, and an MTU in 1.1.0 only.
		sameJSON(t, "result "+version, out.String(), golden(t, "result-"+version+".json"))
	}
}

func TestTheMTUIsToldInTheVersionThatKnowsIt(t *testing.T) {
	device := HostDevice{Name: "veth0a1b2c3d4e5f", MAC: "02:00:00:00:00:04", MTU: 1450}
	for version, told := range map[string]bool{"0.3.0": false, "0.3.1": false, "0.4.0": false, "1.0.0": false, "1.1.0": true} {
		c := chained(t, version, `{"cniVersion":"`+version+`"}`)
		var result, attachment bytes.Buffer
		if err := c.WriteResult(&result, []HostDevice{device}); err != nil {
			t.Fatalf("%s: %v", version, err)
		}
		if err := c.WriteAttachment(&attachment, device, "/var/run/netns/pod"); err != nil {
			t.Fatalf("%s: %v", version, err)
		}
		for _, out := range []string{result.String(), attachment.String()} {
			if strings.Contains(out, `"mtu": 1450`) != told || strings.Contains(strings.ToLower(out), "mtu") != told {
				t.Errorf("result in version %s is %s, want the MTU in it: %v", version, out, told)
			}
		}
	}
}

func TestWhatOtherPluginsToldOfInterfacesIsToldInTheVersionThatKnowsIt(t *testing.T) {
	const prev = `{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","mac":"02:00:00:00:00:03","sandbox":"/var/run/netns/pod","mtu":1450,"socketPath":"/s","pciID":"0:1"}]}`
	for _, version := range versions[:4] {
		var out bytes.Buffer
		if err := chained(t, version, prev).WriteResult(&out, nil); err != nil {
			t.Fatalf("%s: %v", version, err)
		}
		want := `{"cniVersion":"` + version + `","interfaces":[{"name":"eth0","mac":"02:00:00:00:00:03","sandbox":"/var/run/netns/pod"}]`
		if version < "1.0.0" {
			want += `,"dns":{}`
		}
		sameJSON(t, "result "+version, out.String(), want+"}")
	}
	var out bytes.Buffer
	if err := chained(t, "1.1.0", prev).WriteResult(&out, []HostDevice{{Name: "veth0"}}); err != nil {
		t.Fatal(err)
	}
	sameJSON(t, "result 1.1.0", out.String(), strings.Replace(prev, "}]", `},{"name":"veth0"}]`, 1))
}

func TestAResultIsConvertedWhereTheNetworksVersionIsAnother(t *testing.T) {
	addresses := []netip.Addr{netip.MustParseAddr("10.42.0.7"), netip.MustParseAddr("2001:db8:42::7")}
	for _, from := range versions[:4] { // 1.1.0 tells more than the others can
		for _, to := range versions {
			c := chained(t, to, golden(t, "prev-"+from+".json"))
			want := golden(t, "prev-"+to+".json")
			if to == "1.1.0" {
				want = strings.Replace(golden(t, "prev-1.0.0.json"), "1.0.0", "1.1.0", 1)
			}
			var out bytes.Buffer
			if err := c.WriteResult(&out, nil); err != nil {
				t.Fatalf("%s to %s: %v", from, to, err)
			}
			sameJSON(t, from+" as "+to, out.String(), want)

			out.Reset()
			if err := c.WriteResult(&out, []HostDevice{{Name: "veth0"}}); err != nil {
				t.Fatalf("%s to %s: %v", from, to, err)
			}
			sameJSON(t, from+" as "+to+" with a device", out.String(),
				strings.Replace(want, `"sandbox": "/var/run/netns/pod"`+"\n    }", `"sandbox": "/var/run/netns/pod"},{"name":"veth0"}`, 1))
			if got, err := c.Addresses(); err != nil || !reflect.DeepEqual(got, addresses) {
				t.Errorf("%s in %s: addresses are %v, error %v", from, to, got, err)
			}
			if !chained(t, to, golden(t, "attachment-"+from+".json")).IsAttachment("net1", "/var/run/netns/pod") {
				t.Errorf("%s in %s: the attachment's own result is not known again", from, to)
			}
		}
	}
}

func TestAVersionThatNoResultHasIsCode1(t *testing.T) {
	var out bytes.Buffer
	c := chained(t, "9.9.9", `{"cniVersion":"1.1.0"}`)
	fails(t, "result", c.WriteResult(&out, nil), 1, "result in version 9.9.9: ")
	fails(t, "result with a device", c.WriteResult(&out, []HostDevice{{Name: "veth0"}}), 1, "result in version 9.9.9: ")
	fails(t, "attachment", c.WriteAttachment(&out, HostDevice{Name: "net1"}, "/var/run/netns/pod"), 1, "result in version 9.9.9: ")
	if out.Len() > 0 {
		t.Errorf("wrote %s beside the errors", out.String())
	}
}

func TestNullInThePrevResultIsCode6(t *testing.T) {
	for _, version := range versions {
		head := `{"cniVersion":"` + version + `",`
		for _, prev := range []string{
			head + `"interfaces":[null]}`,
			head + `"interfaces":[{"name":"eth0"},null]}`,
			head + `"ips":[null]}`,
			head + `"ips":[{"version":"4","address":"10.42.0.7/24"},null]}`,
			head + `"routes":[null]}`,
			head + `"routes":[{"dst":"0.0.0.0/0"},null,{"dst":"::/0"}]}`,
			head + `"Routes":[null]}`, // Go reads it so
			head + `"interfaces":[null],"ips":[null],"routes":[null]}`,
		} {
			const words = "prevResult: null among its interfaces, ips or routes"
			c := chained(t, version, prev)
			var out bytes.Buffer
			fails(t, prev, c.WriteResult(&out, []HostDevice{{Name: "veth0"}}), 6, words)
			_, err := c.Addresses()
			fails(t, prev, err, 6, words)
			if c.IsAttachment("", "") || c.IsAttachment("eth0", "") {
				t.Errorf("%s is taken for an attachment's result", prev)
			}
			for _, other := range versions {
				if other != version {
					fails(t, prev+" to "+other, chained(t, other, prev).WriteResult(&out, nil), 6, words)
				}
			}
			if out.Len() > 0 {
				t.Errorf("%s: wrote %s beside the errors", prev, out.String())
			}
		}
		// A list that is null is an empty one.
		c := chained(t, version, head+`"interfaces":null,"ips":null,"routes":null,"dns":null}`)
		if got, err := c.Addresses(); err != nil || len(got) != 0 {
			t.Errorf("%s: addresses are %v, error %v", version, got, err)
		}
		if err := c.WriteResult(&bytes.Buffer{}, []HostDevice{{Name: "veth0"}}); err != nil {
			t.Errorf("%s: %v", version, err)
		}
	}
}

func TestAPrevResultThatCannotBeReadIsCode6(t *testing.T) {
	for _, prev := range []string{`5`, `[]`, `{"cniVersion":"1.1.0","ips":5}`, `{"cniVersion":"1.1.0","ips":[{"address":"x"}]}`, `{"cniVersion":"9.9.9"}`} {
		var out bytes.Buffer
		c := chained(t, "1.1.0", prev)
		fails(t, prev, c.WriteResult(&out, []HostDevice{{Name: "veth0"}}), 6, "prevResult: ")
		if out.Len() > 0 {
			t.Errorf("%s: wrote %s beside the error", prev, out.String())
		}
		_, err := c.Addresses()
		fails(t, prev, err, 6, "prevResult: ")
		if c.IsAttachment("net1", "/var/run/netns/pod") {
			t.Errorf("%s is taken for an attachment's result", prev)
		}
	}
}

func TestAnAttachmentsResultIsOneInterfaceOfThePodWithoutAddresses(t *testing.T) {
	for _, version := range versions {
		c := parsed(t, `{"cniVersion":"`+version+`"}`)
		var out bytes.Buffer
		if err := c.WriteAttachment(&out, HostDevice{Name: "net1", MAC: "02:00:00:00:00:06", MTU: 1450}, "/var/run/netns/pod"); err != nil {
			t.Fatalf("%s: %v", version, err)
		}
		sameJSON(t, "attachment "+version, out.String(), golden(t, "attachment-"+version+".json"))
		// CHECK gets it back and has to know it.
		if !chained(t, version, out.String()).IsAttachment("net1", "/var/run/netns/pod") {
			t.Errorf("%s: the attachment's own result is not known again: %s", version, out.String())
		}
	}
}

func TestAChainsResultIsNoAttachment(t *testing.T) {
	const own = `{"name":"net1","sandbox":"/var/run/netns/pod"}`
	for prev, want := range map[string]bool{
		`null`: true, // at ADD there is none
		`{"cniVersion":"1.1.0","interfaces":[` + own + `]}`:                                                  true,
		`{"cniVersion":"1.1.0"}`:                                                                             false,
		`{"cniVersion":"1.1.0","interfaces":[` + own + `,{"name":"veth0"}]}`:                                 false,
		`{"cniVersion":"1.1.0","interfaces":[` + own + `],"ips":[{"address":"10.42.0.7/24","interface":0}]}`: false,
		`{"cniVersion":"1.1.0","interfaces":[{"name":"eth0","sandbox":"/var/run/netns/pod"}]}`:               false,
		`{"cniVersion":"1.1.0","interfaces":[{"name":"net1","sandbox":"/var/run/netns/other"}]}`:             false,
		`{"cniVersion":"1.1.0","interfaces":[{"name":"net1"}]}`:                                              false,
	} {
		if got := chained(t, "1.1.0", prev).IsAttachment("net1", "/var/run/netns/pod"); got != want {
			t.Errorf("IsAttachment of %s is %v, want %v", prev, got, want)
		}
	}
	for _, version := range versions {
		if chained(t, version, golden(t, "prev-"+version+".json")).IsAttachment("eth0", "/var/run/netns/pod") {
			t.Errorf("%s: the result of a chain is taken for an attachment's", version)
		}
	}
}

func TestThePodsAddressesAreThoseOfTheResult(t *testing.T) {
	want := []netip.Addr{netip.MustParseAddr("10.42.0.7"), netip.MustParseAddr("2001:db8:42::7")}
	for _, version := range versions {
		got, err := chained(t, version, golden(t, "prev-"+version+".json")).Addresses()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: addresses are %v, error %v, want %v", version, got, err, want)
		}
	}
	for _, prev := range []string{`null`, `{"cniVersion":"1.1.0"}`} {
		if got, err := chained(t, "1.1.0", prev).Addresses(); err != nil || len(got) != 0 {
			t.Errorf("addresses of %s are %v, error %v", prev, got, err)
		}
	}
}

func TestAPrevResultWithoutVersionIsOneOfTheNetworks(t *testing.T) {
	for _, v := range []string{"0.4.0", "1.0.0", "1.1.0"} {
		c := &Config{CNIVersion: v, PrevResult: []byte(`{"ips": [{"version": "4", "address": "198.18.0.2/24"}]}`)}
		var out bytes.Buffer
		if err := c.WriteResult(&out, []HostDevice{{Name: "veth0"}}); err != nil {
			t.Fatalf("%s: %v", v, err)
		}
		if s := out.String(); !strings.Contains(s, "198.18.0.2/24") || !strings.Contains(s, "veth0") || !strings.Contains(s, v) {
			t.Errorf("%s: %s", v, s)
		}
		if a, err := c.Addresses(); err != nil || len(a) != 1 {
			t.Errorf("%s: addresses %v, %v", v, a, err)
		}
	}
}

func TestRoutesHaveNoFieldsOfANewerVersion(t *testing.T) {
	prev := []byte(`{"cniVersion": "1.1.0", "routes": [{"dst": "198.18.0.0/15", "mtu": 1400, "advmss": 1300, "priority": 5, "table": 7, "scope": 0}]}`)
	for v, kept := range map[string]bool{"0.4.0": false, "1.0.0": false, "1.1.0": true} {
		var out bytes.Buffer
		c := &Config{CNIVersion: v, PrevResult: prev}
		if err := c.WriteResult(&out, []HostDevice{{Name: "veth0"}}); err != nil {
			t.Fatalf("%s: %v", v, err)
		}
		for _, field := range []string{`"mtu"`, `"advmss"`, `"priority"`, `"table"`, `"scope"`} {
			if strings.Contains(out.String(), field) != kept {
				t.Errorf("%s has %s: %v; want %v", v, field, !kept, kept)
			}
		}
	}
}
