package cniconf

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/podtap/podtap/pkg/policy"
	"github.com/podtap/podtap/pkg/tap"
)

// parsed is Parse of a configuration that has to be fine.
func parsed(t *testing.T, stdin string) *Config {
	t.Helper()
	c, err := Parse([]byte(stdin))
	if err != nil {
		t.Fatalf("Parse(%s): %v", stdin, err)
	}
	return c
}

func golden(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// fails insists on an error with a CNI code and some words.
func fails(t *testing.T, what string, err error, code uint, words ...string) {
	t.Helper()
	var cni *types.Error
	if !errors.As(err, &cni) {
		t.Errorf("%s: error is %#v, want one of CNI", what, err)
		return
	}
	if cni.Code != code {
		t.Errorf("%s: code is %d, want %d: %v", what, cni.Code, code, err)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%s:\nmessage %q\nlacks %q", what, err, word)
		}
	}
}

func TestAConfigurationWithNothingInItHasTheDefaults(t *testing.T) {
	for _, stdin := range []string{"{}", `{"policy":null,"log":null,"taps":null,"args":null,"runtimeConfig":null,"prevResult":null,"failurePolicy":"","agentSocket":""}`} {
		want := &Config{Policy: policy.Closed(), FailurePolicy: Fail, AgentSocket: "/run/podtap/agent.sock", Log: Log{Level: "info"}}
		if c := parsed(t, stdin); !reflect.DeepEqual(c, want) {
			t.Errorf("Parse(%s) =\n%+v\nwant\n%+v", stdin, c, want)
		}
	}
}

func TestEveryFieldOfAConfigurationIsRead(t *testing.T) {
	c := parsed(t, golden(t, "conflist-entry.json"))
	if c.CNIVersion != "1.1.0" || c.Name != "cbr0" || c.FailurePolicy != Ignore || c.AgentSocket != "/run/other/agent.sock" {
		t.Errorf("configuration is %+v", c)
	}
	if want := (Log{Level: "debug", File: "/var/log/podtap.log"}); c.Log != want {
		t.Errorf("log is %+v, want %+v", c.Log, want)
	}
	if c.Policy.MaxTaps != 4 || len(c.Policy.Rules) != 1 || c.Policy.Rules[0].Namespaces[0] != "prod-*" {
		t.Errorf("policy is %+v", c.Policy)
	}
	taps, err := c.NetworkTaps()
	if err != nil || len(taps) != 1 || taps[0].Device != "sensor" || taps[0].VXLAN.VNI != 4000 {
		t.Errorf("taps of the network are %+v, error %v", taps, err)
	}
	if taps, err = AnnotationTaps(c.Annotations.Values); err != nil || len(taps) != 1 || taps[0].Sink() != tap.SinkVeth {
		t.Errorf("taps of the annotation are %+v, error %v", taps, err)
	}
	if addresses, err := c.Addresses(); err != nil || len(addresses) != 2 {
		t.Errorf("addresses are %v, error %v", addresses, err)
	}
}

func TestFieldsOfOtherPluginsAreNoneOfOurs(t *testing.T) {
	// Runtimes and generated conflists put what they like beside our settings.
	parsed(t, `{"type":"podtap","ipam":{},"x":[1],"runtimeConfig":{"portMappings":[1]},"args":{"other":{"a":1}}}`)
}

// The administrator's mistake must not keep a pod from starting that has nothing
// to do with taps.
func TestOfAPodWithoutTapsNothingElseIsRead(t *testing.T) {
	const wrong = `,"policy":{"x":1},"log":5,"failurePolicy":"never","agentSocket":"here"`
	for _, c := range []struct {
		text     string
		untapped bool
	}{
		{`"prevResult":{},"runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"a":"b"}}`, true},
		{`"prevResult":{},"runtimeConfig":{"io.kubernetes.cri.pod-annotations":null},"taps":null`, true},
		{`"prevResult":{},"runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"podtap.io/taps":" "}}`, true},
		{`"prevResult":{},"runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"podtap.io/taps":"veth: {}"}}`, false},
		{`"prevResult":{},"runtimeConfig":{"io.kubernetes.cri.pod-annotations":{}},"taps":[]`, true},
		{`"prevResult":{},"runtimeConfig":{"io.kubernetes.cri.pod-annotations":{}},"taps":{"veth":{}}`, false},
		{`"prevResult":{},"capabilities":{"io.kubernetes.cri.pod-annotations":true}`, false},
		{`"runtimeConfig":{"io.kubernetes.cri.pod-annotations":{}}`, false}, // a Multus attachment
	} {
		if got := parsed(t, "{"+c.text+"}"); got.Untapped != c.untapped {
			t.Errorf("%s: untapped is %t", c.text, got.Untapped)
		}
		if _, err := Parse([]byte("{" + c.text + wrong + "}")); (err == nil) != c.untapped {
			t.Errorf("%s with mistakes: %v", c.text, err)
		}
	}
}

