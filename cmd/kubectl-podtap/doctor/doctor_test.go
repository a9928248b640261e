package doctor

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/podtap/podtap/api/node"
)

var now = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

// healthy is a node that nothing is wrong with.
func healthy(name string) Node {
	bytes := uint64(900)
	return Node{
		Name: name, Architecture: "amd64", Kernel: "6.12.0", Runtime: "containerd://2.1.0", Podtapd: "podtap-" + name,
		Report: &node.Report{
			Node: name, Podtapd: "v1.0.0",
			Install: node.Install{State: node.StateReady, Since: now.Add(-time.Hour), File: "10-kindnet.conflist", Network: "kindnet", Chain: []string{"ptp", "portmap", "podtap"}},
			Plugin:  node.Plugin{Path: "/opt/cni/bin/podtap", Digest: strings.Repeat("a", 64)},
			Kernel:  node.Kernel{Release: "6.12.0"},
			Runtime: node.Runtime{Name: "containerd", Version: "v2.1.0", Network: "kindnet", Chain: []string{"ptp", "portmap", "podtap"}},
		},
		Taps: &node.Taps{
			Taps: []node.Tap{{Pod: "default/web", Device: "mirror", Interface: "eth0", Sink: "vxlan", Destination: "198.18.0.9:4789/100", Directions: []node.Counters{
				{Direction: "ingress", Matched: node.Amount{Packets: 20, Bytes: &bytes}, Dropped: map[string]node.Amount{"mirror": {}}},
				{Direction: "egress", Matched: node.Amount{Packets: 5, Bytes: &bytes}, Dropped: map[string]node.Amount{}}}}},
			Senders: []node.Sender{{Device: "podtap0", Destination: "198.18.0.9:4789/100", Taps: 1, Sent: &node.Amount{Packets: 25}, Dropped: map[string]node.Amount{"down": {}}}},
		},
	}
}

func TestNothingIsFoundWhereNothingIsWrong(t *testing.T) {
	for name, change := range map[string]func(*Node){
		"healthy":                   func(*Node) {},
		"CRI-O":                     func(n *Node) { n.Report.Runtime = node.Runtime{Name: "cri-o", Version: "1.29.0"} },
		"a later major version":     func(n *Node) { n.Report.Runtime.Version = "10.0" },
		"the oldest containerd":     func(n *Node) { n.Report.Runtime.Version = "1.5.0" },
		"the API server's word":     func(n *Node) { n.Report.Runtime = node.Runtime{} },
		"a chain that nobody tells": func(n *Node) { n.Report.Install.Chain, n.Report.Runtime.Chain = nil, nil },
		"no taps":                   func(n *Node) { n.Taps = nil },
		"harmless plugins behind": func(n *Node) {
			n.Report.Install.Chain = []string{"ptp", "podtap", "portmap", "bandwidth", "firewall"}
			n.Report.Runtime.Chain = n.Report.Install.Chain
		},
		"another architecture's plugin": func(n *Node) { n.Architecture, n.Report.Plugin.Digest = "arm64", strings.Repeat("b", 64) },
	} {
		a, b := healthy("a"), healthy("b")
		change(&b)
		if found := Diagnose(Input{Now: now, Namespace: "podtap-system", Nodes: []Node{a, b}}); len(found) != 0 || found == nil {
			t.Errorf("%s: %+v", name, found)
		}
	}
}

func losses(packets uint64) map[string]node.Amount {
	return map[string]node.Amount{"other": {Packets: packets}}
}

