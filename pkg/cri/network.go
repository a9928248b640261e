package cri

import (
	"context"
	"encoding/json"
	"fmt"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// Network is the network that the runtime has loaded for pods.
type Network struct {
	Name    string
	Plugins []string // their types, in order
	Configs []string // their configurations, in JSON, as the runtime has them
	// Problem is why the runtime says that its network is not ready; "" where it is.
	Problem string
}

// loopback is the network that containerd loads beside the pods', for lo.
const loopback = "cni-loopback"

// loaded is what containerd tells of the networks that it has loaded: ConfigResult of
// its package go-cni, as JSON under the key cniconfig of a verbose Status. The
// fields' names are Go's, because it has no tags for them.
type loaded struct {
	Networks []struct {
		Config struct {
			Name    string
			Plugins []struct {
				Network struct {
					Type string `json:"type"`
				}
				Source string
			}
		}
	}
}

// Network tells which network the runtime has loaded, which is not always what is in
// its configuration's folder. ok is false where it does not tell: CRI-O never does,
// and containerd has none before there is a configuration. Problem is known all the same.
func (c *Client) Network(ctx context.Context) (n Network, ok bool, err error) {
	var r *runtime.StatusResponse
	err = c.call(ctx, "its status", func(ctx context.Context) error {
		r, err = c.service.Status(ctx, &runtime.StatusRequest{Verbose: true})
		return err
	})
	if err != nil {
		return Network{}, false, err
	}
	for _, condition := range r.GetStatus().GetConditions() {
		if condition.GetType() == runtime.NetworkReady && !condition.GetStatus() {
			n.Problem = condition.GetReason()
			if text := condition.GetMessage(); text != "" {
				n.Problem += ": " + text
			}
		}
	}
	text := r.GetInfo()["cniconfig"]
	if text == "" {
		return n, false, nil
	}
	var l loaded
	if err := json.Unmarshal([]byte(text), &l); err != nil {
		return n, false, fmt.Errorf("what the container runtime tells of its networks: %w", err)
	}
	for _, network := range l.Networks {
		if network.Config.Name == loopback {
			continue
		}
		n.Name = network.Config.Name
		for _, p := range network.Config.Plugins {
			n.Plugins, n.Configs = append(n.Plugins, p.Network.Type), append(n.Configs, p.Source)
		}
		return n, true, nil
	}
	return n, false, nil
}
