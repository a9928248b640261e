package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/podtap/podtap/api/node"
	"github.com/podtap/podtap/cmd/kubectl-podtap/cluster/apitest"
	"github.com/podtap/podtap/pkg/inventory"
	"github.com/podtap/podtap/pkg/tap"
)

// said is what a command said of a cluster.
type said struct {
	out, notes string
	err        error
}

// ask runs a command with a kubeconfig that leads to an API server.
func ask(t *testing.T, s *apitest.Server, command string) said {
	t.Helper()
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"c","clusters":[{"name":"c","cluster":{"server":%q,"certificate-authority-data":%q}}],
		"users":[{"name":"u","user":{"token":%q}}],"contexts":[{"name":"c","context":{"cluster":"c","user":"u","namespace":"default"}}]}`, s.URL, base64.StdEncoding.EncodeToString(s.CA), apitest.Token)
	if err := os.WriteFile(kubeconfig, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	var out, notes bytes.Buffer
	c := root()
	c.SetOut(&out)
	c.SetErr(&notes)
	c.SetArgs(append(strings.Fields(command), "--kubeconfig", kubeconfig))
	err := c.Execute()
	return said{out.String(), notes.String(), err}
}

func amountOf(packets uint64) node.Amount { return node.Amount{Packets: packets} }

func oneTap(pod, device, destination string) node.Tap {
	namespace, name, _ := strings.Cut(pod, "/")
	return node.Tap{Pod: pod, Namespace: namespace, Name: name, ContainerID: "0123456789abcdef", Device: device, Interface: "eth0", Sink: tap.SinkVXLAN, Placement: tap.PlacementNode,
		Destination: destination, Since: time.Now().Add(-50 * time.Hour), Directions: []node.Counters{
			{Direction: tap.Egress, Matched: amountOf(9), Copied: amountOf(9), Dropped: map[string]node.Amount{}, Unit: "packets"}}}
}

func oneSender(device, destination string, lost uint64) node.Sender {
	sent := amountOf(9)
	s := node.Sender{Device: device, Destination: destination, Taps: 1, Sent: &sent, Dropped: map[string]node.Amount{}}
	if lost > 0 {
		s.Dropped["down"] = amountOf(lost)
	}
	return s
}

func ready(name string) node.Report {
	chain := []string{"ptp", "podtap"}
	return node.Report{Node: name, Podtapd: "v1", Install: node.Install{State: node.StateReady, File: "10.conflist", Network: "n", Chain: chain},
		Plugin: node.Plugin{Digest: strings.Repeat("ab", 32)}, Kernel: node.Kernel{Release: "6.12.0"}, Runtime: node.Runtime{Name: "containerd", Version: "2.1.0", Network: "n", Chain: chain}}
}

const (
	collector = "198.18.0.9:4789/100"
	other     = "198.18.0.8:4789/7"
)

// twoNodes are worker1 and worker2: three pods' taps, of two namespaces, and a
// sender of each node for each collector.
func twoNodes(t *testing.T) *apitest.Server {
	s := apitest.New(t)
	s.WebSocket = true
	one, two := ready("worker1"), ready("worker2")
	two.Pods = []node.Pod{{Namespace: "default", Name: "bad", Reason: node.ReasonFailed, Message: "vni: too large"}, {Namespace: "prod", Name: "worse", Reason: node.ReasonMissing}}
	s.AddNode("worker2", apitest.Podtapd(node.Taps{
		Taps:    []node.Tap{oneTap("prod/db", "mirror", collector), oneTap("default/api", "mirror", collector)},
		Senders: []node.Sender{oneSender("podtap2", collector, 0), oneSender("podtap3", other, 5)}}, two))
	s.AddNode("worker1", apitest.Podtapd(node.Taps{
		Taps:    []node.Tap{oneTap("default/web", "mirror1", other), oneTap("default/web", "mirror", collector), {NetNS: "/run/netns/x", Interface: "eth0", Directions: []node.Counters{}}},
		Senders: []node.Sender{oneSender("podtap1", collector, 0), oneSender("podtap3", other, 4)}}, one))
	return s
}

// cells are a table's, with one space between.
func cells(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(strings.Join(strings.Fields(line), " ") + "\n")
	}
	return b.String()
}

func TestTheClustersTapsAreListedByNamespaceAndPod(t *testing.T) {
	s := twoNodes(t)
	for command, want := range map[string]struct{ out, notes string }{
		"list": {`POD DEVICE INTERFACE DIRECTION DESTINATION PASSED MATCHED COPIED DROPPED AGE