func TestEachFaultOfANodeIsFound(t *testing.T) {
	state := func(s node.State, message string) func(*Node) {
		return func(n *Node) { n.Report.Install.State, n.Report.Install.Message = s, message }
	}
	pod := func(r node.Reason, message string) func(*Node) {
		return func(n *Node) {
			n.Report.Pods = []node.Pod{{Namespace: "prod", Name: "db", Reason: r, Message: message}}
		}
	}
	chain := func(file, loaded string) func(*Node) {
		return func(n *Node) {
			n.Report.Install.Chain, n.Report.Runtime.Chain = strings.Fields(file), strings.Fields(loaded)
		}
	}
	runtime := func(name, version string) func(*Node) {
		return func(n *Node) { n.Report.Runtime.Name, n.Report.Runtime.Version = name, version }
	}
	tap := func(change func(*node.Tap)) func(*Node) {
		return func(n *Node) {
			n.Taps.Taps[0].Directions[0].Dropped = map[string]node.Amount{"mirror": {Packets: 3}}
			n.Taps.Taps[0].Directions[1].Dropped = map[string]node.Amount{"mirror": {Packets: 1}}
			change(&n.Taps.Taps[0])
		}
	}
	sender := func(reason string) func(*Node) {
		return func(n *Node) { n.Taps.Senders[0].Dropped = map[string]node.Amount{reason: {Packets: 7}} }
	}
	const anew = "`kubectl -n prod delete pod db`"
	for name, c := range map[string]struct {
		change   func(*Node)
		severity Severity
		check    string
		message  string // part of it
		fix      string // part of it
	}{
		"no podtapd":      {func(n *Node) { *n = Node{Name: n.Name} }, Problem, "PodtapdMissing", "no podtapd", "describe daemonset podtap"},
		"a node left out": {func(n *Node) { *n = Node{Name: n.Name, Excluded: true} }, Info, "PodtapdExcluded", "nodeSelector", "labels"},
		"no answer":       {func(n *Node) { n.Trouble, n.Hint, n.Report, n.Taps = "no answer in 10s", "see its log", nil, nil }, Problem, "PodtapdSilent", "no answer in 10s", "see its log"},
		"settings":        {func(n *Node) { n.Report.Install.Settings = "policy: no" }, Problem, "Settings", "last good ones are in force: policy: no", "edit configmap podtap"},
		"starting": {func(n *Node) {
			n.Report.Install.State, n.Report.Install.Since = node.StateStarting, now.Add(-time.Minute)
		}, Warning, "Install", "just starting", "wait"},
		"starting for an hour": {state(node.StateStarting, ""), Problem, "Install", "Starting: podtapd starts, and does not get done", "logs podtap-b"},
		"standby":              {state(node.StateStandby, ""), Warning, "Install", "another one", "two installations"},
		"no network":           {state(node.StateNoNetwork, "no file in /etc/cni/net.d"), Problem, "Install", "NoNetwork: no file in /etc/cni/net.d", "--cni-conf-dir"},
		"unsupported":          {state(node.StateUnsupported, ""), Problem, "Install", "cannot be chained", "docs/troubleshooting.md"},
		"failing":              {state(node.StateFailing, "read-only file system"), Problem, "Install", "Failing: read-only file system", "logs podtap-b"},
		"conflict":             {state(node.StateConflict, ""), Problem, "Install", "again and again", "find who writes it"},
		"a state to come":      {state("Melted", "it is hot"), Problem, "Install", "Melted: it is hot", "logs podtap-b"},
		"kernel":               {func(n *Node) { n.Report.Kernel.Problem = "no act_mirred" }, Problem, "Kernel", "taps cannot work on kernel 6.12.0: no act_mirred", "load or build in"},
		"podtap not in file":   {chain("ptp portmap", ""), Problem, "ChainWithoutPodtap", "not in the chain of 10-kindnet.conflist (ptp → portmap)", "its log"},
		"podtap first":         {chain("podtap ptp", ""), Problem, "PodtapFirst", "first plugin of 10-kindnet.conflist", "take podtap's entry out"},
		"podtap twice":         {chain("ptp podtap podtap", ""), Warning, "PodtapTwice", "podtap is 2 times", "take podtap's entry out"},
		"not loaded":           {chain("ptp podtap", "ptp"), Problem, "ChainNotLoaded", "without podtap (ptp): it has not read the file", "restart the runtime"},
		"another network": {func(n *Node) { n.Report.Runtime.Chain, n.Report.Runtime.Network = []string{"flannel"}, "cbr0" }, Problem, "ChainNotLoaded",
			"it uses the network cbr0, podtap is in kindnet (10-kindnet.conflist)", "comes first"},
		"loaded another":         {chain("ptp portmap podtap", "ptp podtap"), Warning, "ChainDiffers", "another chain (ptp → podtap) than 10-kindnet.conflist has (ptp → portmap → podtap)", "restart"},
		"tuning behind":          {chain("ptp podtap tuning", ""), Warning, "PluginsBehind", "tuning comes after podtap", "move tuning before podtap"},
		"a mesh behind":          {chain("ptp podtap portmap istio-cni sbr", ""), Info, "PluginsBehind", "istio-cni and sbr come after podtap", "nothing, unless"},
		"old containerd":         {runtime("containerd", "1.4.13"), Warning, "RuntimeOld", "containerd 1.4.13 hands over no annotations", "update it to 1.5"},
		"old CRI-O":              {runtime("cri-o", "1.28.9"), Warning, "RuntimeOld", "cri-o 1.28.9", "update it to 1.29"},
		"unknown runtime":        {runtime("docker", "27.0"), Warning, "RuntimeUnknown", "(docker 27.0)", "containerd 1.5 or later"},
		"unknown version":        {runtime("containerd", "main"), Warning, "RuntimeUnknown", "(containerd main)", "containerd 1.5 or later"},
		"no CRI":                 {func(n *Node) { n.Report.Runtime.Problem = "no socket" }, Warning, "RuntimeSilent", "no socket", "--runtime-endpoint"},
		"host network":           {pod(node.ReasonHostNetwork, "on the node's"), Warning, "PodNotTapped", "HostNetwork: on the node's", "remove its annotation"},
		"not chained":            {pod(node.ReasonNotChained, ""), Problem, "PodNotTapped", "NotChained", anew},
		"tap removed":            {pod(node.ReasonRemoved, "mirror"), Problem, "PodNotTapped", "TapRemoved: mirror", "find who removed it, in the pod or on the node; then " + anew},
		"tap failed":             {pod(node.ReasonFailed, "vni: too large"), Problem, "PodNotTapped", "TapFailed: vni: too large", "correct it, then " + anew},
		"tap missing":            {pod(node.ReasonMissing, "m"), Problem, "PodNotTapped", "TapMissing: m", anew + ", so that its controller makes it anew; if it still has none"},
		"a reason to come":       {pod("Melted", "m"), Problem, "PodNotTapped", "Melted: m", anew},
		"taps unread":            {func(n *Node) { n.Taps.Errors = []string{"list devices of x"} }, Warning, "TapsUnread", "list devices of x", "kubectl podtap list"},
		"tap loses":              {tap(func(*node.Tap) {}), Warning, "TapLosesCopies", "tap mirror of eth0 lost 4 of 25 copies (mirror)", "in the pod, see that mirror is up"},
		"veth tap loses":         {tap(func(t *node.Tap) { t.Sink, t.Destination = "veth", "sensor0" }), Warning, "TapLosesCopies", "lost 4 of 25", "`ip link set dev sensor0 up`"},
		"deleted tap loses":      {tap(func(t *node.Tap) { t.Device = "" }), Warning, "TapLosesCopies", "tap (deleted) of eth0", "make the pod anew"},
		"tap loses beside a cap": {tap(func(t *node.Tap) { t.Capped = &node.Amount{Packets: 3} }), Warning, "TapLosesCopies", "lost 1 of 25 copies (mirror)", "see that mirror is up"},
		"tap loses on the way":   {tap(func(t *node.Tap) { t.Capped, t.Lost = &node.Amount{Packets: 4}, &node.Amount{Packets: 2} }), Warning, "TapLosesCopies", "lost 2 of 25 copies (lost)", "let the tap take less"},
		"tap loses, later":       {func(n *Node) { n.Taps.Taps[0].Directions[0].Dropped = losses(1) }, Warning, "TapLosesCopies", "lost 1 of 25 copies (other)", "docs/kubectl-podtap.md"},
		"sender deleted":         {func(n *Node) { n.Taps.Senders[0].Missing, n.Taps.Senders[0].Taps = true, 3 }, Warning, "SenderDeleted", "the copies of 3 taps go nowhere", "make those pods anew"},
		"sender down":            {sender("down"), Warning, "SenderLosesCopies", "podtap0 to 198.18.0.9:4789/100, of 1 tap, lost 7 copies (down)", "`ip link set dev podtap0 up`"},
		"no route":               {sender("noRoute"), Warning, "SenderLosesCopies", "(noRoute)", "`ip route get 198.18.0.9`"},
		"sender's other":         {sender("other"), Warning, "SenderLosesCopies", "(other)", "no memory"},
		"sender loses later":     {sender("melted"), Warning, "SenderLosesCopies", "(melted)", "docs/kubectl-podtap.md"},
	} {
		n := healthy("b")
		c.change(&n)
		found := Diagnose(Input{Now: now, Namespace: "podtap-system", Nodes: []Node{healthy("a"), n}})
		if len(found) != 1 {
			t.Errorf("%s: %d findings: %+v", name, len(found), found)
			continue
		}
		f := found[0]
		if f.Severity != c.severity || f.Check != c.check || !strings.Contains(f.Message, c.message) || !strings.Contains(f.Fix, c.fix) || !reflect.DeepEqual(f.Nodes, []string{"b"}) {
			t.Errorf("%s: %+v", name, f)
		}
		if of := map[string]string{"PodNotTapped": "prod/db", "TapLosesCopies": "default/web"}[c.check]; f.Pod != of {
			t.Errorf("%s is told of pod %q", name, f.Pod)
		}
	}
}