func TestWhatCannotBeDecodedIsCode6(t *testing.T) {
	for stdin, word := range map[string]string{
		"":                          "unexpected end",
		"{":                         "unexpected end",
		"podtap":                    "invalid character",
		"[]":                        "array",
		`"{}"`:                      "string",
		`{"name":5}`:                "name",
		`{"cniVersion":1}`:          "cniVersion",
		`{"failurePolicy":true}`:    "failurePolicy",
		`{"agentSocket":[]}`:        "agentSocket",
		`{"args":5}`:                "args",
		`{"args":{"cni":["x"]}}`:    "args.cni",
		`{"capabilities":{"x":1}}`:  "capabilities",
		`{"runtimeConfig":"x"}`:     "runtimeConfig",
		"{\"name\":\"a\nb\"}":       "invalid character",
		strings.Repeat("[", 100000): "exceeded max depth",
		`{"runtimeConfig":{"io.kubernetes.cri.pod-annotations":5}}`:       `runtimeConfig["io.kubernetes.cri.pod-annotations"]`,
		`{"runtimeConfig":{"io.kubernetes.cri.pod-annotations":["x"]}}`:   `runtimeConfig["io.kubernetes.cri.pod-annotations"]`,
		`{"runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"x":1}}}`: `runtimeConfig["io.kubernetes.cri.pod-annotations"]`,
	} {
		c, err := Parse([]byte(stdin))
		if c != nil {
			t.Errorf("Parse(%.80q) returns a configuration beside its error", stdin)
		}
		fails(t, stdin, err, 6, word)
	}
}

func TestASettingThatIsNotAllowedIsCode7(t *testing.T) {
	for stdin, message := range map[string]string{
		`{"failurePolicy":"fail"}`:               `failurePolicy: "fail" is not allowed; it must be Fail or Ignore`,
		`{"failurePolicy":" "}`:                  `failurePolicy: " " is not allowed`,
		`{"agentSocket":"agent.sock"}`:           `agentSocket: "agent.sock" is not allowed; it must be an absolute path`,
		`{"agentSocket":"./a"}`:                  `agentSocket: "./a" is not allowed`,
		`{"log":{"level":"trace"}}`:              `log.level: "trace" is not allowed; it must be one of debug, info, warn, error`,
		`{"log":{"level":"INFO"}}`:               `log.level: "INFO" is not allowed`,
		`{"log":{"file":"podtap.log"}}`:          `log.file: "podtap.log" is not allowed; it must be an absolute path`,
		`{"log":{"levels":"info"}}`:              `log: unknown field "levels"; known are level and file`,
		`{"log":"debug"}`:                        `log: cannot unmarshal string`,
		`{"log":{"level":1}}`:                    `known are level and file`,
		`{"policy":{"maxTaps":17}}`:              `policy.maxTaps: 17 is not allowed; it must be from 0 to 16`,
		`{"policy":{"rule":[]}}`:                 `policy: unknown field "rule"`,
		`{"policy":[]}`:                          `policy: it cannot be `,
		`{"policy":{"rules":[{},7]}}`:            `policy.rules[1]: it cannot be `,
		`{"policy":{"rules":[{"sinks":{}}]}}`:    `policy.rules[0]: sinks cannot be `,
		`{"policy":{"rules":[{"ports":["x"]}]}}`: `policy.rules[0].ports: "x" is not allowed`,
	} {
		_, err := Parse([]byte(stdin))
		fails(t, stdin, err, 7, message)
	}
}

func TestAllBadSettingsAreReportedTogetherOnOneLine(t *testing.T) {
	_, err := Parse([]byte(`{"failurePolicy":"x","agentSocket":"y","log":{"level":"z","file":"f"},"policy":{"maxTaps":-1,"rules":[{"sinks":["s"]},7,{"vnis":["v"]}]}}`))
	fails(t, "all", err, 7, "failurePolicy: ", "agentSocket: ", `log.level: "z"`, `log.file: "f"`,
		"policy.maxTaps: ", "policy.rules[0].sinks: ", "policy.rules[1]: ", "policy.rules[2].vnis: ")
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("message has more than one line: %q", err)
	}
}

func TestLogLevelsAreFour(t *testing.T) {
	for _, level := range []string{"debug", "info", "warn", "error"} {
		if c := parsed(t, `{"log":{"level":"`+level+`"}}`); c.Log.Level != level {
			t.Errorf("level is %q, want %q", c.Log.Level, level)
		}
	}
}

func TestPrevResultIsKeptAsItCameIn(t *testing.T) {
	for stdin, want := range map[string]string{
		`{}`:                  "",
		`{"prevResult":null}`: "",
		`{"prevResult": {"cniVersion" :"1.0.0"} }`: `{"cniVersion" :"1.0.0"}`,
		`{"prevResult":{}}`:                        `{}`,
	} {
		c := parsed(t, stdin)
		if string(c.PrevResult) != want || (c.PrevResult == nil) != (want == "") {
			t.Errorf("%s: PrevResult = %q, want %q", stdin, c.PrevResult, want)
		}
	}
}
