package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/cniconf"
)

func TestAPodWithoutTapsGetsTheVeryBytesThatCameIn(t *testing.T) {
	s := newScene(t)
	untouched := s.untouched()
	// Fields that nobody knows, in an order and a spacing of their own.
	prev := ` { "ips":[ {"interface":0 , "address":"` + s.pod.IPv4 + `/24","gateway":"198.18.101.1"}],` + "\n\t" +
		`"cniVersion":"1.1.0", "future":{"n":12345678901234567890,"s":"\u00e9<&>"}, "interfaces":[{"sandbox":"/x","name":"eth0","socketPath":"/y"}] }`
	for name, rest := range map[string]string{
		"no annotations":       `,"runtimeConfig":{"io.kubernetes.cri.pod-annotations":null}`,
		"other annotations":    `,"runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"a":"b"}}`,
		"an empty annotation":  `,"runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"podtap.io/taps":""}}`,
		"an empty list":        `,"runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"podtap.io/taps":"[]"}}`,
		"a comment":            `,"runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"podtap.io/taps":"# none"}}`,
		"no capability at all": ``,
		"empty taps":           `,"taps":[]`,
		"null taps":            `,"taps":null`,
		"unknown fields":       `,"future":{"taps":[{"veth":{}}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			s := s.in(t)
			text := `{"cniVersion":"1.1.0","name":"net","type":"podtap","prevResult":` + prev + rest + `}`
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			got := execute(t, s.node.Space, self, s.attachment().environment("ADD"), text).succeeds()
			if got.stdout != strings.TrimSpace(prev) {
				t.Errorf("result is\n%s\nwant\n%s", got.stdout, strings.TrimSpace(prev))
			}
			if got.stderr != "" {
				t.Errorf("standard error has %q, want nothing", got.stderr)
			}
			untouched(t)
		})
	}
}

func TestCopiesFlowOnceAddReturns(t *testing.T) {
	s := newScene(t)
	s.call("ADD", s.annotated("veth: {hostInterface: sensor0}").with(allowing())).succeeds()
	seen := s.node.Capture("sensor0")
	if n := s.pod.Ping("198.18.101.1", 3); n != 3 {
		t.Fatalf("%d of 3 pings were answered", n)
	}
	if n := len(seen.Settle(6)); n < 6 {
		t.Errorf("%d copies came, want 3 requests and 3 replies", n)
	}
}

func TestAddAgainConverges(t *testing.T) {
	s := newScene(t)
	untouched := s.untouched()
	c := s.configured(everySink)
	first := s.call("ADD", c).result()
	before := map[*lab.Space]snapshot{s.node.Space: snap(t, s.node.Space), s.pod.Space: snap(t, s.pod.Space)}
	for range 3 {
		again := s.call("ADD", c).result()
		if len(again.Interfaces) != len(first.Interfaces) {
			t.Errorf("result has %d interfaces, the first had %d", len(again.Interfaces), len(first.Interfaces))
		}
		for space, had := range before {
			now := snap(t, space)
			for _, kind := range []string{"device ", "filter ", "qdisc ", "address ", "route "} {
				if a, b := had.count(kind), now.count(kind); a != b {
					t.Errorf("%s has %d lines of %sinstead of %d", space.Name, b, kind, a)
				}
			}
		}
		s.call("CHECK", c).silent()
	}
	s.call("DEL", c).silent()
	untouched(t)
}

func TestManyPodsAtOnceShareARelayAndLeaveNothing(t *testing.T) {
	s := newScene(t)
	const count = 12
	var pods []*lab.Pod
	for i := range count {
		pods = append(pods, s.node.Pod(fmt.Sprintf("pod%d", i), 1450))
		lab.Settle(t, s.node.Space, pods[i].Space)
	}
	untouched := s.untouched()
	all := func(verb string) {
		var wait sync.WaitGroup
		answers := make([]answer, count)
		for i := range count {
			wait.Go(func() {
				a := s.attachment()
				a.ID, a.NetNS = fmt.Sprintf("container%d", i), pods[i].Path()
				answers[i] = s.callFor(a, verb, s.configured(`{"vxlan":{"vni":7,"remote":"198.18.0.200"}}`))
			})
		}
		wait.Wait()
		for _, a := range answers {
			a.succeeds()
		}
	}
	all("ADD")
	if n := snap(t, s.node.Space).count("device ", " vxlan "); n != 1 {
		t.Errorf("the node has %d relays, want 1", n)
	}
	all("CHECK")
	all("DEL")
	untouched(t)
	for _, p := range pods {
		if p.Has("mirror") || strings.Contains(p.Snapshot(), "clsact") {
			t.Errorf("left in %s: %s", p.Name, p.Snapshot())
		}
	}
}

func TestAPodOnTheNodesNetworkIsRefused(t *testing.T) {
	s := newScene(t)
	untouched := s.untouched()
	a := s.attachment()
	a.NetNS = s.node.Path()
	for name, c := range map[string]conf{"failing": s.configured(everySink), "ignoring": s.configured(everySink).with(ignoring())} {
		t.Run(name, func(t *testing.T) {
			s := s.in(t)
			s.callFor(a, "ADD", c).fails(types.ErrInvalidNetNS)
			untouched(t)
		})
	}
	a.IfName = "net1"
	s.callFor(a, "ADD", s.configured(`[{"veth":{}}]`).without("prevResult")).fails(types.ErrInvalidNetNS, "node's own network namespace")
	untouched(t)
}

// A failure of the last tap, for each reason that is only seen when the ones
// before are already there.
func TestAFailedAddUndoesEverything(t *testing.T) {
	s := newScene(t)
	s.node.Bridge("sensor0", 1500)
	untouched := s.untouched()
	const first = `{"device":"near","veth":{}},{"device":"far","vxlan":{"vni":100,"remote":"198.18.0.200"}},
		{"device":"inside","vxlan":{"vni":101,"remote":"198.18.0.200","placement":"pod","oversize":"fragment"}},
		{"device":"wire","wire":{"addresses":["198.19.0.2/30"]}},`
	for name, c := range map[string]struct {
		last   string
		code   uint
		phrase string
	}{
		"the device is taken":           {`{"device":"eth0","veth":{}}`, cniconf.CodeAnnotation, "choose another"},
		"the host interface is taken":   {`{"device":"late","veth":{"hostInterface":"sensor0"}}`, cniconf.CodeAnnotation, "sensor0"},
		"the interface does not exist":  {`{"device":"late","interface":"eth7","veth":{}}`, cniconf.CodeInterface, "eth7"},
		"the interface is a tap's":      {`{"device":"late","interface":"near","veth":{}}`, cniconf.CodeUnsupported, "near"},
		"the copies do not fit":         {`{"device":"late","vxlan":{"vni":9,"remote":"fd00:18::200","oversize":"refuse"}}`, cniconf.CodeMTU, "MTU"},
		"the policy refuses it":         {`{"device":"late","vxlan":{"vni":9,"remote":"203.0.113.1"}}`, cniconf.CodePolicy, "203.0.113.1"},
		"another tap's network is used": {`{"device":"late","wire":{"addresses":["198.19.0.1/29"]}}`, cniconf.CodeAnnotation, "198.19.0.0/30"},
	} {
		t.Run(name, func(t *testing.T) {
			s := s.in(t)
			both := s.annotated("[" + first + c.last + "]").with(allowing())
			s.call("ADD", both).fails(c.code, "tap 5", c.phrase)
			untouched(t)
			// And so where the first ones are the network's.
			split := s.annotated("["+c.last+"]").with(allowing(), conf{"taps": json.RawMessage("[" + strings.TrimSuffix(first, ",") + "]")})
			s.call("ADD", split).fails(c.code, c.phrase)
			untouched(t)
		})
	}
}

func TestAFailedAddLeavesSomebodyElsesRulesAndTapsAlone(t *testing.T) {
	s := newScene(t)
	other := s.attachment()
	other.ID = "container2"
	held := s.configured(`[{"device":"theirs","vxlan":{"vni":100,"remote":"198.18.0.200"}}]`)
	s.callFor(other, "ADD", held).succeeds()
	untouched := s.untouched()
	s.call("ADD", s.configured(`[{"device":"far","vxlan":{"vni":100,"remote":"198.18.0.200"}},{"device":"theirs","veth":{}}]`)).
		fails(types.ErrInvalidNetworkConfig, "theirs")
	untouched(t)
	s.callFor(other, "CHECK", held).silent()
}