// What exceeds a tap's cap is lost because the tap asks for that.
func TestACapIsNoFault(t *testing.T) {
	n := healthy("a")
	n.Taps.Taps[0].Directions[0].Dropped = map[string]node.Amount{"mirror": {Packets: 4}}
	n.Taps.Taps[0].Capped = &node.Amount{Packets: 5} // read a moment later
	if found := Diagnose(Input{Now: now, Namespace: "podtap-system", Nodes: []Node{n}}); len(found) != 0 {
		t.Errorf("%+v", found)
	}
}

// Who may not list nodes knows their architectures from podtapd.
func TestPluginsOfOneArchitectureAreComparedByPodtapdsWord(t *testing.T) {
	for arch, want := range map[string]int{"arm64": 0, "amd64": 1} {
		a, b := healthy("a"), healthy("b")
		a.Architecture, a.Report.Arch = "", "amd64"
		b.Architecture, b.Report.Arch, b.Report.Plugin.Digest = "", arch, strings.Repeat("b", 64)
		found := Diagnose(Input{Now: now, Namespace: "ns", Nodes: []Node{a, b}})
		if len(found) != want || want == 1 && (found[0].Check != "PluginsDiffer" || !strings.Contains(found[0].Message, "plugins amd64: ")) {
			t.Errorf("%s: %+v", arch, found)
		}
	}
}

