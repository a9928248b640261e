package uninstall

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"
)

var quiet = slog.New(slog.DiscardHandler)

// podtapd's DaemonSet, as far as it matters here.
func set() *apps.DaemonSet {
	return &apps.DaemonSet{
		ObjectMeta: meta.ObjectMeta{Namespace: "podtap-system", Name: "podtap"},
		Spec: apps.DaemonSetSpec{
			Selector: &meta.LabelSelector{MatchLabels: map[string]string{"app.kubernetes.io/name": "podtap"}},
			Template: core.PodTemplateSpec{Spec: core.PodSpec{Containers: []core.Container{
				{Name: "podtapd", Image: "podtap:1", Args: []string{"run", "--cni-bin-dir=/host/cni/bin"}, VolumeMounts: []core.VolumeMount{{Name: "cni-bin", MountPath: "/host/cni/bin"}}}},
				Volumes: []core.Volume{{Name: "cni-bin"}}}},
		},
	}
}

// cluster says of each state of the DaemonSet that so many of 2 nodes are done.
func cluster(s *apps.DaemonSet, done *atomic.Int32) *fake.Clientset {
	kube := fake.NewClientset(s)
	kube.PrependReactor("get", "daemonsets", func(a k8stesting.Action) (bool, runtime.Object, error) {
		o, err := kube.Tracker().Get(a.GetResource(), a.GetNamespace(), "podtap")
		if err != nil {
			return true, nil, err
		}
		d := o.(*apps.DaemonSet).DeepCopy()
		d.Status = apps.DaemonSetStatus{DesiredNumberScheduled: 2, UpdatedNumberScheduled: 2, NumberReady: done.Load()}
		return true, d, nil
	})
	return kube
}

func TestTheDaemonSetUninstallsAndIsThenDeleted(t *testing.T) {
	var done atomic.Int32
	done.Store(2)
	kube := cluster(set(), &done)
	var patched apps.DaemonSet
	kube.PrependReactor("delete", "daemonsets", func(a k8stesting.Action) (bool, runtime.Object, error) {
		o, err := kube.Tracker().Get(a.GetResource(), a.GetNamespace(), "podtap")
		if err == nil {
			patched = *o.(*apps.DaemonSet)
		}
		return false, nil, nil
	})
	if err := Cluster(t.Context(), kube, "podtap-system", quiet); err != nil {
		t.Fatal(err)
	}
	c := patched.Spec.Template.Spec.Containers[0]
	if want := []string{"uninstall", "--stay", "--cni-bin-dir=/host/cni/bin"}; !slices.Equal(c.Args, want) {
		t.Errorf("podtapd was called with %q, want %q", c.Args, want)
	}
	if c.Image != "podtap:1" || len(c.VolumeMounts) != 2 || len(patched.Spec.Template.Spec.Volumes) != 2 {
		t.Errorf("podtapd's pod was %+v", patched.Spec.Template.Spec)
	}
	if m := patched.Spec.UpdateStrategy.RollingUpdate; m == nil || m.MaxUnavailable.String() != "100%" {
		t.Errorf("the nodes come one after the other: %+v", m)
	}
	if _, err := kube.AppsV1().DaemonSets("podtap-system").Get(t.Context(), "podtap", meta.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("the DaemonSet is still there: %v", err)
	}
}

func TestNodesThatWereNotReachedAreNamedAndTheDaemonSetStays(t *testing.T) {
	var done atomic.Int32
	done.Store(1)
	kube := cluster(set(), &done)
	for name, condition := range map[string]core.ConditionStatus{"good": core.ConditionTrue, "bad": core.ConditionFalse} {
		p := &core.Pod{ObjectMeta: meta.ObjectMeta{Namespace: "podtap-system", Name: name, Labels: map[string]string{"app.kubernetes.io/name": "podtap"}},
			Spec:   core.PodSpec{NodeName: "node-" + name, Containers: []core.Container{{Args: []string{"uninstall", "--stay"}}}},
			Status: core.PodStatus{Conditions: []core.PodCondition{{Type: core.PodReady, Status: condition}}}}
		if err := kube.Tracker().Add(p); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := Cluster(ctx, kube, "podtap-system", quiet)
	if err == nil || !strings.Contains(err.Error(), "podtap is still on these nodes: node-bad ") || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v", err)
	}
	// Done again it goes on, without another change of the DaemonSet.
	kube.ClearActions()
	done.Store(2)
	if err := Cluster(t.Context(), kube, "podtap-system", quiet); err != nil {
		t.Error(err)
	}
	for _, a := range kube.Actions() {
		if a.GetVerb() == "patch" {
			t.Error("the DaemonSet was changed a second time")
		}
	}
}

func TestADaemonSetThatSomebodyTurnsBackIsNotTakenForDone(t *testing.T) {
	var done atomic.Int32
	kube := cluster(set(), &done)
	go func() {
		// As whoever keeps a cluster at what its manifests say.
		for t.Context().Err() == nil {
			d, err := kube.AppsV1().DaemonSets("podtap-system").Get(context.Background(), "podtap", meta.GetOptions{})
			if err == nil && d.Spec.Template.Spec.Containers[0].Args[0] == "uninstall" {
				d.Spec.Template.Spec.Containers[0].Args = []string{"run"}
				if _, err := kube.AppsV1().DaemonSets("podtap-system").Update(context.Background(), d, meta.UpdateOptions{}); err == nil {
					done.Store(2)
					return
				}
			}
			time.Sleep(time.Millisecond)
		}
	}()
	if err := Cluster(t.Context(), kube, "podtap-system", quiet); err == nil || !strings.Contains(err.Error(), "turned the DaemonSet back") {
		t.Errorf("error is %v", err)
	}
}

func TestWithoutADaemonSetNothingIsUninstalled(t *testing.T) {
	if err := Cluster(t.Context(), fake.NewClientset(), "podtap-system", quiet); err == nil || !strings.Contains(err.Error(), "there is no DaemonSet podtap-system/podtap") {
		t.Errorf("error is %v", err)
	}
	other := set()
	other.Spec.Template.Spec.Containers[0].Name = "other"
	if err := Cluster(t.Context(), fake.NewClientset(other), "podtap-system", quiet); err == nil || !strings.Contains(err.Error(), "it is not podtap's") {
		t.Errorf("error is %v", err)
	}
}
