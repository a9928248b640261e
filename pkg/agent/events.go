package agent

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	typed "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/podtap/podtap/api/node"
)

// component is the source of podtapd's events, and its name to the API server.
const component = "podtapd"

// maxMessage bounds an event's message in bytes; the API server refuses more.
const maxMessage = 1024

// reasonRefused is the reason of an event where the policy refused a tap. The others
// are those of node.Reason.
const reasonRefused = "TapRefused"

// events writes events of pods and of the node. client-go's recorder queues them, counts
// those that are the same in one event, and drops what comes too often or finds no API
// server for long.
type events struct {
	node        string
	recorder    record.EventRecorder // nil without an API server
	broadcaster record.EventBroadcaster
}

func newEvents(nodeName string, kube *Kube) *events {
	e := &events{node: nodeName}
	if kube == nil {
		return e
	}
	e.broadcaster = record.NewBroadcaster()
	e.broadcaster.StartRecordingToSink(&typed.EventSinkImpl{Interface: kube.Events.Events("")})
	// The scheme is asked for the kind of objects; there are references only.
	e.recorder = e.broadcaster.NewRecorder(runtime.NewScheme(), corev1.EventSource{Component: component, Host: nodeName})
	return e
}

func (e *events) stop() {
	if e.broadcaster != nil {
		e.broadcaster.Shutdown()
	}
}

// ofPod writes a warning about a pod. The UID is the sandbox's. Of a static pod that is
// the kubelet's hash, as in the kubelet's own events, and kubectl describe looks for it.
func (e *events) ofPod(namespace, name, uid, reason, message string) {
	if e.recorder == nil || namespace == "" || name == "" {
		return
	}
	e.recorder.Event(&corev1.ObjectReference{Kind: "Pod", APIVersion: "v1", Namespace: namespace, Name: name, UID: types.UID(uid)},
		corev1.EventTypeWarning, reason, cut(message, maxMessage))
}

// ofNode writes an event of the node, with its name for a UID, as the kubelet does.
func (e *events) ofNode(kind, reason, message string) {
	if e.recorder == nil || e.node == "" {
		return
	}
	e.recorder.Event(&corev1.ObjectReference{Kind: "Node", APIVersion: "v1", Name: e.node, UID: types.UID(e.node)},
		kind, reason, cut(message, maxMessage))
}

// cut is a text of at most so many bytes, valid UTF-8.
func cut(text string, most int) string {
	text = strings.ToValidUTF8(text, "")
	if len(text) <= most {
		return text
	}
	const more = "…"
	return strings.ToValidUTF8(text[:most-len(more)], "") + more
}

// eventReason is the reason of an event about a failure that the plugin told of.
func eventReason(code uint) string {
	if code == codePolicy {
		return reasonRefused
	}
	return string(node.ReasonFailed)
}
