package agent

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"
)

func TestTheStartupTaintIsTakenOffAndNoOther(t *testing.T) {
	other := core.Taint{Key: "other", Effect: core.TaintEffectNoSchedule}
	mine := func(e core.TaintEffect) core.Taint { return core.Taint{Key: "podtap.io/not-ready", Effect: e} }
	node := &core.Node{ObjectMeta: meta.ObjectMeta{Name: "n"}, Spec: core.NodeSpec{Taints: []core.Taint{
		mine(core.TaintEffectNoSchedule), other, mine(core.TaintEffectNoExecute)}}}
	kube := fake.NewClientset(node)
	failures := 1
	kube.PrependReactor("get", "nodes", func(k8stesting.Action) (bool, runtime.Object, error) {
		if failures > 0 {
			failures--
			return true, nil, errors.New("the API server is away")
		}
		return false, nil, nil
	})
	taint := NewTaint(kube.CoreV1(), "n", "podtap.io/not-ready", slog.New(slog.DiscardHandler))
	taint.Remove(t.Context())
	taint.Remove(t.Context()) // each time that podtap is ready
	eventually(t, "the taint is gone", func() bool {
		got, err := kube.CoreV1().Nodes().Get(context.Background(), "n", meta.GetOptions{})
		return err == nil && slices.Equal(got.Spec.Taints, []core.Taint{other})
	})
	removed, err := taint.remove(t.Context())
	if removed || err != nil {
		t.Errorf("where there is none: %v, %v", removed, err)
	}
	if NewTaint(kube.CoreV1(), "n", "", nil) != nil {
		t.Error("without a key there is something to remove")
	}
}
