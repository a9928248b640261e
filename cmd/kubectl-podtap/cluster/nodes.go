package cluster

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Node is a Linux node as the API server knows it.
type Node struct {
	Name, Architecture, Kernel, Runtime string
	// Excluded says that podtap's DaemonSet is not meant for it.
	Excluded bool
}

// Nodes are the cluster's Linux nodes. Whoever may not list nodes gets an error for
// which apierrors.IsForbidden is true.
func (c *Cluster) Nodes(ctx context.Context) ([]Node, error) {
	list, err := c.Client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	wanted, err := c.nodeSelector(ctx)
	if err != nil {
		return nil, err
	}
	var out []Node
	for _, n := range list.Items {
		is := n.Status.NodeInfo
		if is.OperatingSystem != "" && is.OperatingSystem != "linux" {
			continue
		}
		out = append(out, Node{Name: n.Name, Architecture: is.Architecture, Kernel: is.KernelVersion, Runtime: is.ContainerRuntimeVersion,
			Excluded: !wanted.Matches(labels.Set(n.Labels))})
	}
	return out, nil
}

// nodeSelector is what podtap's DaemonSet says of nodes; everything, where that is
// unknown.
func (c *Cluster) nodeSelector(ctx context.Context) (labels.Selector, error) {
	list, err := c.Client.AppsV1().DaemonSets(c.Namespace).List(ctx, metav1.ListOptions{LabelSelector: Selector})
	switch {
	case apierrors.IsForbidden(err):
		return labels.Everything(), nil
	case err != nil:
		return nil, err
	case len(list.Items) != 1:
		return labels.Everything(), nil
	}
	return labels.SelectorFromSet(list.Items[0].Spec.Template.Spec.NodeSelector), nil
}