api mirror eth0 egress 198.18.0.9:4789/100 - 9 9 0 2d2h
web mirror eth0 egress 198.18.0.9:4789/100 - 9 9 0 2d2h
web mirror1 eth0 egress 198.18.0.8:4789/7 - 9 9 0 2d2h

SENDER POD DESTINATION TAPS SENT DROPPED NODE
podtap3 - 198.18.0.8:4789/7 1 9 4 (down) worker1
`, "1 pod asks for taps that they do not have; see `kubectl podtap doctor`.\n"},
		"list api": {`POD DEVICE INTERFACE DIRECTION DESTINATION PASSED MATCHED COPIED DROPPED AGE
api mirror eth0 egress 198.18.0.9:4789/100 - 9 9 0 2d2h
`, ""},
		"list -n prod -o wide": {`POD DEVICE INTERFACE DIRECTION DESTINATION PASSED MATCHED COPIED DROPPED AGE NODE CONTAINER
db mirror eth0 egress 198.18.0.9:4789/100 - 9 9 0 2d2h worker2 0123456789ab

SENDER POD DESTINATION TAPS SENT DROPPED NODE
podtap2 - 198.18.0.9:4789/100 1 9 0 worker2
`, "1 pod asks for taps that they do not have; see `kubectl podtap doctor`.\n"},
		"list -A": {`NAMESPACE POD DEVICE INTERFACE DIRECTION DESTINATION PASSED MATCHED COPIED DROPPED AGE
- /run/netns/x (deleted) eth0 - - - - - - -
default api mirror eth0 egress 198.18.0.9:4789/100 - 9 9 0 2d2h
default web mirror eth0 egress 198.18.0.9:4789/100 - 9 9 0 2d2h
default web mirror1 eth0 egress 198.18.0.8:4789/7 - 9 9 0 2d2h
prod db mirror eth0 egress 198.18.0.9:4789/100 - 9 9 0 2d2h

SENDER POD DESTINATION TAPS SENT DROPPED NODE
podtap3 - 198.18.0.8:4789/7 1 9 4 (down) worker1
podtap3 - 198.18.0.8:4789/7 1 9 5 (down) worker2
`, "2 pods ask for taps that they do not have; see `kubectl podtap doctor`.\n"},
		"list -n empty": {"", "No taps in namespace empty.\n"},
	} {
		if got := ask(t, s, command); got.err != nil || cells(got.out) != want.out || got.notes != want.notes {
			t.Errorf("%s: %v\n%s%s\nwant\n%s%s", command, got.err, cells(got.out), got.notes, want.out, want.notes)
		}
	}
}

func TestAClustersJSONIsThatOfANodeWithTheNodes(t *testing.T) {
	s := twoNodes(t)
	got := ask(t, s, "list -o json -n prod")
	var is node.Taps
	d := json.NewDecoder(strings.NewReader(got.out))
	d.DisallowUnknownFields()
	if err := errors.Join(got.err, d.Decode(&is)); err != nil || got.notes != "" {
		t.Fatal(err, got)
	}
	if len(is.Taps) != 1 || is.Taps[0].Node != "worker2" || is.Taps[0].Pod != "prod/db" || len(is.Senders) != 1 || is.Senders[0].Node != "worker2" || is.Errors != nil {
		t.Errorf("%+v", is)
	}
	text, err := yaml.YAMLToJSON([]byte(ask(t, s, "list -o yaml -n prod").out))
	var a, b any
	if err = errors.Join(err, json.Unmarshal(text, &a), json.Unmarshal([]byte(got.out), &b)); err != nil || !reflect.DeepEqual(a, b) {
		t.Errorf("%v: the YAML is\n%s\nthe JSON\n%s", err, text, got.out)
	}
	if all := ask(t, s, "list -A -o json"); strings.Count(all.out, `"taps": 1,`) != 4 {
		t.Errorf("not all senders: %s", all.out)
	}
	if none := ask(t, s, "list -o json -n empty"); none.out != "{\n  \"taps\": [],\n  \"senders\": []\n}\n" || none.notes != "" {
		t.Errorf("%+v", none)
	}
}

func TestNodesThatDoNotAnswerAreNamedAndTheOthersListed(t *testing.T) {
	s := twoNodes(t)
	s.AddNode("worker3", nil)
	s.AddNode("worker4", apitest.Podtapd(node.Taps{Errors: []string{"list devices of \x1b[2J"}}, ready("worker4")))
	for _, format := range []string{"table", "json", "yaml"} {
		got := ask(t, s, "list -o "+format)
		if !strings.Contains(got.out, "api") {
			t.Errorf("%s: the others are not listed: %+v", format, got)
		}
		if got.err == nil || !strings.Contains(got.err.Error(), "node worker3: ") || !strings.Contains(got.err.Error(), "connection refused; see `kubectl -n podtap-system logs podtap-worker3`") ||
			!strings.Contains(got.err.Error(), "node worker4: ") || steering(got.err.Error()) != "" {
			t.Errorf("%s: %v", format, got.err)
		}
		if told := strings.Contains(got.out, "node worker3"); told != (format != "table") {
			t.Errorf("%s: %s", format, got.out)
		}
	}
}

func TestANamedPodWithoutTapsIsAnError(t *testing.T) {
	got := ask(t, twoNodes(t), "list web db")
	if got.err == nil || got.err.Error() != "pod db in namespace default has no taps; if it asks for some, `kubectl podtap doctor` says why" || !strings.Contains(got.out, "web") || got.notes != "" {
		t.Errorf("%+v", got)
	}
	if got := ask(t, twoNodes(t), "list -A web db"); got.err != nil || !strings.Contains(got.out, "prod") || strings.Contains(got.out, "api") {
		t.Errorf("%+v", got)
	}
}

func TestWithoutPodtapdTheWayToInstallIsTold(t *testing.T) {
	s := apitest.New(t)
	if got := ask(t, s, "list"); got.err == nil || got.out+got.notes != "" || !strings.Contains(got.err.Error(), "no podtapd in namespace podtap-system; install podtap with `kubectl apply -k") {
		t.Errorf("%+v", got)
	}
	s.Namespace = "elsewhere"
	s.AddNode("a", apitest.Podtapd(inventory.Of(sample), ready("a")))
	if got := ask(t, s, "list --podtap-namespace elsewhere"); got.err != nil || !strings.Contains(got.out, "web") {
		t.Errorf("%+v", got)
	}
	s.Forbidden = []string{"pods"}
	if got := ask(t, s, "list --podtap-namespace elsewhere"); got.err == nil || !strings.Contains(got.err.Error(), "`create` on `pods/portforward` in namespace elsewhere") {
		t.Errorf("%+v", got)
	}
}

