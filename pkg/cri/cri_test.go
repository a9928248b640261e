package cri

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// standIn is a runtime on a real socket. Its answers are those of containerd 2.2.9, in
// testdata, with what a test sets instead.
type standIn struct {
	runtime.UnimplementedRuntimeServiceServer
	t      *testing.T
	status *runtime.StatusResponse
	list   *runtime.ListPodSandboxResponse
	hang   bool
}

func recorded(t *testing.T, file string, into proto.Message) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", file))
	if err == nil {
		err = protojson.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

func newStandIn(t *testing.T) *standIn {
	s := &standIn{t: t, status: &runtime.StatusResponse{}, list: &runtime.ListPodSandboxResponse{}}
	recorded(t, "status.json", s.status)
	recorded(t, "list.json", s.list)
	return s
}

func (s *standIn) Version(ctx context.Context, _ *runtime.VersionRequest) (*runtime.VersionResponse, error) {
	if s.hang {
		<-ctx.Done()
	}
	r := &runtime.VersionResponse{}
	recorded(s.t, "version.json", r)
	return r, nil
}

func (s *standIn) ListPodSandbox(context.Context, *runtime.ListPodSandboxRequest) (*runtime.ListPodSandboxResponse, error) {
	return s.list, nil
}

func (s *standIn) PodSandboxStatus(_ context.Context, q *runtime.PodSandboxStatusRequest) (*runtime.PodSandboxStatusResponse, error) {
	for _, file := range []string{"sandbox-pod.json", "sandbox-host.json"} {
		r := &runtime.PodSandboxStatusResponse{}
		recorded(s.t, file, r)
		if r.Status.Id == q.PodSandboxId {
			return r, nil
		}
	}
	return nil, status.Error(codes.NotFound, "an error occurred when try to find sandbox: not found")
}

func (s *standIn) Status(_ context.Context, q *runtime.StatusRequest) (*runtime.StatusResponse, error) {
	if !q.Verbose {
		return &runtime.StatusResponse{Status: s.status.Status}, nil
	}
	return s.status, nil
}

// serve serves at a socket until stop is called.
func (s *standIn) serve(socket string) (stop func()) {
	s.t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		s.t.Fatal(err)
	}
	server := grpc.NewServer()
	runtime.RegisterRuntimeServiceServer(server, s)
	go func() { _ = server.Serve(l) }()
	s.t.Cleanup(server.Stop)
	return server.Stop
}

