package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"

	core "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/typed/core/v1"
)

// Taint is one that the node has from its start, so that no pod comes before podtap
// is chained.
type Taint struct {
	nodes   v1.NodesGetter
	node    string
	key     string
	log     *slog.Logger
	removal atomic.Bool // under way, or done
}

// NewTaint is nil where there is none to remove.
func NewTaint(nodes v1.NodesGetter, node, key string, log *slog.Logger) *Taint {
	if key == "" {
		return nil
	}
	return &Taint{nodes: nodes, node: node, key: key, log: log}
}

// Remove takes the taint off the node, in the background, and goes on trying until
// ctx ends. Once it is off it is nobody's business here any more.
func (t *Taint) Remove(ctx context.Context) {
	if !t.removal.CompareAndSwap(false, true) {
		return
	}
	go func() {
		for pause := retryFirst; ; pause = min(2*pause, retryMost) {
			removed, err := t.remove(ctx)
			if err == nil {
				if removed {
					t.log.Info("removed the startup taint", "taint", t.key)
				}
				return
			}
			t.log.Warn("the startup taint is still there", "taint", t.key, "error", err, "again in", pause)
			if !sleep(ctx, pause) {
				return
			}
		}
	}()
}

// remove removes the taint if it is there, and if nobody else has changed the
// node's taints since it looked.
func (t *Taint) remove(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, kubeTimeout)
	defer cancel()
	node, err := t.nodes.Nodes().Get(ctx, t.node, meta.GetOptions{})
	if err != nil {
		return false, err
	}
	rest := slices.DeleteFunc(slices.Clone(node.Spec.Taints), func(c core.Taint) bool { return c.Key == t.key })
	if len(rest) == len(node.Spec.Taints) {
		return false, nil
	}
	patch, err := json.Marshal([]map[string]any{
		{"op": "test", "path": "/spec/taints", "value": node.Spec.Taints},
		{"op": "replace", "path": "/spec/taints", "value": rest},
	})
	if err != nil {
		return false, err
	}
	_, err = t.nodes.Nodes().Patch(ctx, t.node, types.JSONPatchType, patch, meta.PatchOptions{})
	if apierrors.IsInvalid(err) {
		err = fmt.Errorf("somebody else has changed them meanwhile: %w", err)
	}
	return err == nil, err
}
