package cniconf

import (
	"reflect"
	"strings"
	"testing"
)

func TestTheAgentIsToBeAskedOnlyForWhatWasWantedAndNotTold(t *testing.T) {
	const declared = `"capabilities":{"io.kubernetes.cri.pod-annotations":true}`
	known := func(values map[string]string) Annotations { return Annotations{Known: true, Values: values} }
	for stdin, want := range map[string]Annotations{
		`{` + declared + `,"runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"a":"b","podtap.io/taps":"veth:"}}}`: known(map[string]string{"a": "b", "podtap.io/taps": "veth:"}),
		// Present, even null: that is all there is.
		`{` + declared + `,"runtimeConfig":{"io.kubernetes.cri.pod-annotations":null}}`: known(nil),
		`{` + declared + `,"runtimeConfig":{"io.kubernetes.cri.pod-annotations":{}}}`:   known(map[string]string{}),
		`{"agentSocket":"/a","runtimeConfig":{"io.kubernetes.cri.pod-annotations":{}}}`: known(map[string]string{}),
		`{"runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"a":"b"}}}`:             known(map[string]string{"a": "b"}),
		// Missing where it was wanted: the agent may know.
		`{` + declared + `}`:                                       {Ask: true},
		`{` + declared + `,"runtimeConfig":{}}`:                    {Ask: true},
		`{` + declared + `,"runtimeConfig":{"portMappings":[]}}`:   {Ask: true},
		`{"agentSocket":"/run/podtap/agent.sock"}`:                 {Ask: true},
		`{"agentSocket":"/a","runtimeConfig":{"portMappings":[]}}`: {Ask: true},
		// Missing where nobody wanted it.
		`{}`:                                    {},
		`{"runtimeConfig":{"portMappings":[]}}`: {},
		`{"capabilities":{"io.kubernetes.cri.pod-annotations":false}}`: {},
		`{"capabilities":{"portMappings":true}}`:                       {},
	} {
		if got := parsed(t, stdin).Annotations; !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\nannotations are %+v\nwant %+v", stdin, got, want)
		}
	}
}

func TestTapsOfAnAnnotationAreReadAsYAMLOrJSON(t *testing.T) {
	for text, n := range map[string]int{"": 0, "veth:": 1, "- veth:\n- wire:\n": 2, `[{"veth":{}}]`: 1} {
		taps, err := AnnotationTaps(map[string]string{"podtap.io/taps": text, "podtap.io/tap": "5"})
		if err != nil || len(taps) != n {
			t.Errorf("%q: %d taps, error %v, want %d", text, len(taps), err, n)
		}
	}
	for _, none := range []map[string]string{nil, {}, {"app": "web"}} {
		if taps, err := AnnotationTaps(none); err != nil || len(taps) != 0 {
			t.Errorf("%v: %d taps, error %v", none, len(taps), err)
		}
	}
}

func TestABadAnnotationIsCode104(t *testing.T) {
	for text, message := range map[string]string{
		"veth: {":                          "not valid YAML or JSON",
		"5":                                "tap 1: 5 is not a tap",
		"{veth: {}, filter: tcp port htp}": "tap 1: filter: at character 10: no well-known service has this name; write the port's number: tcp port »htp«",
		"veth:\n---\nveth:":                "something follows the first YAML document; write the taps as one list",
		"{veth: {}, veth: {}}":             `line 1: the field "veth" is given twice`,
		"- &a {veth: }\n- *a":              "line 1: anchors and aliases are not read; write the values out",
		strings.Repeat("#", 1<<20):         "the text has 1048576 bytes; at most 65536 are read",
	} {
		taps, err := AnnotationTaps(map[string]string{AnnotationKey: text})
		fails(t, text[:min(len(text), 40)], err, 104, "annotation podtap.io/taps: ", message)
		if taps != nil {
			t.Errorf("taps beside the error: %+v", taps)
		}
	}
}