// short is a folder for sockets, whose paths must be short.
func short(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "cri-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// client is one of the stand-in's.
func (s *standIn) client() *Client {
	s.t.Helper()
	socket := filepath.Join(short(s.t), "cri.sock")
	s.serve(socket)
	return open(s.t, "unix://"+socket)
}

func open(t *testing.T, endpoint string) *Client {
	t.Helper()
	c, err := Open(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

const (
	webID   = "df3a4ba9d3628848ced00e9809baeded179740c698a5d28b3658168fc290a343"
	agentID = "bc7e1893ac19f4b8d9c742f6791352976a2bd349a763a6d4283e92c0b4b53af8"
)

func TestTheRuntimeTellsItsNameAndVersion(t *testing.T) {
	name, version, err := newStandIn(t).client().Version(t.Context())
	if err != nil || name != "containerd" || version != "2.2.9+unknown" {
		t.Errorf("%q %q, error %v", name, version, err)
	}
}

func TestSandboxesHaveWhatThePluginSaw(t *testing.T) {
	list, err := newStandIn(t).client().Sandboxes(t.Context())
	if err != nil || len(list) != 3 {
		t.Fatalf("sandboxes %v, error %v", list, err)
	}
	web := list[slices.IndexFunc(list, func(s Sandbox) bool { return s.ID == webID })]
	if web.Namespace != "default" || web.Name != "web-0" || web.UID != "uid-web-0" || !web.Ready ||
		web.Created.UnixNano() != 1795287161483163743 || web.Annotations["podtap.io/taps"] != "veth: {}" ||
		web.Labels["io.kubernetes.pod.name"] != "web-0" {
		t.Errorf("web is %+v", web)
	}
	done := list[slices.IndexFunc(list, func(s Sandbox) bool { return s.Name == "done" })]
	if done.Ready {
		t.Error("a stopped sandbox is ready")
	}
}

func TestASandboxTellsWhetherItIsOnTheNodesNetwork(t *testing.T) {
	c := newStandIn(t).client()
	for id, want := range map[string]bool{webID: false, agentID: true} {
		if host, err := c.HostNetwork(t.Context(), id); err != nil || host != want {
			t.Errorf("%s: %t, error %v", id, host, err)
		}
	}
	if _, err := c.HostNetwork(t.Context(), "nonesuch"); !errors.Is(err, ErrGone) {
		t.Errorf("of a sandbox that is not there: %v", err)
	}
}

func TestContainerdTellsWhichNetworkItHasLoaded(t *testing.T) {
	n, ok, err := newStandIn(t).client().Network(t.Context())
	if err != nil || !ok || n.Name != "pods" || !slices.Equal(n.Plugins, []string{"bridge", "portmap", "bandwidth", "podtap"}) || n.Problem != "" ||
		len(n.Configs) != 4 || !strings.Contains(n.Configs[3], `"type":"podtap"`) {
		t.Errorf("network %+v, %t, error %v", n, ok, err)
	}
}

func TestWhereTheRuntimeTellsNoNetworkThatIsNoError(t *testing.T) {
	s := newStandIn(t)
	c := s.client()
	for what, info := range map[string]map[string]string{
		"CRI-O":               {"config": `{"sandboxImage":"pause"}`},
		"nothing":             nil,
		"only the loopback's": {"cniconfig": `{"Networks":[{"Config":{"Name":"cni-loopback","Plugins":[{"Network":{"type":"loopback"}}]}}]}`},
		"null":                {"cniconfig": "null"},
	} {
		s.status.Info = info
		if n, ok, err := c.Network(t.Context()); ok || err != nil || n.Name != "" {
			t.Errorf("%s: %+v, %t, error %v", what, n, ok, err)
		}
	}
	s.status.Info = map[string]string{"cniconfig": "["}
	if _, _, err := c.Network(t.Context()); err == nil || !strings.Contains(err.Error(), "networks") {
		t.Errorf("of what is no JSON: %v", err)
	}
}

func TestANetworkThatIsNotReadyTellsWhy(t *testing.T) {
	s := newStandIn(t)
	s.status.Info = nil
	s.status.Status.Conditions[1].Status = false
	s.status.Status.Conditions[1].Reason = "NetworkPluginNotReady"
	s.status.Status.Conditions[1].Message = "Network plugin returns error: cni plugin not initialized"
	n, ok, err := s.client().Network(t.Context())
	if err != nil || ok || n.Problem != "NetworkPluginNotReady: Network plugin returns error: cni plugin not initialized" {
		t.Errorf("%+v, %t, error %v", n, ok, err)
	}
}

func TestAnEndpointIsAUnixSocket(t *testing.T) {
	for _, bad := range []string{"", "tcp://198.18.0.1:1", "containerd.sock", "unix://containerd.sock", "http://localhost"} {
		if c, err := Open(bad); err == nil {
			_ = c.Close()
			t.Errorf("%q is taken for an endpoint", bad)
		}
	}
	s := newStandIn(t)
	socket := filepath.Join(short(t), "cri.sock")
	s.serve(socket)
	if _, _, err := open(t, socket).Version(t.Context()); err != nil {
		t.Errorf("a path alone: %v", err)
	}
}

func TestAClientSurvivesARestartOfTheRuntime(t *testing.T) {
	s := newStandIn(t)
	socket := filepath.Join(short(t), "cri.sock")
	c := open(t, "unix://"+socket)
	stop := s.serve(socket) // after the client was made
	for round := range 3 {
		if _, _, err := c.Version(t.Context()); err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		stop()
		restarted := make(chan func(), 1)
		go func() {
			time.Sleep(200 * time.Millisecond) // while the next call waits
			restarted <- s.serve(socket)
		}()
		if _, err := c.Sandboxes(t.Context()); err != nil {
			t.Errorf("round %d, over a restart: %v", round, err)
		}
		stop = <-restarted
	}
}

func TestALargeAnswerIsRead(t *testing.T) {
	s := newStandIn(t)
	large := strings.Repeat("x", 8<<20) // grpc's own limit is 4 MiB
	s.list.Items[0].Annotations["large"] = large
	list, err := s.client().Sandboxes(t.Context())
	if err != nil || list[0].Annotations["large"] != large {
		t.Errorf("error %v", err)
	}
}

func TestARuntimeThatDoesNotAnswerIsGivenUp(t *testing.T) {
	hanging := newStandIn(t)
	hanging.hang = true
	for what, c := range map[string]*Client{"it hangs": hanging.client(), "it is not there": open(t, filepath.Join(short(t), "none.sock"))} {
		if c.timeout != callTimeout {
			t.Errorf("%s: a call has %v", what, c.timeout)
		}
		c.timeout = 200 * time.Millisecond
		begin := time.Now()
		if _, _, err := c.Version(t.Context()); err == nil || !strings.Contains(err.Error(), "ask the container runtime for its version: ") {
			t.Errorf("%s: error %v", what, err)
		}
		if took := time.Since(begin); took > callTimeout-time.Second {
			t.Errorf("%s: it took %v", what, took)
		}
	}
}
