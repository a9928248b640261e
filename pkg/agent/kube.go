package agent

import (
	"fmt"
	"time"

	"k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
)

// Kube is how podtapd speaks to the API server.
type Kube struct {
	Pods   metadata.Interface
	Events v1.EventsGetter
}

const (
	// kubeTimeout bounds one request to the API server; a question has less.
	kubeTimeout = 10 * time.Second
	// Events may wait; client-go's own limit, 5 in a second, is for less than a node's.
	eventQPS   = 50
	eventBurst = 100
	// A pod's start waits for a question, and a limit fails those that come too often: a
	// node that starts many pods at once would lose their annotations. The kubelet
	// bounds how many it starts.
	questionQPS = -1 // no limit
)

// NewKube makes the clients that an agent needs, and no others.
func NewKube(c *rest.Config) (*Kube, error) {
	c = rest.CopyConfig(c)
	c.Timeout, c.QPS, c.RateLimiter = kubeTimeout, questionQPS, nil
	if c.UserAgent == "" {
		c.UserAgent = component
	}
	pods, err := metadata.NewForConfig(c)
	if err != nil {
		return nil, fmt.Errorf("client for pods: %w", err)
	}
	c = rest.CopyConfig(c)
	c.QPS, c.Burst = eventQPS, eventBurst
	events, err := v1.NewForConfig(c)
	if err != nil {
		return nil, fmt.Errorf("client for events: %w", err)
	}
	return &Kube{Pods: pods, Events: events}, nil
}