func TestNodesThatDifferAreFound(t *testing.T) {
	var nodes []Node
	for i := range 9 {
		n := healthy(fmt.Sprint("n", i))
		if i == 4 {
			n.Report.Podtapd, n.Report.Plugin.Digest = "v1.1.0", strings.Repeat("b", 64)
		}
		nodes = append(nodes, n)
	}
	nodes = append(nodes, Node{Name: "silent", Podtapd: "p", Trouble: "t"}, healthy("empty"))
	nodes[10].Report.Podtapd, nodes[10].Report.Plugin.Digest = "", ""
	found := Diagnose(Input{Now: now, Namespace: "ns", Nodes: nodes})
	if len(found) != 3 || found[1].Check != "VersionsDiffer" || found[2].Check != "PluginsDiffer" || found[1].Severity != Warning || found[2].Severity != Warning {
		t.Fatalf("%+v", found)
	}
	if want := "podtapd has several versions: v1.0.0 on n0, n1, n2, n3, n5 and 3 more; v1.1.0 on n4"; found[1].Message != want {
		t.Errorf("%q, want %q", found[1].Message, want)
	}
	if want := "the nodes have several plugins amd64: aaaaaaaaaaaa on n0, n1, n2, n3, n5 and 3 more; bbbbbbbbbbbb on n4"; found[2].Message != want {
		t.Errorf("%q, want %q", found[2].Message, want)
	}
	if !strings.Contains(found[1].Fix, "kubectl -n ns rollout status daemonset podtap") {
		t.Error(found[1].Fix)
	}
}

