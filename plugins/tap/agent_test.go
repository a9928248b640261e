package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/podtap/podtap/api/agent"
	"github.com/podtap/podtap/pkg/cniconf"
)

// nodeAgent answers in podtapd's place, and remembers what it was asked.
type nodeAgent struct {
	socket string
	mu     sync.Mutex
	asked  []agent.Request
}

// newAgent is an agent that gives every pod the same answer.
func newAgent(t *testing.T, annotations map[string]string, err error) *nodeAgent {
	t.Helper()
	a := &nodeAgent{}
	l := a.listen(t)
	go func() {
		_ = agent.Serve(l, func(_ context.Context, q agent.Request) (map[string]string, error) {
			a.mu.Lock()
			defer a.mu.Unlock()
			a.asked = append(a.asked, q)
			return annotations, err
		}, nil)
	}()
	return a
}

func (a *nodeAgent) listen(t *testing.T) net.Listener {
	t.Helper()
	// A socket's path is short; that of a test's folder may not be.
	dir, err := os.MkdirTemp("/run", "agent-")
	if err != nil {
		t.Fatal(err)
	}
	a.socket = filepath.Join(dir, "agent.sock")
	l, err := net.Listen("unix", a.socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = l.Close()
		_ = os.RemoveAll(dir)
	})
	return l
}

func (a *nodeAgent) questions() []agent.Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked
}

// asking is a chained configuration whose annotations the runtime has dropped.
func (s *scene) asking(socket string) conf {
	return s.chained(newest).with(allowing(), conf{"agentSocket": socket, "capabilities": map[string]bool{cniconf.Capability: true}})
}

func TestTheAgentIsAskedOnceAndOnlyAtAdd(t *testing.T) {
	s := newScene(t)
	untouched := s.untouched()
	a := newAgent(t, map[string]string{cniconf.AnnotationKey: "[{veth: {}}, {device: far, vxlan: {vni: 100, remote: 198.18.0.200}}]"}, nil)
	c := s.asking(a.socket)
	got := s.call("ADD", c)
	if n := len(got.result().Interfaces); n != 3 || !s.pod.Has("mirror") || !s.pod.Has("far") {
		t.Errorf("the agent's taps are not there: %s", got.stdout)
	}
	want := agent.Request{Version: agent.Version, Namespace: "default", Name: "web", ContainerID: "container1"}
	if q := a.questions(); len(q) != 1 || q[0] != want {
		t.Errorf("the agent was asked %+v, want %+v", q, want)
	}
	s.call("CHECK", c).silent()
	if err := s.pod.Netlink.LinkSetDown(s.pod.Link("mirror")); err != nil {
		t.Fatal(err)
	}
	s.call("CHECK", c).fails(cniconf.CodeDrift, "mirror", "down")
	s.call("DEL", c).silent()
	s.call("DEL", c).silent()
	s.call("GC", c.with(conf{"cni.dev/valid-attachments": []any{}})).silent()
	s.call("STATUS", c).silent()
	if n := len(a.questions()); n != 1 {
		t.Errorf("the agent was asked %d times, want once, at ADD", n)
	}
	untouched(t)
}

func TestWhoNamesTheAgentWantsAnnotationsToo(t *testing.T) {
	s := newScene(t)
	a := newAgent(t, map[string]string{cniconf.AnnotationKey: "veth: {}"}, nil)
	s.call("ADD", s.asking(a.socket).without("capabilities")).succeeds()
	if !s.pod.Has("mirror") {
		t.Error("the agent's tap is not there")
	}
}

func TestAnnotationsThatTheRuntimeHandsOverAreAllThereIs(t *testing.T) {
	s := newScene(t)
	untouched := s.untouched()
	a := newAgent(t, map[string]string{cniconf.AnnotationKey: "veth: {}"}, nil)
	for name, known := range map[string]conf{
		"null":       {"runtimeConfig": map[string]any{cniconf.Capability: nil}},
		"none":       runtimeAnnotations(map[string]string{}),
		"only other": runtimeAnnotations(map[string]string{"a": "b"}),
	} {
		t.Run(name, func(t *testing.T) {
			s := s.in(t)
			c := s.asking(a.socket).with(known)
			if got := s.call("ADD", c).succeeds(); got.stdout != string(prevResult(newest, s.pod)) || got.stderr != "" {
				t.Errorf("result is %s, want what came in; standard error is %q", got.stdout, got.stderr)
			}
			s.call("CHECK", c).silent()
			s.call("DEL", c).silent()
			untouched(t)
		})
	}
	if n := len(a.questions()); n != 0 {
		t.Errorf("the agent was asked %d times, want never", n)
	}
}

