package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"github.com/podtap/podtap/api/node"
)

// forwarder connects to podtapds through the API server's port-forward, in memory:
// nothing listens on the user's machine, where others could connect to it too.
type forwarder struct {
	config    *rest.Config
	client    rest.Interface
	namespace string
}

func (f forwarder) dial(ctx context.Context, p Podtapd) (net.Conn, error) {
	to := f.client.Post().Resource("pods").Namespace(f.namespace).Name(p.Pod).SubResource("portforward").URL()
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result)
	// What client-go does here does not end with a context.
	go func() {
		c, err := f.open(ctx, to)
		select {
		case done <- result{c, err}:
		case <-ctx.Done():
			if err == nil {
				_ = c.Close()
			}
		}
	}()
	select {
	case r := <-done:
		return r.conn, r.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (f forwarder) open(ctx context.Context, to *url.URL) (net.Conn, error) {
	c, err := f.upgrade(ctx, to)
	if err != nil {
		return nil, err
	}
	s, err := openStream(c)
	if err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("open a port-forward's stream: %w", err)
	}
	return s, nil
}

// upgrade makes a connection as kubectl does: by WebSocket, and where the API server
// or a proxy before it knows no port-forward over that, by SPDY. One that refuses
// the first because of the verb, which was `get` before Kubernetes 1.35, may allow
// the second, whose verb is `create`.
func (f forwarder) upgrade(ctx context.Context, to *url.URL) (httpstream.Connection, error) {
	d, err := portforward.NewSPDYOverWebsocketDialerForStreaming(to, f.config)
	if err != nil {
		return nil, err
	}
	c, _, err := d.Dial(portforward.PortForwardProtocolV1Name)
	if httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err) {
		return f.upgradeSPDY(ctx, to)
	}
	return c, err
}

func (f forwarder) upgradeSPDY(ctx context.Context, to *url.URL) (httpstream.Connection, error) {
	config, err := rest.TLSConfigFor(f.config)
	if err != nil {
		return nil, err
	}
	proxy := http.ProxyFromEnvironment
	if f.config.Proxy != nil {
		proxy = f.config.Proxy
	}
	upgrader, err := spdy.NewRoundTripperWithConfig(spdy.RoundTripperConfig{TLS: config, Proxier: proxy})
	if err != nil {
		return nil, err
	}
	transport, err := rest.HTTPWrappersForConfig(f.config, upgrader) // adds the user's credentials
	if err != nil {
		return nil, err
	}
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), nil)
	if err != nil {
		return nil, err
	}
	q.Header.Set(httpstream.HeaderProtocolVersion, portforward.PortForwardProtocolV1Name)
	r, err := (&http.Client{Transport: transport}).Do(q)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	if r.StatusCode == http.StatusSwitchingProtocols {
		return upgrader.NewConnection(r)
	}
	// The upgrader would tell its text only; callers tell a refusal from the rest.
	text, _ := io.ReadAll(io.LimitReader(r.Body, 64<<10))
	var status metav1.Status
	if json.Unmarshal(text, &status) == nil && status.Message != "" {
		return nil, &apierrors.StatusError{ErrStatus: status}
	}
	return nil, fmt.Errorf("the API server answers %s to a port-forward", r.Status)
}

// stream is a connection to a port of a pod.
type stream struct {
	httpstream.Stream
	over httpstream.Connection
	// refusal gets the node's reason where it cannot connect, and is closed.
	refusal chan error
}

func openStream(c httpstream.Connection) (*stream, error) {
	_, port, err := net.SplitHostPort(node.DefaultAddress)
	if err != nil {
		return nil, err
	}
	headers := http.Header{}
	headers.Set(corev1.PortHeader, port)
	headers.Set(corev1.PortForwardRequestIDHeader, "0")
	headers.Set(corev1.StreamType, corev1.StreamTypeError)
	errorStream, err := c.CreateStream(headers)
	if err != nil {
		return nil, err
	}
	_ = errorStream.Close() // this side; nothing is written to it
	headers.Set(corev1.StreamType, corev1.StreamTypeData)
	data, err := c.CreateStream(headers)
	if err != nil {
		return nil, err
	}
	s := &stream{data, c, make(chan error, 1)}
	go func() {
		defer close(s.refusal)
		if text, _ := io.ReadAll(io.LimitReader(errorStream, maxMessage)); len(text) > 0 {
			s.refusal <- errors.New(oneLine(string(text)))
		}
	}()
	return s, nil
}

// refusalTimeout is how long an end may come before its reason.
const refusalTimeout = time.Second

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.Stream.Read(p)
	if n > 0 || err == nil {
		return n, err
	}
	select {
	case reason := <-s.refusal:
		if reason != nil {
			return 0, reason
		}
	case <-time.After(refusalTimeout):
	}
	return 0, err
}

func (s *stream) Close() error { return s.over.Close() }

type address struct{}

func (address) Network() string { return "portforward" }
func (address) String() string  { return "podtapd" }

func (s *stream) LocalAddr() net.Addr  { return address{} }
func (s *stream) RemoteAddr() net.Addr { return address{} }

// Deadlines are unknown to streams; whoever waits closes the connection.
func (s *stream) SetDeadline(time.Time) error      { return os.ErrNoDeadline }
func (s *stream) SetReadDeadline(time.Time) error  { return os.ErrNoDeadline }
func (s *stream) SetWriteDeadline(time.Time) error { return os.ErrNoDeadline }
