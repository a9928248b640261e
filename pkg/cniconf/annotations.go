package cniconf

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/podtap/podtap/pkg/tap"
)

const (
	// AnnotationKey is the pod annotation that holds taps.
	AnnotationKey = "podtap.io/taps"
	// Capability is the key under which containerd (since 1.5) and CRI-O (since
	// 1.29) hand over the pod's annotations to plugins that declare it.
	Capability = "io.kubernetes.cri.pod-annotations"
)

// Annotations is what the runtime says of the pod's annotations.
type Annotations struct {
	// Known is set where the runtime handed them over, were it none at all.
	Known bool
	// Ask is set where they were wanted and the runtime, or Multus before us,
	// dropped them: the node agent may know.
	Ask bool
	// Values are the annotations; nil where there are none or they are unknown.
	Values map[string]string
}

func parseAnnotations(doc document) (Annotations, error) {
	var runtime map[string]json.RawMessage
	if err := doc.read("runtimeConfig", &runtime); err != nil {
		return Annotations{}, err
	}
	text, known := runtime[Capability]
	if !known {
		// A configuration wants annotations by declaring the capability, or by
		// naming the agent that has them. One that does neither has only its own taps.
		var declared map[string]bool
		var agentSocket string
		err := errors.Join(doc.read("capabilities", &declared), doc.read("agentSocket", &agentSocket))
		return Annotations{Ask: declared[Capability] || agentSocket != ""}, err
	}
	a := Annotations{Known: true}
	if err := json.Unmarshal(text, &a.Values); err != nil {
		return a, Error(types.ErrDecodingFailure, fmt.Errorf("runtimeConfig[%q]: %w", Capability, err))
	}
	return a, nil
}

// AnnotationTaps are the taps that a pod's annotations ask for.
func AnnotationTaps(annotations map[string]string) ([]tap.Tap, error) {
	taps, err := tap.Parse([]byte(annotations[AnnotationKey]))
	if err != nil {
		return nil, Error(CodeAnnotation, fmt.Errorf("annotation %s: %w", AnnotationKey, err))
	}
	return taps, nil
}

// Pod is what CNI_ARGS says of the pod; its fields are empty where it says nothing.
type Pod struct{ Namespace, Name, UID string }

// ParseArgs reads CNI_ARGS: KEY=VALUE pairs between semicolons, in any order,
// some of them twice where Multus stands between.
func ParseArgs(args string) Pod {
	var p Pod
	for _, pair := range strings.Split(args, ";") {
		key, value, _ := strings.Cut(pair, "=")
		switch key {
		case "K8S_POD_NAMESPACE":
			p.Namespace = cmp.Or(p.Namespace, value)
		case "K8S_POD_NAME":
			p.Name = cmp.Or(p.Name, value)
		case "K8S_POD_UID":
			p.UID = cmp.Or(p.UID, value)
		}
	}
	return p
}

// Attachment is one interface of one container, as GC lists those still valid.
type Attachment struct {
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifname"`
}

// ParseGC reads the network's name and its valid attachments.
func ParseGC(stdin []byte) (network string, valid []Attachment, err error) {
	var doc map[string]json.RawMessage
	if err := json.Unmarshal(stdin, &doc); err != nil {
		return "", nil, fmt.Errorf("network configuration: %w", err)
	}
	const key = "cni.dev/valid-attachments"
	list, present := doc[key]
	if !present {
		// Nothing said is not the same as nothing valid.
		return "", nil, fmt.Errorf("GC needs the list %q", key)
	}
	if err := json.Unmarshal(list, &valid); err != nil {
		return "", nil, fmt.Errorf("network configuration: %s: %w", key, err)
	}
	if network, err = ParseName(stdin); err != nil {
		return "", nil, err
	}
	return network, valid, nil
}

// ParseName reads as little of the configuration as DEL needs.
func ParseName(stdin []byte) (name string, err error) {
	var doc document
	if err := json.Unmarshal(stdin, &doc); err != nil {
		return "", fmt.Errorf("network configuration: %w", err)
	}
	err = doc.read("name", &name)
	return name, err
}
