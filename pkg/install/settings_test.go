package install

import (
	"strings"
	"testing"
)

func TestSettingsBecomeAnEntry(t *testing.T) {
	for settings, want := range map[string]string{
		"":             `{"type":"podtap","capabilities":{"io.kubernetes.cri.pod-annotations":true}}`,
		"# nothing\n":  `{"type":"podtap","capabilities":{"io.kubernetes.cri.pod-annotations":true}}`,
		"null":         `{"type":"podtap","capabilities":{"io.kubernetes.cri.pod-annotations":true}}`,
		"policy: null": `{"type":"podtap","capabilities":{"io.kubernetes.cri.pod-annotations":true}}`,
		"log: {level: debug}\ntaps: [{veth: {}}]\nfailurePolicy: Ignore\npolicy: {rules: [{namespaces: [a*]}], maxTaps: 3}": `{"type":"podtap","capabilities":{"io.kubernetes.cri.pod-annotations":true},` +
			`"taps":[{"veth":{}}],"policy":{"maxTaps":3,"rules":[{"namespaces":["a*"]}]},"failurePolicy":"Ignore","log":{"level":"debug"}}`,
	} {
		if got, err := Entry([]byte(settings), "/run/podtap/agent.sock"); err != nil || string(got) != want {
			t.Errorf("%q: %v\n%s\nwant\n%s", settings, err, got, want)
		}
	}
	if got, err := Entry(nil, "/run/other.sock"); err != nil || !strings.HasSuffix(string(got), `,"agentSocket":"/run/other.sock"}`) {
		t.Errorf("with a socket of one's own: %s, %v", got, err)
	}
}

func TestSettingsThatThePluginWouldRefuseAreRefused(t *testing.T) {
	for settings, want := range map[string]string{
		"policys: {}":                             `"policys" is unknown; known are taps, policy, failurePolicy, log`,
		"agentSocket: /x":                         `"agentSocket" is unknown`,
		"- 1":                                     "not an object",
		"a: [":                                    "not an object",
		"policy: {}\n---\npolicy: {}":             "something follows",
		"policy: {}\npolicy: {}":                  "policy",
		"policy: {rules: [{sinks: [pigeon]}]}":    "pigeon",
		"policy: {rules: 3}":                      "policy",
		"failurePolicy: Sometimes":                "failurePolicy",
		"log: {level: loud}":                      "log.level",
		"taps: [{veth: {}, direction: sideways}]": "direction",
		"taps: 3":                                 "taps",
		"policy: {rules: [{? [1] : 2}]}":          "invalid map key",
	} {
		if got, err := Entry([]byte(settings), "/run/podtap/agent.sock"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %s, %v; want an error with %q", settings, got, err, want)
		}
	}
}
