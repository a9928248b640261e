package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	api "github.com/podtap/podtap/api/agent"
)

// Results of questions, for the metric.
const (
	resultAnswered = "answered"
	resultUnknown  = "unknown"  // there is no such pod
	resultOther    = "otherPod" // there is one of the name, with another UID
	resultNoAPI    = "noAPI"    // podtapd runs without an API server
	resultError    = "error"
)

var results = []string{resultAnswered, resultUnknown, resultOther, resultNoAPI, resultError}

// Annotations that the kubelet gives to the mirror object of a static pod. The sandbox
// has the hash as its pod's UID; the object has a UID of its own.
const (
	mirrorAnnotation = "kubernetes.io/config.mirror"
	hashAnnotation   = "kubernetes.io/config.hash"
)

// prefix is that of the annotations that are podtap's. The plugin gets no others.
const prefix = "podtap.io/"

var pods = schema.GroupVersionResource{Version: "v1", Resource: "pods"}

// answer answers the plugin's question for a pod's annotations.
func (a *Agent) answer(ctx context.Context, q api.Request) (annotations map[string]string, err error) {
	result := resultError
	err = guarded(func() error {
		annotations, result, err = a.lookUp(ctx, q)
		return err
	})
	a.metrics.questions.WithLabelValues(result).Inc()
	if err != nil {
		a.Log.Warn("a question of the plugin has no answer", "namespace", q.Namespace, "pod", q.Name, "uid", q.UID, "container", q.ContainerID, "error", err)
		return nil, err
	}
	return annotations, nil
}

// lookUp gets the pod from the API server itself, not from a cache that may be behind:
// the kubelet has seen the pod, so it is there. That holds for a static pod's mirror
// object too, which the kubelet makes first; a static pod that the API server does not
// have, because it cannot be reached, say, cannot be answered for.
//
// The UID tells a pod from its namesake before it. Runtimes before containerd 1.6 do
// not pass it on: then a name must do, of a pod that is not about to go.
func (a *Agent) lookUp(ctx context.Context, q api.Request) (map[string]string, string, error) {
	if a.Kube == nil {
		return nil, resultNoAPI, errors.New("podtapd runs without an API server, so it knows no annotations")
	}
	if q.Namespace == "" || q.Name == "" {
		return nil, resultError, errors.New("the question names no pod")
	}
	pod, err := a.Kube.Pods.Resource(pods).Namespace(q.Namespace).Get(ctx, q.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, resultUnknown, fmt.Errorf("the API server has no pod %s/%s", q.Namespace, q.Name)
	case err != nil:
		return nil, resultError, fmt.Errorf("get the pod %s/%s: %w", q.Namespace, q.Name, err)
	}
	_, static := pod.Annotations[mirrorAnnotation]
	switch {
	case q.UID == "" && pod.DeletionTimestamp == nil:
	case q.UID != "" && (string(pod.UID) == q.UID || static && pod.Annotations[hashAnnotation] == q.UID):
	default:
		return nil, resultOther, fmt.Errorf("the pod %s/%s has the UID %s, and the sandbox is one of %q", q.Namespace, q.Name, pod.UID, q.UID)
	}
	out := map[string]string{}
	for key, value := range pod.Annotations {
		if strings.HasPrefix(key, prefix) {
			out[key] = value
		}
	}
	return out, resultAnswered, nil
}