func TestASenderIsListedWithItsTaps(t *testing.T) {
	inPod := oneTap("default/web", "mirror", collector)
	inPod.Placement = tap.PlacementPod
	lost := oneTap("default/web", "mirror", "")
	wire := node.Tap{Pod: "default/web", Sink: tap.SinkWire}
	own := node.Sender{Device: "mirror", Pod: "default/web"}
	for _, c := range []struct {
		sender node.Sender
		tap    node.Tap
		want   bool
	}{
		{oneSender("r", collector, 0), oneTap("a/b", "m", collector), true}, {oneSender("r", collector, 0), oneTap("a/b", "m", other), false},
		{oneSender("r", collector, 0), inPod, false}, {own, inPod, true}, {node.Sender{Device: "m2", Pod: "default/web"}, inPod, false},
		{node.Sender{Device: "mirror", Pod: "default/api"}, inPod, false}, {node.Sender{Device: "r", Missing: true}, lost, true},
		{node.Sender{Device: "r", Missing: true}, wire, false},
	} {
		if got := sends(c.sender, c.tap); got != c.want {
			t.Errorf("%+v of %+v: %v", c.sender, c.tap, got)
		}
	}
}

func TestANodeCannotSteerATerminal(t *testing.T) {
	const evil = "\x1b[2J\u202e\n"
	var taps node.Taps
	var report node.Report
	fill(reflect.ValueOf(&taps).Elem(), evil)
	fill(reflect.ValueOf(&report).Elem(), evil)
	s := apitest.New(t)
	s.AddNode("a", apitest.Podtapd(taps, report))
	s.AddNode("b", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, evil, http.StatusTeapot) }))
	for _, command := range []string{"list -A", "list -A -o wide", "list -A -o json", "list -A -o yaml", "doctor", "doctor -o json", "doctor -o yaml"} {
		got := ask(t, s, command)
		if got.err == nil || !strings.Contains(got.out, `\x1b[2J`) {
			t.Errorf("%s: %v\n%s", command, got.err, got.out)
			continue
		}
		if bad := steering(got.out) + steering(got.notes) + steering(got.err.Error()); bad != "" {
			t.Errorf("%s: %q", command, bad)
		}
		var plain any
		if strings.Contains(command, "-o ") && !strings.HasSuffix(command, "wide") {
			if err := yaml.Unmarshal([]byte(got.out), &plain); err != nil || steering(fmt.Sprint(plain)) != "" {
				t.Errorf("%s: the strings are %v, %q", command, err, plain)
			}
		}
	}
}
