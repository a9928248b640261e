package drivers

import (
	"context"
	"fmt"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/cri-o/ocicni/pkg/ocicni"
)

// crio calls ocicni as CRI-O does.
type crio struct{ cni ocicni.CNIPlugin }

func newCRIO(confDir, binDir string) (driver, error) {
	plugin, err := ocicni.InitCNI("", confDir, binDir)
	return &crio{plugin}, err
}

// load does nothing: ocicni watches the folder itself.
func (*crio) load() error { return nil }

// network names no network, so that the pod gets the default one, and the annotations
// are for that.
func (c *crio) network(p pod) ocicni.PodNetwork {
	given := p.Annotations
	if given == nil {
		given = map[string]string{}
	}
	return ocicni.PodNetwork{Name: p.Name, Namespace: p.Namespace, ID: p.ID, UID: p.UID, NetNS: p.NetNS, Networks: []ocicni.NetAttachment{},
		RuntimeConfig: map[string]ocicni.RuntimeConfig{c.cni.GetDefaultNetworkName(): {PodAnnotations: &given}}}
}

// add takes the pod's addresses from a CHECK right behind ADD.
func (c *crio) add(p pod) (outcome, error) {
	if _, err := c.cni.SetUpPodWithContext(context.Background(), c.network(p)); err != nil {
		return outcome{}, err
	}
	all, err := c.cni.GetPodNetworkStatusWithContext(context.Background(), c.network(p))
	if err != nil {
		return outcome{}, err
	}
	if len(all) != 1 {
		return outcome{}, fmt.Errorf("the pod has %d networks", len(all))
	}
	result, err := current.NewResultFromResult(all[0].Result)
	if err != nil {
		return outcome{}, err
	}
	o := outcome{Network: all[0].Name + " " + all[0].Ifname, Result: result}
	for _, ip := range result.IPs {
		o.IPs = append(o.IPs, ip.Address.IP.String())
	}
	return o, nil
}

func (c *crio) check(p pod) error {
	_, err := c.cni.GetPodNetworkStatusWithContext(context.Background(), c.network(p))
	return err
}

func (c *crio) remove(p pod) error {
	return c.cni.TearDownPodWithContext(context.Background(), c.network(p))
}

func (c *crio) status() error { return c.cni.Status() }

func (c *crio) gc(valid []pod) error {
	var networks []*ocicni.PodNetwork
	for _, p := range valid {
		n := c.network(p)
		networks = append(networks, &n)
	}
	return c.cni.GC(context.Background(), networks)
}
