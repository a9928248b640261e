package lab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/plugins/pkg/ns"
)

// verbTimeout bounds one verb of a whole chain.
const verbTimeout = time.Minute

// Runtime calls CNI plugins through libcni on a node, as a container runtime does.
type Runtime struct {
	node *Space
	cni  *libcni.CNIConfig
}

// NewRuntime makes a runtime of a node that finds plugins in binDir and keeps
// libcni's cache in cacheDir.
func NewRuntime(node *Space, binDir, cacheDir string) *Runtime {
	return &Runtime{node: node, cni: libcni.NewCNIConfigWithCacheDir([]string{binDir}, cacheDir, nil)}
}

// Sandbox is a pod as the runtime knows it.
type Sandbox struct {
	ID          string // of the container
	NetNS       string // path; empty once it is gone
	IfName      string
	Namespace   string
	Name        string
	Annotations map[string]string // nil: the runtime hands none over
	// Ports are of the node, and lead to ports of the pod: UDP, for portmap.
	Ports map[int]int
}

func (s Sandbox) config() *libcni.RuntimeConf {
	c := &libcni.RuntimeConf{ContainerID: s.ID, NetNS: s.NetNS, IfName: s.IfName, Args: [][2]string{
		{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", s.Namespace}, {"K8S_POD_NAME", s.Name}, {"K8S_POD_INFRA_CONTAINER_ID", s.ID},
	}}
	c.CapabilityArgs = map[string]any{}
	if s.Annotations != nil {
		c.CapabilityArgs["io.kubernetes.cri.pod-annotations"] = s.Annotations
	}
	var ports []map[string]any
	for node, pod := range s.Ports {
		ports = append(ports, map[string]any{"hostPort": node, "containerPort": pod, "protocol": "udp"})
	}
	if ports != nil {
		c.CapabilityArgs["portMappings"] = ports
	}
	return c
}

// do runs one verb in the node's network namespace, so that the plugins, which
// inherit it, take it for theirs.
func (r *Runtime) do(conflist string, verb func(context.Context, *libcni.NetworkConfigList) error) error {
	list, err := libcni.NetworkConfFromBytes([]byte(conflist))
	if err != nil {
		return fmt.Errorf("conflist: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), verbTimeout)
	defer cancel()
	return r.node.NetNS.Do(func(ns.NetNS) error { return verb(ctx, list) })
}

// Add adds a pod to a network.
func (r *Runtime) Add(conflist string, s Sandbox) (result types.Result, err error) {
	err = r.do(conflist, func(ctx context.Context, list *libcni.NetworkConfigList) error {
		result, err = r.cni.AddNetworkList(ctx, list, s.config())
		return err
	})
	return result, err
}

// Del deletes a pod from a network.
func (r *Runtime) Del(conflist string, s Sandbox) error {
	return r.do(conflist, func(ctx context.Context, list *libcni.NetworkConfigList) error {
		return r.cni.DelNetworkList(ctx, list, s.config())
	})
}

// Check checks a pod's attachment to a network.
func (r *Runtime) Check(conflist string, s Sandbox) error {
	return r.do(conflist, func(ctx context.Context, list *libcni.NetworkConfigList) error {
		return r.cni.CheckNetworkList(ctx, list, s.config())
	})
}

// GC collects what is left of attachments that are not valid.
func (r *Runtime) GC(conflist string, valid ...Sandbox) error {
	var attachments []types.GCAttachment
	for _, s := range valid {
		attachments = append(attachments, types.GCAttachment{ContainerID: s.ID, IfName: s.IfName})
	}
	return r.do(conflist, func(ctx context.Context, list *libcni.NetworkConfigList) error {
		return r.cni.GCNetworkList(ctx, list, &libcni.GCArgs{ValidAttachments: attachments})
	})
}

// Status asks a network's plugins whether they are ready.
func (r *Runtime) Status(conflist string) error {
	return r.do(conflist, func(ctx context.Context, list *libcni.NetworkConfigList) error {
		return r.cni.GetStatusNetworkList(ctx, list)
	})
}

// pluginDir is the environment variable that tells the lab where the plugins are.
const pluginDir = "PODTAP_LAB_PLUGINS"

// buildPlugins builds podtap, and containernetworking's plugins, which go.mod has as
// tools.
func buildPlugins(dir string) error {
	for _, args := range [][]string{{"-o", dir + "/", "tool"}, {"-o", filepath.Join(dir, "podtap"), "github.com/podtap/podtap/plugins/tap"}} {
		if out, err := exec.Command("go", append([]string{"build"}, args...)...).CombinedOutput(); err != nil {
			return fmt.Errorf("build the plugins: %w\n%s", err, out)
		}
	}
	return nil
}

// Plugins is the directory with podtap and the network plugins, in tests whose Main
// built them.
func Plugins() string { return os.Getenv(pluginDir) }