func TestWhatTheAgentSaysIsAnAnnotation(t *testing.T) {
	s := newScene(t)
	untouched := s.untouched()
	refused := newAgent(t, map[string]string{cniconf.AnnotationKey: "vxlan: {vni: 7, remote: 203.0.113.1}"}, nil)
	s.call("ADD", s.asking(refused.socket)).fails(cniconf.CodePolicy, "203.0.113.1")
	untouched(t)
	invalid := newAgent(t, map[string]string{cniconf.AnnotationKey: "veth: {"}, nil)
	s.call("ADD", s.asking(invalid.socket)).fails(cniconf.CodeAnnotation, "not valid YAML")
	untouched(t)
}

func TestWithoutTheAgentsAnswerThePodStartsAndTheLogWarns(t *testing.T) {
	s := newScene(t)
	untouched := s.untouched()
	// Each way to answer badly, one connection at a time.
	answering := func(answer func(net.Conn)) string {
		a := &nodeAgent{}
		l := a.listen(t)
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				answer(conn)
				t.Cleanup(func() { _ = conn.Close() })
			}
		}()
		return a.socket
	}
	writing := func(text string) func(net.Conn) {
		return func(c net.Conn) {
			_, _ = bufio.NewReader(c).ReadString('\n') // the question
			_, _ = c.Write([]byte(text))
			_ = c.Close()
		}
	}
	closed := &nodeAgent{}
	l := closed.listen(t)
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ socket, says string }{
		"no socket":            {"/run/nowhere/agent.sock", "no node agent to ask"},
		"nobody listens":       {closed.socket, "annotations are unknown"},
		"a file":               {file, "annotations are unknown"},
		"it fails":             {newAgent(t, nil, errors.New("no such pod")).socket, "no such pod"},
		"it hangs":             {answering(func(net.Conn) {}), "annotations are unknown"},
		"it hangs up":          {answering(func(c net.Conn) { _ = c.Close() }), "annotations are unknown"},
		"it stammers":          {answering(writing("tap\n")), "annotations are unknown"},
		"it breaks off":        {answering(writing(`{"version":1,"annotations":{`)), "annotations are unknown"},
		"it speaks another":    {answering(writing(`{"version":2}` + "\n")), "protocol version 2"},
		"it fails at length":   {newAgent(t, nil, errors.New(strings.Repeat("long ", 1<<18))).socket, "annotations are unknown"},
		"it talks without end": {answering(func(c net.Conn) { go endless(c) }), "annotations are unknown"},
	} {
		for _, fail := range []string{"Fail", "Ignore"} {
			t.Run(name+" under "+fail, func(t *testing.T) {
				s := s.in(t)
				begin := time.Now()
				conf := s.asking(c.socket).with(conf{"failurePolicy": fail, "taps": json.RawMessage(`[{"device":"near","veth":{}}]`)})
				got := s.call("ADD", conf).succeeds().says("level=WARN", c.says)
				if took := time.Since(begin); took > agent.Timeout+time.Second {
					t.Errorf("ADD took %v; the agent has %v to answer", took, agent.Timeout)
				}
				if len(got.stderr) > 4096 {
					t.Errorf("the log has %d bytes", len(got.stderr))
				}
				if !s.pod.Has("near") {
					t.Error("the network's own tap is not there")
				}
				s.call("CHECK", conf).silent()
				s.call("DEL", conf).silent()
				untouched(t)
			})
		}
	}
}

// endless writes until the other side has had enough.
func endless(c net.Conn) {
	chunk := []byte(strings.Repeat("x", 1<<16))
	for {
		if _, err := c.Write(chunk); err != nil {
			_ = c.Close()
			return
		}
	}
}
