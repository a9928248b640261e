package agent

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	metadatafake "k8s.io/client-go/metadata/fake"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/flowcontrol"

	api "github.com/podtap/podtap/api/agent"
)

// pod is a pod as the API server has it.
func pod(namespace, name, uid string, annotations map[string]string) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID(uid), Annotations: annotations},
	}
}

// kubeWith is an API server with some pods.
func kubeWith(pods ...*metav1.PartialObjectMetadata) *Kube {
	scheme := metadatafake.NewTestScheme()
	_ = metav1.AddMetaToScheme(scheme)
	var objects []runtime.Object
	for _, p := range pods {
		objects = append(objects, p)
	}
	return &Kube{Pods: metadatafake.NewSimpleMetadataClient(scheme, objects...), Events: fake.NewClientset().CoreV1()}
}

func question(namespace, name, uid string) api.Request {
	return api.Request{Namespace: namespace, Name: name, UID: uid, ContainerID: "c1"}
}

func ask(t *testing.T, socket, uid string) (map[string]string, error) {
	t.Helper()
	return api.Annotations(t.Context(), socket, question("web", "web-0", uid))
}

// serving is an agent that answers at a socket for as long as the test runs.
func serving(t *testing.T, kube *Kube) (*Agent, string) {
	t.Helper()
	a := newAgent(t, func(c *Config) { c.Kube, c.AgentSocket = kube, filepath.Join(sockets(t), "agent.sock") })
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.servePlugin(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("serving the plugin: %v", err)
		}
	})
	eventually(t, "the agent listens", func() bool { return exists(a.AgentSocket) })
	return a, a.AgentSocket
}

func TestThePluginGetsThePodsAnnotationsThatArePodtaps(t *testing.T) {
	a, socket := serving(t, kubeWith(pod("web", "web-0", "1-2", map[string]string{"podtap.io/taps": "veth: {}", "secret": "x"})))
	got, err := ask(t, socket, "1-2")
	if err != nil || !reflect.DeepEqual(got, map[string]string{"podtap.io/taps": "veth: {}"}) {
		t.Errorf("annotations %v, error %v", got, err)
	}
	if n := testutil.ToFloat64(a.metrics.questions.WithLabelValues(resultAnswered)); n != 1 {
		t.Errorf("%v questions were answered", n)
	}
}

func TestAQuestionThatHasNoAnswerIsToldWhy(t *testing.T) {
	going := pod("web", "web-0", "1-2", map[string]string{"podtap.io/taps": "veth: {}"})
	going.DeletionTimestamp, going.Finalizers = &metav1.Time{Time: time.Now()}, []string{"example.com/x"}
	forged := pod("web", "web-0", "1-2", map[string]string{"podtap.io/taps": "veth: {}", hashAnnotation: "3-4"})
	for _, c := range []struct {
		what   string
		kube   *Kube
		uid    string
		result string
		says   string
	}{
		{"another pod of the name", kubeWith(pod("web", "web-0", "1-2", nil)), "3-4", resultOther, `UID 1-2, and the sandbox is one of "3-4"`},
		{"a pod that only says that it is static", kubeWith(forged), "3-4", resultOther, "UID 1-2"},
		{"no UID, and the pod is about to go", kubeWith(going), "", resultOther, "UID 1-2"},
		{"no such pod", kubeWith(pod("web", "other", "1-2", nil)), "1-2", resultUnknown, "the API server has no pod web/web-0"},
		{"no API server", nil, "1-2", resultNoAPI, "without an API server"},
	} {
		a, socket := serving(t, c.kube)
		got, err := ask(t, socket, c.uid)
		if err == nil || got != nil || !strings.Contains(strings.ReplaceAll(err.Error(), `\\\"`, `"`), c.says) && !strings.Contains(strings.ReplaceAll(err.Error(), `\"`, `"`), c.says) {
			t.Errorf("%s: annotations %v, error %v, want %s", c.what, got, err, c.says)
		}
		if n := testutil.ToFloat64(a.metrics.questions.WithLabelValues(c.result)); n != 1 {
			t.Errorf("%s: %v questions count as %s", c.what, n, c.result)
		}
	}
}

