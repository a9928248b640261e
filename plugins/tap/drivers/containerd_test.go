package drivers

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/containerd/go-cni"
)

// containerd calls go-cni as its CRI plugin does.
type containerd struct {
	cni cni.CNI
	// bare has no loopback network. That one is of CNI 0.3.1, and makes go-cni's CHECK
	// of all networks fail; containerd itself never calls CHECK.
	bare cni.CNI
}

func newContainerd(confDir, binDir string) (driver, error) {
	var c containerd
	for networks, to := range map[int]*cni.CNI{1: &c.bare, 2: &c.cni} {
		var err error
		if *to, err = cni.New(cni.WithMinNetworkCount(networks), cni.WithPluginConfDir(confDir),
			cni.WithPluginMaxConfNum(1), cni.WithPluginDir([]string{binDir})); err != nil {
			return nil, err
		}
	}
	if err := c.load(); err != nil { // containerd starts all the same, and is not ready
		fmt.Fprintln(os.Stderr, "load:", err)
	}
	return &c, nil
}

// load is what containerd does when it sees a change in its folder.
func (c *containerd) load() error {
	return errors.Join(c.cni.Load(cni.WithLoNetwork, cni.WithDefaultConf), c.bare.Load(cni.WithDefaultConf))
}

func (p pod) options() []cni.NamespaceOpts {
	return []cni.NamespaceOpts{
		cni.WithLabels(map[string]string{"K8S_POD_NAMESPACE": p.Namespace, "K8S_POD_NAME": p.Name,
			"K8S_POD_INFRA_CONTAINER_ID": p.ID, "K8S_POD_UID": p.UID, "IgnoreUnknown": "1"}),
		cni.WithCapability(annotations, p.Annotations),
	}
}

func (c *containerd) add(p pod) (outcome, error) {
	result, err := c.cni.Setup(context.Background(), p.ID, p.NetNS, p.options()...)
	if err != nil {
		return outcome{}, err
	}
	o := outcome{Interfaces: result.Interfaces, Result: result.Raw()[1]} // the first is loopback's
	main, ok := result.Interfaces["eth0"]
	if !ok || len(main.IPConfigs) == 0 {
		return outcome{}, fmt.Errorf("failed to find network info for sandbox %q", p.ID)
	}
	for _, ip := range main.IPConfigs {
		o.IPs = append(o.IPs, ip.IP.String())
	}
	return o, nil
}

func (c *containerd) check(p pod) error {
	return c.bare.Check(context.Background(), p.ID, p.NetNS, p.options()...)
}

func (c *containerd) remove(p pod) error {
	return c.cni.Remove(context.Background(), p.ID, p.NetNS, p.options()...)
}

func (c *containerd) status() error { return c.cni.Status() }

func (c *containerd) gc([]pod) error { return errors.New("go-cni has no GC") }
