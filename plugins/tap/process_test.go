package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/cniconf"
)

// TestMain lets the test binary be the plugin where a runtime, or a test, calls
// it as one. So the real main runs, in a process of its own.
func TestMain(m *testing.M) {
	if os.Getenv("CNI_COMMAND") != "" {
		main()
		return
	}
	// With -race every process would sleep for a second at its end.
	_ = os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	lab.Main(m.Run, true)
}

// versions are those of the CNI specification that podtap speaks.
var versions = []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}

// newest is the version for tests that are about something else.
const newest = "1.1.0"

// scene is a node with one pod, which has eth0 and addresses, but no chain behind it.
type scene struct {
	t    *testing.T
	node *lab.Host
	pod  *lab.Pod
	// collector is an address on the underlay.
	collector, collector6 string
}

func newScene(t *testing.T) *scene {
	t.Helper()
	n := lab.NewNetwork(t, "", 1500)
	s := &scene{t: t, node: n.Host("node"), collector: "198.18.0.200", collector6: "fd00:18::200"}
	s.pod = s.node.Pod("pod", 1450)
	t.Cleanup(func() { locksFree(t) })
	return s
}

// in is the scene in a subtest, whose failures are its own.
func (s *scene) in(t *testing.T) *scene {
	out := *s
	out.t = t
	return &out
}

// attachment is the one of the scene's pod.
func (s *scene) attachment() attachment {
	return attachment{ID: "container1", NetNS: s.pod.Path(), IfName: "eth0", Namespace: "default", Pod: "web"}
}

// attachment is what a runtime says of a container in the environment.
type attachment struct{ ID, NetNS, IfName, Namespace, Pod string }

func (a attachment) environment(verb string) []string {
	return []string{"CNI_COMMAND=" + verb, "CNI_CONTAINERID=" + a.ID, "CNI_NETNS=" + a.NetNS, "CNI_IFNAME=" + a.IfName,
		"CNI_PATH=" + lab.Plugins(),
		fmt.Sprintf("CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=%s;K8S_POD_NAME=%s;K8S_POD_INFRA_CONTAINER_ID=%s", a.Namespace, a.Pod, a.ID)}
}

// answer is what a plugin's process said.
type answer struct {
	t              *testing.T
	stdout, stderr string
	failed         *types.Error // nil where it succeeded
}

// call runs one verb of podtap for the scene's pod.
func (s *scene) call(verb string, c conf) answer {
	s.t.Helper()
	return s.callFor(s.attachment(), verb, c)
}

func (s *scene) callFor(a attachment, verb string, c conf) answer {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	return execute(s.t, s.node.Space, self, a.environment(verb), c.text(s.t))
}

// patience bounds one verb, so that a plugin that hangs fails its test.
const patience = 30 * time.Second

// execute runs a plugin in a node's network namespace.
func execute(t *testing.T, node *lab.Space, program string, environment []string, stdin string) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := exec.CommandContext(ctx, program)
	var stdout, stderr bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(stdin), &stdout, &stderr
	c.Env = append(os.Environ(), environment...)
	var err error
	node.Do(func() error {
		err = c.Run()
		return nil
	})
	a := answer{t: t, stdout: stdout.String(), stderr: stderr.String()}
	if err == nil {
		return a
	}
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("run the plugin: %v (%v)\nstderr: %s", err, ctx.Err(), a.stderr)
	}
	a.failed = &types.Error{}
	if err := json.Unmarshal(stdout.Bytes(), a.failed); err != nil {
		t.Errorf("the plugin failed without one error in JSON on standard output: %v\nstdout: %s\nstderr: %s", err, a.stdout, a.stderr)
	}
	return a
}

// succeeds fails the test where the plugin failed.
func (a answer) succeeds() answer {
	a.t.Helper()
	if a.failed != nil {
		a.t.Fatalf("the plugin failed with code %d: %s\nstderr: %s", a.failed.Code, a.failed.Msg, a.stderr)
	}
	return a
}

// silent is success without a word on standard output.
func (a answer) silent() answer {
	a.t.Helper()
	if a.succeeds(); a.stdout != "" {
		a.t.Errorf("standard output has %q, want nothing", a.stdout)
	}
	return a
}

