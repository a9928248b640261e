// Package apitest is a Kubernetes API server for tests, as far as kubectl-podtap
// needs one: lists, and port-forwards to podtapds that speak real HTTP.
package apitest

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"

	"github.com/podtap/podtap/api/node"
)

// Token is what users of the Server must show.
const Token = "0123456789"

// Server is an API server. Its fields are set before it is asked.
type Server struct {
	URL        string
	CA         []byte // the certificate that it shows, in PEM
	Namespace  string // podtapd's
	Pods       []corev1.Pod
	Nodes      []corev1.Node
	DaemonSets []appsv1.DaemonSet
	// Forbidden are resources that the user may not use: pods, portforward, nodes,
	// daemonsets.
	Forbidden []string
	// WebSocket says that it has port-forwards over WebSocket, as since Kubernetes 1.31.
	WebSocket bool
	// API is what podtapds serve, by the names of their pods. Where there is none,
	// nothing listens.
	API map[string]http.Handler

	mu       sync.Mutex // of requests
	requests []string
}

// New starts an API server.
func New(t *testing.T) *Server {
	t.Helper()
	s := &Server{Namespace: "podtap-system", API: map[string]http.Handler{}}
	server := httptest.NewTLSServer(s)
	t.Cleanup(server.Close)
	s.URL = server.URL
	s.CA = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	return s
}

// AddNode adds a Linux node with a podtapd of its own, named podtap-NODE.
func (s *Server) AddNode(name string, api http.Handler) *corev1.Pod {
	n := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	n.Status.NodeInfo = corev1.NodeSystemInfo{OperatingSystem: "linux", Architecture: "amd64", KernelVersion: "6.12.0", ContainerRuntimeVersion: "containerd://2.1.0"}
	s.Nodes = append(s.Nodes, n)
	yes := true
	p := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: "podtap-" + name, CreationTimestamp: metav1.Unix(1, 0),
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "DaemonSet", Name: "podtap", Controller: &yes}}}}
	p.Spec.NodeName = name
	p.Status.Phase = corev1.PodRunning
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	s.Pods = append(s.Pods, p)
	if api != nil {
		s.API[p.Name] = api
	}
	return &s.Pods[len(s.Pods)-1]
}

// Podtapd serves what a podtapd tells.
func Podtapd(taps node.Taps, report node.Report) http.Handler {
	mux := http.NewServeMux()
	for path, v := range map[string]any{node.PathTaps: taps, node.PathReport: report} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(v) })
	}
	return mux
}

// Requests are the method and the path of each request.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	s.mu.Unlock()
	if r.Header.Get("Authorization") != "Bearer "+Token {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	pods := "/api/v1/namespaces/" + s.Namespace + "/pods"
	path := strings.Split(strings.TrimPrefix(r.URL.Path, pods+"/"), "/")
	switch resource := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]; {
	case slices.Contains(s.Forbidden, resource):
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusForbidden)
		_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure,
			Reason: metav1.StatusReasonForbidden, Code: http.StatusForbidden, Message: resource + ` is forbidden: User "jane" cannot`})
	case r.URL.Path == pods && r.URL.Query().Get("labelSelector") == "app.kubernetes.io/name=podtap":
		list(w, &corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, Items: s.Pods})
	case r.URL.Path == "/api/v1/nodes":
		list(w, &corev1.NodeList{TypeMeta: metav1.TypeMeta{Kind: "NodeList", APIVersion: "v1"}, Items: s.Nodes})
	case r.URL.Path == "/apis/apps/v1/namespaces/"+s.Namespace+"/daemonsets":
		list(w, &appsv1.DaemonSetList{TypeMeta: metav1.TypeMeta{Kind: "DaemonSetList", APIVersion: "apps/v1"}, Items: s.DaemonSets})
	case len(path) == 2 && path[1] == "portforward" && (r.Method == http.MethodPost || s.WebSocket):
		s.forward(w, r, path[0])
	default:
		http.NotFound(w, r)
	}
}

func list(w http.ResponseWriter, items any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(items)
}

// forward carries each stream to the pod's API, as a kubelet does.
func (s *Server) forward(w http.ResponseWriter, r *http.Request, pod string) {
	streams := make(chan httpstream.Stream, 2)
	accept := func(stream httpstream.Stream, _ <-chan struct{}) error {
		streams <- stream
		return nil
	}
	var over httpstream.Connection
	if r.Method == http.MethodPost {
		w.Header().Set(httpstream.HeaderProtocolVersion, portforward.PortForwardProtocolV1Name)
		over = spdy.NewResponseUpgrader().UpgradeResponse(w, r, accept)
	} else {
		upgrader := websocket.Upgrader{Subprotocols: []string{"SPDY/3.1+" + portforward.PortForwardProtocolV1Name}}
		socket, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		if over, err = spdy.NewServerConnection(portforward.NewTunnelingConnection("server", socket), accept); err != nil {
			return
		}
	}
	if over == nil {
		return
	}
	defer over.Close()
	var errorStream, data httpstream.Stream
	for range 2 {
		select {
		case stream := <-streams:
			if stream.Headers().Get(corev1.StreamType) == corev1.StreamTypeError {
				errorStream = stream
			} else {
				data = stream
			}
		case <-over.CloseChan():
			return
		case <-time.After(10 * time.Second):
			return
		}
	}
	s.connect(errorStream, data, pod)
	<-over.CloseChan()
}

func (s *Server) connect(errorStream, data httpstream.Stream, pod string) {
	defer errorStream.Close()
	defer data.Close()
	port := data.Headers().Get(corev1.PortHeader)
	api := s.API[pod]
	if api == nil || port != "971" {
		fmt.Fprintf(errorStream, "error forwarding port %s to pod %s:\nconnection refused", port, pod)
		return
	}
	server := httptest.NewServer(api)
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		fmt.Fprint(errorStream, err)
		return
	}
	go func() {
		_, _ = io.Copy(conn, data)
		_ = conn.Close()
	}()
	_, _ = io.Copy(data, conn)
}
