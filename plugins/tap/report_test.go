package main

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/podtap/podtap/api/agent"
	"github.com/podtap/podtap/pkg/cniconf"
)

// informed is an agent that says nothing and passes on what it is told.
func informed(t *testing.T) (socket string, told chan agent.Failure) {
	t.Helper()
	told = make(chan agent.Failure, 100)
	a := &nodeAgent{}
	l := a.listen(t)
	go func() {
		_ = agent.Serve(l, func(context.Context, agent.Request) (map[string]string, error) { return nil, nil },
			func(f agent.Failure) { told <- f })
	}()
	return a.socket, told
}

// next is the next failure of the scene's pod, with its message apart.
func next(t *testing.T, told chan agent.Failure) (f agent.Failure, message string) {
	t.Helper()
	select {
	case f = <-told:
	case <-time.After(patience):
		t.Fatal("the agent was told of nothing more")
	}
	message, f.Message = f.Message, ""
	return f, message
}

// ofScene is a failure of the scene's pod.
func ofScene(code uint, started bool) agent.Failure {
	return agent.Failure{Namespace: "default", Name: "web", ContainerID: "container1", Code: code, Started: started}
}

func TestTheAgentIsToldOfAFailedAdd(t *testing.T) {
	s := newScene(t)
	socket, told := informed(t)
	at := conf{"agentSocket": socket}
	for taps, code := range map[string]uint{
		"vxlan: {vni: 7, remote: " + s.pod.IPv4 + "}":               cniconf.CodePolicy,
		"{interface: eth7, veth: {}}":                               cniconf.CodeInterface,
		"vxlan: {vni: 7, remote: 198.18.0.200, oversize: refuse}":   0, // it fits: nothing to tell
		`vxlan: {vni: 7, remote: "fd00:18::200", oversize: refuse}`: cniconf.CodeMTU,
		"veth: {": cniconf.CodeAnnotation,
	} {
		c := s.annotated(taps).with(allowing(), at)
		got := s.call("ADD", c)
		if code == 0 {
			got.succeeds()
			s.call("DEL", c).silent()
			continue
		}
		got.fails(code)
		if f, message := next(t, told); f != ofScene(code, false) || message != got.failed.Msg {
			t.Errorf("the agent was told %+v %q, want code %d and ADD's message", f, message, code)
		}
	}
	if len(told) > 0 {
		t.Errorf("the agent was told of %d failures more", len(told))
	}
}

func TestTheAgentIsToldOfEachTapThatIsLeftOut(t *testing.T) {
	s := newScene(t)
	socket, told := informed(t)
	at := conf{"agentSocket": socket}
	s.call("ADD", s.annotated("[{interface: eth7, veth: {}}, {veth: {}}, {device: no, vxlan: {vni: 7, remote: "+s.pod.IPv4+"}}]").
		with(allowing(), ignoring(), at)).succeeds()
	// The agent serves them at the same time.
	want := map[agent.Failure]string{ofScene(cniconf.CodeInterface, true): "eth7", ofScene(cniconf.CodePolicy, true): s.pod.IPv4}
	for range 2 {
		f, message := next(t, told)
		if says := want[f]; says == "" || !strings.Contains(message, says) {
			t.Errorf("the agent was told %+v %q, want of %v", f, message, want)
		}
		delete(want, f)
	}
	s.call("ADD", s.annotated("veth: {").with(ignoring(), at)).succeeds()
	if f, _ := next(t, told); f != ofScene(cniconf.CodeAnnotation, true) {
		t.Errorf("the agent was told %+v of an annotation with a mistake", f)
	}
}

// An ADD that fails makes nothing, whatever it was ready to leave out before.
func TestOfAnAddThatFailsOnlyWhyIsTold(t *testing.T) {
	s := newScene(t)
	socket, told := informed(t)
	c := s.annotated("veth: {").with(ignoring(), conf{"agentSocket": socket, "taps": json.RawMessage(`{"veth":{}}`)})
	a := s.attachment()
	a.NetNS += "-gone"
	got := s.callFor(a, "ADD", c)
	got.fails(8)
	if f, message := next(t, told); f != ofScene(8, false) || message != got.failed.Msg || len(told) > 0 {
		t.Errorf("the agent was told %+v %q and %d more", f, message, len(told))
	}
}

// Where the configuration cannot be read, nothing says where the agent is.
func TestAnUnreadableConfigurationIsToldWhereTheAgentIsByDefault(t *testing.T) {
	s := newScene(t)
	if err := os.MkdirAll("/run/podtap", 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := agent.Listen(cniconf.DefaultAgentSocket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = l.Close()
		_ = os.Remove(cniconf.DefaultAgentSocket)
	})
	told := make(chan agent.Failure, 1)
	go func() { _ = agent.Serve(l, nil, func(f agent.Failure) { told <- f }) }()
	s.call("ADD", s.annotated("veth: {}").with(conf{"failurePolicy": "Maybe"})).fails(7, "failurePolicy")
	if f, message := next(t, told); f != ofScene(7, false) || !strings.Contains(message, "Maybe") {
		t.Errorf("the agent was told %+v %q", f, message)
	}
}

// The agent may be gone, or hang: ADD's outcome is the same, at once.
func TestAnAgentThatTakesNoReportChangesNothing(t *testing.T) {
	s := newScene(t)
	closed, hanging := &nodeAgent{}, &nodeAgent{}
	l := closed.listen(t)
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	hanging.listen(t) // and nobody accepts
	for name, socket := range map[string]string{"none": "/run/nowhere/agent.sock", "nobody listens": closed.socket, "it hangs": hanging.socket} {
		t.Run(name, func(t *testing.T) {
			s := s.in(t)
			begin := time.Now()
			s.call("ADD", s.annotated("{interface: eth7, veth: {}}").with(conf{"agentSocket": socket})).fails(cniconf.CodeInterface, "eth7")
			got := s.call("ADD", s.annotated("{interface: eth7, veth: {}}").with(ignoring(), conf{"agentSocket": socket})).succeeds()
			if got.stdout != string(prevResult(newest, s.pod)) {
				t.Errorf("result is %s, want what came in", got.stdout)
			}
			if took := time.Since(begin); took > 10*time.Second {
				t.Errorf("two ADDs took %v", took)
			}
		})
	}
}

// The plugin runs in every pod's start: what podtapd needs must not come along.
func TestThePluginLinksNothingOfKubernetes(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skipf("it asks Go what is linked: %v", err)
	}
	out, err := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	modules := strings.Fields(string(out))
	if len(modules) == 0 {
		t.Error("the plugin has no modules at all")
	}
	for _, m := range modules {
		if strings.HasPrefix(m, "k8s.io/") || strings.HasPrefix(m, "sigs.k8s.io/") || strings.HasPrefix(m, "google.golang.org/") || strings.Contains(m, "prometheus") {
			t.Errorf("the plugin links %s", m)
		}
	}
}