// fails wants an error with a code and with all phrases, short enough for an event.
func (a answer) fails(code uint, phrases ...string) answer {
	a.t.Helper()
	if a.failed == nil {
		a.t.Errorf("the plugin succeeded, want code %d\nstdout: %s\nstderr: %s", code, a.stdout, a.stderr)
		return a
	}
	wantError(a.t, a.failed, code, phrases...)
	return a
}

// wantError checks a CNI error, straight from the plugin or through libcni.
func wantError(t *testing.T, err error, code uint, phrases ...string) {
	t.Helper()
	var e *types.Error
	if !errors.As(err, &e) {
		t.Errorf("error is %v, want a CNI error of code %d", err, code)
		return
	}
	if e.Code != code {
		t.Errorf("code is %d, want %d; the message is %s", e.Code, code, e.Msg)
	}
	for _, p := range phrases {
		if !strings.Contains(e.Msg, p) {
			t.Errorf("the message lacks %q: %s", p, e.Msg)
		}
	}
	if text := len(e.Msg) + len(e.Details); text > 2048 {
		t.Errorf("the message has %d bytes, more than an event takes", text)
	}
}

// says wants a phrase on standard error.
func (a answer) says(phrases ...string) answer {
	a.t.Helper()
	for _, p := range phrases {
		if !strings.Contains(a.stderr, p) {
			a.t.Errorf("standard error lacks %q: %q", p, a.stderr)
		}
	}
	return a
}

// result is ADD's, in the current form.
func (a answer) result() *current.Result {
	a.t.Helper()
	return parseResult(a.t, a.succeeds().stdout)
}

// conf is a network configuration in the making.
type conf map[string]any

// chained is podtap's configuration behind a plugin that gave the pod eth0.
func (s *scene) chained(version string) conf {
	return conf{"cniVersion": version, "name": "net", "type": "podtap", "prevResult": prevResult(version, s.pod)}
}

// annotated has the pod's author ask for taps.
func (s *scene) annotated(taps string) conf {
	return s.chained(newest).with(runtimeAnnotations(map[string]string{cniconf.AnnotationKey: taps}))
}

// configured has the network's administrator ask for taps, written in JSON.
func (s *scene) configured(taps string) conf {
	return s.chained(newest).with(conf{"taps": json.RawMessage(taps)})
}

func runtimeAnnotations(annotations map[string]string) conf {
	return conf{"runtimeConfig": map[string]any{cniconf.Capability: annotations}}
}

// with returns the configuration with some keys set.
func (c conf) with(more ...conf) conf {
	out := maps.Clone(c)
	for _, m := range more {
		maps.Copy(out, m)
	}
	return out
}

// without returns the configuration without a key.
func (c conf) without(key string) conf {
	out := maps.Clone(c)
	delete(out, key)
	return out
}

func (c conf) text(t *testing.T) string {
	t.Helper()
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// allowing is a policy that lets authors have any tap whose collector is on the underlay.
func allowing() conf {
	return conf{"policy": json.RawMessage(`{"rules":[{"sinks":["veth","vxlan","wire"],"destinations":["198.18.0.0/15","fd00:18::/32"],
		"ports":["1-65535"],"placements":["node","pod"],"hostNames":true}]}`)}
}

func ignoring() conf { return conf{"failurePolicy": "Ignore"} }

// prevResult is what a plugin that made the pod's eth0 returns in a version.
func prevResult(version string, p *lab.Pod) json.RawMessage {
	family4, family6 := "", ""
	if strings.HasPrefix(version, "0.") {
		family4, family6 = `"version":"4",`, `"version":"6",`
	}
	return json.RawMessage(fmt.Sprintf(`{"cniVersion":%q,"interfaces":[{"name":"eth0","mac":%q,"sandbox":%q}],`+
		`"ips":[{%s"interface":0,"address":"%s/24"},{%s"interface":0,"address":"%s/64"}],"dns":{"nameservers":["198.18.0.53"]}}`,
		version, p.Link("eth0").Attrs().HardwareAddr, p.Path(), family4, p.IPv4, family6, p.IPv6))
}

// binaries is a directory where a runtime finds podtap and containernetworking's
// plugins.
func binaries(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	programs, err := filepath.Glob(filepath.Join(lab.Plugins(), "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, program := range programs {
		name := filepath.Base(program)
		if name == "podtap" {
			program = self
		}
		if err := os.Symlink(program, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
