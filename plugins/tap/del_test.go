package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
)

// everySink are taps of each kind, the VXLAN device on the node and in the pod.
const everySink = `[{"device":"near","veth":{}},{"device":"far","vxlan":{"vni":100,"remote":"198.18.0.200"}},
	{"device":"inside","vxlan":{"vni":101,"remote":"fd00:18::200","placement":"pod","oversize":"fragment"}},
	{"device":"wire","wire":{"addresses":["198.19.0.2/30"],"hostAddresses":["198.19.0.1/30"]}}]`

func TestDelTwiceLeavesNothing(t *testing.T) {
	s := newScene(t)
	untouched := s.untouched()
	c := s.configured(everySink)
	s.call("ADD", c).succeeds()
	s.call("CHECK", c).silent()
	for range 2 {
		s.call("DEL", c).silent()
		untouched(t)
	}
}

func TestDelNeedsNoSoundConfiguration(t *testing.T) {
	cases := map[string]conf{
		"no prevResult":       {"prevResult": nil},
		"odd prevResult":      {"prevResult": "none"},
		"no taps any more":    {"taps": nil},
		"invalid taps":        {"taps": json.RawMessage(`[{"device":"far","vxlan":{"vni":0}},7]`)},
		"taps of no kind":     {"taps": 7},
		"invalid policy":      {"policy": json.RawMessage(`{"rules":[{"sinks":["carrier pigeon"]}],"maxTaps":-1}`)},
		"policy of no kind":   {"policy": 7},
		"invalid annotation":  runtimeAnnotations(map[string]string{"podtap.io/taps": "{{{"}),
		"odd runtimeConfig":   {"runtimeConfig": 7},
		"odd failurePolicy":   {"failurePolicy": "Sometimes"},
		"odd log":             {"log": json.RawMessage(`{"level":"loud","file":"relative"}`)},
		"odd agentSocket":     {"agentSocket": "relative"},
		"unknown fields":      {"future": true},
		"args of no kind":     {"args": 7},
		"another CNI version": {"cniVersion": "0.3.1"},
	}
	s := newScene(t)
	untouched := s.untouched()
	for name, change := range cases {
		t.Run(name, func(t *testing.T) {
			s := s.in(t)
			s.call("ADD", s.configured(everySink)).succeeds()
			s.call("DEL", s.configured(everySink).with(change)).silent()
			untouched(t)
		})
	}
}

func TestDelOfAPodNeverTappedDoesNothing(t *testing.T) {
	s := newScene(t)
	untouched := s.untouched()
	for _, c := range []conf{s.chained(newest), s.configured(everySink), s.annotated("veth: {}"), s.annotated("{{{")} {
		s.call("DEL", c).silent()
		s.call("DEL", c.without("prevResult")).silent()
	}
	untouched(t)
}

func TestDelLeavesOtherAttachmentsAlone(t *testing.T) {
	s := newScene(t)
	s.call("ADD", s.configured(everySink)).succeeds()
	before := s.untouched()
	for name, a := range map[string]attachment{
		"another container": {ID: "container2", NetNS: s.pod.Path(), IfName: "eth0"},
		"another interface": {ID: "container1", NetNS: s.pod.Path(), IfName: "eth1"},
		"no namespace":      {ID: "container2", IfName: "eth0"},
	} {
		t.Run(name, func(t *testing.T) {
			s := s.in(t)
			s.callFor(a, "DEL", s.configured(everySink)).silent()
			before(t)
		})
	}
	s.call("DEL", s.configured(everySink).with(conf{"name": "other"})).silent()
	before(t)
	s.call("CHECK", s.configured(everySink)).silent()
}

func TestDelWithoutTheNamespaceLeavesNothingOnTheNode(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cases := map[string]struct {
		destroy bool
		path    string
	}{
		"the namespace is gone":                    {destroy: true},
		"the namespace is gone, CNI_NETNS empty":   {destroy: true, path: "-"},
		"CNI_NETNS empty, the namespace lives":     {path: "-"},
		"CNI_NETNS is a file":                      {path: file},
		"CNI_NETNS is below a file":                {path: file + "/net"},
		"CNI_NETNS is a directory":                 {path: filepath.Dir(file)},
		"CNI_NETNS is of a process that has ended": {path: "/proc/4194304/ns/net"},
		"CNI_NETNS is in /proc, but no namespace":  {path: "/proc/self/status"},
		"CNI_NETNS is a namespace of another kind": {path: "/proc/self/ns/uts"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			node := snap(t, s.node.Space)
			s.call("ADD", s.configured(everySink)).succeeds()
			a, conf := s.attachment(), s.configured(everySink)
			switch c.path {
			case "":
			case "-":
				a.NetNS = ""
			default:
				a.NetNS = c.path
			}
			if c.destroy {
				s.pod.Destroy()
			}
			for range 2 {
				s.callFor(a, "DEL", conf).silent()
				noDeviceLeft(t, s.node.Space)
			}
			if !c.destroy {
				node.unchanged(t, s.node.Space)
			}
		})
	}
}

func TestDelFailsOnlyOnWhatCannotBeDecoded(t *testing.T) {
	s := newScene(t)
	before := s.untouched()
	for _, text := range []string{"", "{", "[]", `{"cniVersion":"1.1.0","name":7}`, `{"cniVersion":7,"name":"net"}`} {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		execute(t, s.node.Space, self, s.attachment().environment("DEL"), text).fails(types.ErrDecodingFailure)
	}
	before(t)
}
