// Package uninstall takes podtap off a cluster and off a node. On the cluster it
// turns podtapd's own DaemonSet into one that uninstalls: so it reaches each node
// that podtapd has reached, nodes that come back included, and whoever is cut short
// is gone on with by the next one.
package uninstall

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

const (
	// daemonSet and container are podtapd's, as the manifests name them.
	daemonSet = "podtap"
	container = "podtapd"
	// reverted, as first arguments in the place of `run`, has each podtapd uninstall,
	// and stay to say that it has.
	reverted = "uninstall"
	stay     = "--stay"

	poll           = 2 * time.Second
	requestTimeout = 10 * time.Second
	maxNamed       = 20 // nodes that an error names
)

// CacheFolder is where libcni remembers attachments: its default, and Multus' and
// CRI-O's. It is mounted for the uninstallation alone, under its own name.
const CacheFolder = "/var/lib/cni"

// Cluster takes podtap off all nodes of a cluster, then deletes the DaemonSet. It
// returns when that is done, or at ctx's end with the nodes that were not reached;
// the DaemonSet stays then, and goes on trying.
func Cluster(ctx context.Context, kube kubernetes.Interface, namespace string, log *slog.Logger) error {
	set, err := kube.AppsV1().DaemonSets(namespace).Get(ctx, daemonSet, meta.GetOptions{})
	if apierrors.IsNotFound(err) {
		return fmt.Errorf("there is no DaemonSet %s/%s; if it was deleted before podtap was off the nodes, apply it once more, and then uninstall", namespace, daemonSet)
	}
	if err != nil {
		return err
	}
	patch, err := revert(set)
	if err != nil {
		return err
	}
	if patch != nil {
		if set, err = kube.AppsV1().DaemonSets(namespace).Patch(ctx, daemonSet, types.StrategicMergePatchType, patch, meta.PatchOptions{}); err != nil {
			return fmt.Errorf("have the DaemonSet uninstall: %w", err)
		}
		log.Info("podtapd now uninstalls on each node")
	}
	if err := rolledOut(ctx, kube, set, log); err != nil {
		return err
	}
	policy := meta.DeletePropagationForeground
	if err := kube.AppsV1().DaemonSets(namespace).Delete(ctx, daemonSet, meta.DeleteOptions{PropagationPolicy: &policy}); err != nil {
		return fmt.Errorf("podtap is off all nodes; its DaemonSet is still to be deleted: %w", err)
	}
	log.Info("podtap is off all nodes; its DaemonSet is deleted")
	return nil
}

// revert is the patch that has podtapd uninstall; nil where it does already.
func revert(set *apps.DaemonSet) ([]byte, error) {
	i := slices.IndexFunc(set.Spec.Template.Spec.Containers, func(c core.Container) bool { return c.Name == container })
	if i < 0 {
		return nil, fmt.Errorf("the DaemonSet %s has no container %s; it is not podtap's", daemonSet, container)
	}
	args := slices.Clone(set.Spec.Template.Spec.Containers[i].Args)
	if len(args) > 0 && args[0] == reverted {
		return nil, nil
	}
	if len(args) > 0 && args[0] == "run" {
		args = args[1:]
	}
	type object = map[string]any
	return json.Marshal(object{"spec": object{
		// No pod needs podtapd any more.
		"updateStrategy": object{"type": "RollingUpdate", "rollingUpdate": object{"maxUnavailable": "100%", "maxSurge": 0}},
		"template": object{"spec": object{
			"containers": []object{{
				"name": container, "args": append([]string{reverted, stay}, args...),
				"volumeMounts": []object{{"name": "cni-cache", "mountPath": CacheFolder, "readOnly": true}},
			}},
			"volumes": []object{{"name": "cni-cache", "hostPath": object{"path": CacheFolder, "type": "DirectoryOrCreate"}}},
		}},
	}})
}

// reverts says whether podtapd uninstalls, as the DaemonSet stands.
func reverts(set *apps.DaemonSet) bool {
	return slices.ContainsFunc(set.Spec.Template.Spec.Containers, func(c core.Container) bool {
		return c.Name == container && len(c.Args) > 0 && c.Args[0] == reverted
	})
}

// rolledOut waits until podtapd has uninstalled on each node.
func rolledOut(ctx context.Context, kube kubernetes.Interface, set *apps.DaemonSet, log *slog.Logger) error {
	said := ""
	for {
		request, cancel := context.WithTimeout(ctx, requestTimeout)
		now, err := kube.AppsV1().DaemonSets(set.Namespace).Get(request, set.Name, meta.GetOptions{})
		cancel()
		if err == nil && !reverts(now) {
			return errors.New("somebody has turned the DaemonSet back into the one that installs podtap; keep whoever applies the manifests from doing so, and uninstall again")
		}
		if err == nil {
			s := now.Status
			if s.ObservedGeneration >= set.Generation && s.UpdatedNumberScheduled == s.DesiredNumberScheduled && s.NumberReady == s.DesiredNumberScheduled {
				return nil
			}
			if text := fmt.Sprintf("%d of %d", s.NumberReady, s.DesiredNumberScheduled); s.ObservedGeneration >= set.Generation && text != said {
				log.Info("waiting for the nodes", "done", text)
				said = text
			}
		} else if apierrors.IsNotFound(err) {
			return errors.New("somebody deleted the DaemonSet before podtap was off all nodes")
		} else if ctx.Err() == nil {
			log.Warn("the API server does not answer; podtap tries again", "error", err)
		}
		select {
		case <-ctx.Done():
			return unreached(kube, set, ctx.Err())
		case <-time.After(poll):
		}
	}
}

// unreached names the nodes on which podtapd has not uninstalled.
func unreached(kube kubernetes.Interface, set *apps.DaemonSet, because error) error {
	ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
	defer cancel()
	pods, err := kube.CoreV1().Pods(set.Namespace).List(ctx, meta.ListOptions{LabelSelector: meta.FormatLabelSelector(set.Spec.Selector)})
	if err != nil {
		return errors.Join(because, err)
	}
	var nodes []string
	for _, p := range pods.Items {
		if !doneOn(&p) {
			nodes = append(nodes, p.Spec.NodeName)
		}
	}
	slices.Sort(nodes)
	more := ""
	if left := len(nodes) - maxNamed; left > 0 {
		nodes, more = nodes[:maxNamed], fmt.Sprintf(", and %d more", left)
	}
	return fmt.Errorf("podtap is still on these nodes: %s%s (%w); their podtapd goes on trying, its log says what is wrong; uninstall again later, or give these nodes up by deleting the DaemonSet %s/%s",
		strings.Join(nodes, ", "), more, because, set.Namespace, set.Name)
}

// doneOn says whether a pod is one that has uninstalled.
func doneOn(p *core.Pod) bool {
	uninstalls := slices.ContainsFunc(p.Spec.Containers, func(c core.Container) bool { return len(c.Args) > 0 && c.Args[0] == reverted })
	return uninstalls && slices.ContainsFunc(p.Status.Conditions, func(c core.PodCondition) bool { return c.Type == core.PodReady && c.Status == core.ConditionTrue })
}
