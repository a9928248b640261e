// Package cri asks the node's container runtime, over CRI version 1, what podtapd has
// to know of it: which pod sandboxes there are, and which network it has loaded.
package cri

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	// callTimeout bounds one call, connecting included. A runtime lists thousands of
	// sandboxes in milliseconds; one that restarts is back within seconds.
	callTimeout = 5 * time.Second
	// maxMessage is the largest answer in bytes. It is the kubelet's limit, so that
	// no answer that the kubelet can read is too large here.
	maxMessage = 16 << 20
	// retryAtMost is the longest pause between two attempts to connect. grpc's own
	// would grow to two minutes, long after a restarted runtime is back.
	retryAtMost = time.Second
)

// ErrGone is wrapped by the error of a sandbox that the runtime does not know (any more).
var ErrGone = errors.New("no such sandbox")

// Client speaks to one runtime. It connects when it is first used, and again where
// the runtime has restarted. Its methods may be called at the same time.
type Client struct {
	conn    *grpc.ClientConn
	service runtime.RuntimeServiceClient
	timeout time.Duration
}

// Open makes a client for an endpoint, the path of a Unix socket with or without
// unix:// before it. It does not connect yet.
func Open(endpoint string) (*Client, error) {
	path, isURL := strings.CutPrefix(endpoint, "unix://")
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("runtime endpoint %q: it must be the path of a Unix socket, such as unix:///run/containerd/containerd.sock", endpoint)
	}
	if !isURL {
		endpoint = "unix://" + path
	}
	conn, err := grpc.NewClient(endpoint,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: callTimeout,
			Backoff: backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: retryAtMost}}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage),
			// A call waits for a runtime that is just restarting, for callTimeout.
			grpc.WaitForReady(true)))
	if err != nil {
		return nil, fmt.Errorf("runtime endpoint %q: %w", endpoint, err)
	}
	return &Client{conn, runtime.NewRuntimeServiceClient(conn), callTimeout}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// call bounds one call, and says in its error what it was.
func (c *Client) call(ctx context.Context, what string, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	err := f(ctx)
	// Cut off by a restart of the runtime: nothing here changes anything there, so it
	// can be asked again.
	for status.Code(err) == codes.Unavailable && pause(ctx) {
		err = f(ctx)
	}
	switch {
	case err == nil:
		return nil
	case status.Code(err) == codes.NotFound:
		return fmt.Errorf("ask the container runtime for %s: %w: %w", what, ErrGone, err)
	}
	return fmt.Errorf("ask the container runtime for %s: %w", what, err)
}

// pause waits a little before the next attempt; it is false where there is no time for one.
func pause(ctx context.Context) bool {
	select {
	case <-time.After(50 * time.Millisecond):
		return true
	case <-ctx.Done():
		return false
	}
}

// Version tells the runtime's name and version, such as containerd and 2.2.9.
func (c *Client) Version(ctx context.Context) (name, version string, err error) {
	err = c.call(ctx, "its version", func(ctx context.Context) error {
		r, err := c.service.Version(ctx, &runtime.VersionRequest{})
		name, version = r.GetRuntimeName(), r.GetRuntimeVersion()
		return err
	})
	return name, version, err
}

// Sandbox is a pod's sandbox, as the runtime has it. A pod may have several, of
// which at most one is ready.
type Sandbox struct {
	ID        string // the container ID that CNI plugins see
	Namespace string
	Name      string
	UID       string
	Attempt   uint32
	Created   time.Time
	Ready     bool
	Labels    map[string]string
	// Annotations are the pod's when the sandbox was made: what plugins saw.
	Annotations map[string]string
}

// Sandboxes lists all sandboxes, also those that are stopped and not removed yet. One
// whose network is still being set up is not among them.
func (c *Client) Sandboxes(ctx context.Context) ([]Sandbox, error) {
	var out []Sandbox
	err := c.call(ctx, "its sandboxes", func(ctx context.Context) error {
		r, err := c.service.ListPodSandbox(ctx, &runtime.ListPodSandboxRequest{})
		out = nil
		for _, s := range r.GetItems() {
			m := s.GetMetadata()
			out = append(out, Sandbox{
				ID: s.GetId(), Namespace: m.GetNamespace(), Name: m.GetName(), UID: m.GetUid(), Attempt: m.GetAttempt(),
				Created: time.Unix(0, s.GetCreatedAt()), Ready: s.GetState() == runtime.PodSandboxState_SANDBOX_READY,
				Labels: s.GetLabels(), Annotations: s.GetAnnotations(),
			})
		}
		return err
	})
	return out, err
}

// HostNetwork says whether a sandbox is on the node's own network. The error of one
// that is gone wraps ErrGone.
func (c *Client) HostNetwork(ctx context.Context, id string) (bool, error) {
	host := false
	err := c.call(ctx, "the sandbox "+id, func(ctx context.Context) error {
		r, err := c.service.PodSandboxStatus(ctx, &runtime.PodSandboxStatusRequest{PodSandboxId: id})
		host = r.GetStatus().GetLinux().GetNamespaces().GetOptions().GetNetwork() == runtime.NamespaceMode_NODE
		return err
	})
	return host, err
}