// The sandbox of a static pod has the hash of its file for a UID.
func TestAStaticPodIsKnownByTheHashOfItsFile(t *testing.T) {
	_, socket := serving(t, kubeWith(pod("web", "web-0", "1-2", map[string]string{
		"podtap.io/taps": "veth: {}", mirrorAnnotation: "3-4", hashAnnotation: "3-4"})))
	if got, err := ask(t, socket, "3-4"); err != nil || got["podtap.io/taps"] != "veth: {}" {
		t.Errorf("annotations %v, error %v", got, err)
	}
	if got, err := ask(t, socket, "5-6"); err == nil {
		t.Errorf("with another hash: annotations %v", got)
	}
}

// Runtimes before containerd 1.6 do not tell the UID.
func TestWithoutAUIDTheNameWillDo(t *testing.T) {
	_, socket := serving(t, kubeWith(pod("web", "web-0", "1-2", map[string]string{"podtap.io/taps": "veth: {}"})))
	if got, err := ask(t, socket, ""); err != nil || got["podtap.io/taps"] != "veth: {}" {
		t.Errorf("annotations %v, error %v", got, err)
	}
}

// The API server, over real HTTP: one request for the object's metadata alone.
func TestAQuestionCostsOneRequestForThePodsMetadata(t *testing.T) {
	asked := make(chan string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.Method + " " + r.URL.String() + " " + r.Header.Get("Accept")
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprint(w, `{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"web-0","namespace":"web","uid":"1-2","annotations":{"podtap.io/taps":"veth: {}"}}}`)
	}))
	defer server.Close()
	kube, err := NewKube(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	_, socket := serving(t, kube)
	if got, err := ask(t, socket, "1-2"); err != nil || got["podtap.io/taps"] != "veth: {}" {
		t.Errorf("annotations %v, error %v", got, err)
	}
	if q := <-asked; len(asked) != 0 || !strings.HasPrefix(q, "GET /api/v1/namespaces/web/pods/web-0?") || !strings.Contains(q, "PartialObjectMetadata") {
		t.Errorf("the API server was asked %q, and %d times more", q, len(asked))
	}
}

// A limit of the client's own would fail some of the pods that a node starts at once.
func TestManyQuestionsAtOnceAllHaveAnswers(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprint(w, `{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":"web-0","namespace":"web","uid":"1-2"}}`)
	}))
	defer server.Close()
	// A limit that somebody else's configuration has is not the questions' either.
	kube, err := NewKube(&rest.Config{Host: server.URL, QPS: 1, Burst: 1, RateLimiter: flowcontrol.NewFakeNeverRateLimiter()})
	if err != nil {
		t.Fatal(err)
	}
	a := newAgent(t, func(c *Config) { c.Kube = kube })
	// At 50 in a second, 100 at first, these would take 38 s.
	const many = 2000
	ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
	defer cancel()
	for range many {
		if _, _, err := a.lookUp(ctx, question("web", "web-0", "1-2")); err != nil {
			t.Fatal(err)
		}
	}
}

// A pod's start waits: the plugin must hear that there is no answer, not nothing.
func TestAnAPIServerThatHangsIsGivenUpInTime(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer server.Close()
	defer close(release)
	kube, err := NewKube(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	a, socket := serving(t, kube)
	begin := time.Now()
	_, err = ask(t, socket, "1-2")
	if err == nil {
		t.Error("there is an answer")
	}
	if took := time.Since(begin); took > api.Timeout+2*time.Second {
		t.Errorf("it took %v", took)
	}
	eventually(t, "the question counts as failed", func() bool {
		return testutil.ToFloat64(a.metrics.questions.WithLabelValues(resultError)) == 1
	})
}