func TestWithoutPodtapThatIsAllThatIsFound(t *testing.T) {
	found := Diagnose(Input{Namespace: "podtap-system", Nodes: []Node{{Name: "a"}, {Name: "b"}}})
	if len(found) != 1 || found[0].Check != "NotInstalled" || found[0].Severity != Problem || !strings.Contains(found[0].Fix, "kubectl apply -k") || found[0].Nodes != nil {
		t.Errorf("%+v", found)
	}
}

func TestNodesThatMayNotBeListedAreAFindingOfTheLeastKind(t *testing.T) {
	n := healthy("a")
	n.Report.Kernel.Problem = "old"
	found := Diagnose(Input{Namespace: "podtap-system", Nodes: []Node{n}, NodesUnknown: "nodes is forbidden"})
	if len(found) != 2 || found[1].Check != "NodesUnknown" || found[1].Severity != Info || !strings.Contains(found[1].Message, "nodes is forbidden") {
		t.Errorf("%+v", found)
	}
}

func TestFindingsComeFromWorstToLeastAndOnceForAllNodes(t *testing.T) {
	var nodes []Node
	for _, name := range []string{"a", "b"} {
		n := healthy(name)
		n.Report.Install.Chain = []string{"ptp", "podtap", "x"}
		n.Report.Runtime = node.Runtime{Name: "containerd", Version: "1.4.0"}
		n.Report.Kernel.Problem = "old"
		n.Report.Pods = []node.Pod{{Namespace: "d", Name: "host", Reason: node.ReasonHostNetwork}, {Namespace: "d", Name: name, Reason: node.ReasonMissing}}
		nodes = append(nodes, n)
	}
	found := Diagnose(Input{Now: now, Nodes: nodes})
	var got []string
	for _, f := range found {
		got = append(got, fmt.Sprint(f.Severity, " ", f.Check, " ", f.Nodes, f.Pod))
	}
	want := []string{"problem Kernel [a b]", "problem PodNotTapped [a]d/a", "problem PodNotTapped [b]d/b", "warning PodNotTapped [a b]d/host", "warning RuntimeOld [a b]", "info PluginsBehind [a b]"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q\nwant\n%q", got, want)
	}
	if Count(found, Problem) != 3 || Count(found, Warning) != 2 || Count(found, Info) != 1 {
		t.Error("the counts are wrong")
	}
}

func TestADiagnosisChangesNothingThatItIsGiven(t *testing.T) {
	n := healthy("a")
	n.Report.Install.Chain = []string{"ptp", "podtap", "portmap", "x"}
	before, _ := json.Marshal(n)
	Diagnose(Input{Now: now, Nodes: []Node{n}})
	if after, _ := json.Marshal(n); string(after) != string(before) {
		t.Errorf("%s\n%s", before, after)
	}
}

func TestACollectorsAddressIsFoundInItsName(t *testing.T) {
	for destination, want := range map[string]string{"198.18.0.9:4789/100": "`ip route get 198.18.0.9`", "[fd00::9]:4789/7": "`ip route get fd00::9`", "": "`ip route get COLLECTOR`"} {
		if fix := senderFix(node.Sender{Destination: destination}, "noRoute"); !strings.Contains(fix, want) {
			t.Errorf("%q: %s", destination, fix)
		}
	}
}

// A pod names its own devices, and a command that is shown may be pasted.
func TestACommandHasWhatANodeToldAsOneWord(t *testing.T) {
	n := healthy("a")
	n.Report.Pods = []node.Pod{{Namespace: "d;x", Name: "it's", Reason: node.ReasonMissing}}
	n.Taps.Senders[0].Device, n.Taps.Senders[0].Dropped = "$(reboot)", map[string]node.Amount{"down": {Packets: 1}}
	found := Diagnose(Input{Now: now, Nodes: []Node{n}})
	if len(found) != 2 || !strings.Contains(found[0].Fix, `kubectl -n 'd;x' delete pod 'it'\''s'`) || !strings.Contains(found[1].Fix, "ip link set dev '$(reboot)' up") {
		t.Errorf("%+v", found)
	}
}
