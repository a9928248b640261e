// Package cluster finds podtapd on the nodes of a cluster and asks it, through the
// API server: whoever may do that needs no way to the nodes.
package cluster

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

const (
	// DefaultNamespace is where podtap is installed.
	DefaultNamespace = "podtap-system"
	// Selector is that of podtapd's pods.
	Selector = "app.kubernetes.io/name=podtap"
	// defaultTimeout bounds what one node takes for all that it is asked.
	defaultTimeout = 10 * time.Second
	// atOnce is how many nodes are asked at the same time.
	atOnce = 16
)

// Cluster is a cluster with podtap.
type Cluster struct {
	Client    kubernetes.Interface
	Namespace string // podtapd's
	// Dial connects to the API of a podtapd.
	Dial    func(context.Context, Podtapd) (net.Conn, error)
	Timeout time.Duration // for one node
}

// New is the cluster that a configuration leads to.
func New(config *rest.Config, namespace string) (*Cluster, error) {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	forwarder := forwarder{config, client.CoreV1().RESTClient(), namespace}
	return &Cluster{Client: client, Namespace: namespace, Dial: forwarder.dial, Timeout: defaultTimeout}, nil
}

// Podtapd is the podtapd of a node.
type Podtapd struct {
	Node string
	Pod  string // its name
	// Trouble is why it does not run. Where it does, it can be asked, even if it is
	// not ready: then it knows why.
	Trouble string
}

// Podtapds are those of the cluster's nodes, one each, in order of their names.
func (c *Cluster) Podtapds(ctx context.Context) ([]Podtapd, error) {
	list, err := c.Client.CoreV1().Pods(c.Namespace).List(ctx, metav1.ListOptions{LabelSelector: Selector})
	if apierrors.IsForbidden(err) {
		return nil, c.forbidden(err)
	}
	if err != nil {
		return nil, fmt.Errorf("list podtapd's pods in namespace %s: %w", c.Namespace, err)
	}
	best := map[string]*corev1.Pod{}
	for i := range list.Items {
		p := &list.Items[i]
		// Pods that take podtap off a node have the same label, and no API.
		owner := metav1.GetControllerOf(p)
		if owner == nil || owner.Kind != "DaemonSet" {
			continue
		}
		on := nodeOf(p)
		if best[on] == nil || better(p, best[on]) {
			best[on] = p
		}
	}
	var out []Podtapd
	for on, p := range best {
		out = append(out, Podtapd{Node: on, Pod: p.Name, Trouble: trouble(p)})
	}
	slices.SortFunc(out, func(a, b Podtapd) int { return cmp.Or(strings.Compare(a.Node, b.Node), strings.Compare(a.Pod, b.Pod)) })
	return out, nil
}

// NotInstalled is the error of a cluster without podtapd.
func (c *Cluster) NotInstalled() error {
	return fmt.Errorf("there is no podtapd in namespace %s; install podtap with `kubectl apply -k deploy/kustomize/base`, see docs/install.md, "+
		"or say with --podtap-namespace where it is", c.Namespace)
}

// forbidden says what a user needs.
func (c *Cluster) forbidden(err error) error {
	return fmt.Errorf("you need the verb `list` on `pods` and the verb `create` on `pods/portforward` in namespace %s; "+
		"an administrator can give them to you with a Role and a RoleBinding there: %w", c.Namespace, err)
}

// nodeOf is the node of a DaemonSet's pod, also before it is scheduled there.
func nodeOf(p *corev1.Pod) string {
	if p.Spec.NodeName != "" || p.Spec.Affinity == nil || p.Spec.Affinity.NodeAffinity == nil ||
		p.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return p.Spec.NodeName
	}
	for _, term := range p.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms {
		for _, f := range term.MatchFields {
			if f.Key == metav1.ObjectNameField && len(f.Values) == 1 {
				return f.Values[0]
			}
		}
	}
	return ""
}

// better says which of two pods of one node is to be asked: while a DaemonSet is
// updated, an old one may still be there.
func better(a, b *corev1.Pod) bool {
	if x, y := rank(a), rank(b); x != y {
		return x > y
	}
	return b.CreationTimestamp.Before(&a.CreationTimestamp)
}

func rank(p *corev1.Pod) int {
	switch {
	case trouble(p) != "":
		return 0
	case p.DeletionTimestamp != nil:
		return 1
	case !slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue }):
		return 2
	}
	return 3
}

// trouble is why a pod does not run.
func trouble(p *corev1.Pod) string {
	for _, s := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if w := s.State.Waiting; w != nil && w.Reason != "PodInitializing" {
			return reasoned(w.Reason, w.Message)
		}
		if t := s.State.Terminated; t != nil && t.ExitCode != 0 {
			return reasoned(t.Reason, t.Message)
		}
	}
	if p.Status.Phase == corev1.PodRunning {
		return ""
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			return reasoned(c.Reason, c.Message)
		}
	}
	return reasoned(cmp.Or(p.Status.Reason, string(p.Status.Phase), "no status"), p.Status.Message)
}

func reasoned(reason, message string) string {
	if message == "" {
		return reason
	}
	return reason + ": " + oneLine(message)
}