func TestArgumentsTellThePodInAnyOrder(t *testing.T) {
	for args, want := range map[string]Pod{
		"K8S_POD_NAMESPACE=web;K8S_POD_NAME=web-0;K8S_POD_UID=1-2":                                                                             {"web", "web-0", "1-2"},
		"IgnoreUnknown=1;K8S_POD_UID=1-2;K8S_POD_INFRA_CONTAINER_ID=c;K8S_POD_NAME=web-0;K8S_POD_NAMESPACE=web":                                {"web", "web-0", "1-2"},
		"K8S_POD_NAMESPACE=web;K8S_POD_NAME=web-0;K8S_POD_UID=1-2;IgnoreUnknown=true;K8S_POD_NAMESPACE=web;K8S_POD_NAME=web-0;K8S_POD_UID=1-2": {"web", "web-0", "1-2"},
		"K8S_POD_NAMESPACE=web;K8S_POD_NAME=web-0":                                                                                             {"web", "web-0", ""},
		"K8S_POD_NAME=a=b;": {"", "a=b", ""},
		// The runtime's word comes first; one that says nothing does not count.
		"K8S_POD_NAME=a;K8S_POD_NAME=b;K8S_POD_NAME=":                                                       {"", "a", ""},
		"K8S_POD_NAMESPACE=web;K8S_POD_UID=1;K8S_POD_UID=2;K8S_POD_NAME=a;K8S_POD_NAMESPACE=kube-system":    {"web", "a", "1"},
		"K8S_POD_NAMESPACE=;K8S_POD_NAME;K8S_POD_UID=;K8S_POD_UID=1-2;K8S_POD_NAME=a;K8S_POD_NAMESPACE=web": {"web", "a", "1-2"},
		"K8S_POD_NAMESPACE=;K8S_POD_NAME":                                                                   {},
		"k8s_pod_name=x;XK8S_POD_NAME=y; K8S_POD_NAME=z":                                                    {},
		"":    {},
		";;=": {},
	} {
		if got := ParseArgs(args); got != want {
			t.Errorf("ParseArgs(%q) = %+v, want %+v", args, got, want)
		}
	}
}

func TestGCNeedsAListOfValidAttachments(t *testing.T) {
	for stdin, message := range map[string]string{
		// Nothing said must not remove everything.
		`{"name":"cbr0"}`: `GC needs the list "cni.dev/valid-attachments"`,
		`null`:            `GC needs the list "cni.dev/valid-attachments"`,
		`{"name":"cbr0","cni.dev/attachments":[]}`:        `GC needs the list "cni.dev/valid-attachments"`,
		`{"name":"cbr0","cni.dev/valid-attachments":{}}`:  "network configuration: cni.dev/valid-attachments: ",
		`{"name":"cbr0","cni.dev/valid-attachments":""}`:  "network configuration: cni.dev/valid-attachments: ",
		`{"name":"cbr0","cni.dev/valid-attachments":[5]}`: "network configuration: cni.dev/valid-attachments: ",
		`{"name":5,"cni.dev/valid-attachments":[]}`:       "network configuration: ",
		`{`: "network configuration: ",
	} {
		name, valid, err := ParseGC([]byte(stdin))
		if err == nil || !strings.Contains(err.Error(), message) || name != "" || valid != nil {
			t.Errorf("ParseGC(%s) = %q, %v, %v, want the error %q", stdin, name, valid, err, message)
		}
	}
	for stdin, want := range map[string][]Attachment{
		`{"name":"cbr0","cni.dev/valid-attachments":[]}`: {},
		// So libcni, in Go, writes a list without elements.
		`{"name":"cbr0","cni.dev/valid-attachments":null}`: nil,
		`{"name":"cbr0","cni.dev/valid-attachments":[{"containerID":"c1","ifname":"eth0"},{"containerID":"c2","ifname":"net1","x":1}]}`: {{"c1", "eth0"}, {"c2", "net1"}},
	} {
		name, valid, err := ParseGC([]byte(stdin))
		if err != nil || name != "cbr0" || !reflect.DeepEqual(valid, want) {
			t.Errorf("ParseGC(%s) = %q, %v, %v, want %v", stdin, name, valid, err, want)
		}
	}
}

func TestDELNeedsNothingButAConfigurationThatDecodes(t *testing.T) {
	for stdin, want := range map[string]string{
		`{}`:              "",
		`{"name":"cbr0"}`: "cbr0",
		// What ADD would refuse, and what a later version may have written.
		`{"name":"cbr0","taps":5,"policy":7,"failurePolicy":"x","log":1,"agentSocket":3,"args":1,"runtimeConfig":0,"prevResult":"x"}`: "cbr0",
	} {
		if name, err := ParseName([]byte(stdin)); err != nil || name != want {
			t.Errorf("ParseName(%s) = %q, %v, want %q", stdin, name, err, want)
		}
	}
	for _, stdin := range []string{"", "{", "[]", `{"name":5}`} {
		if name, err := ParseName([]byte(stdin)); err == nil || name != "" || !strings.Contains(err.Error(), "network configuration: ") {
			t.Errorf("ParseName(%s) = %q, %v, want an error", stdin, name, err)
		}
	}
}
