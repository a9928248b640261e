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
	// A pod's start waits for a question: client-go's own limit, 5 in a second, would
	// hold up a node that starts many pods.
	kubeQPS   = 50
	kubeBurst = 100
)

// NewKube makes the clients that an agent needs, and no others.
func NewKube(c *rest.Config) (*Kube, error) {
	c = rest.CopyConfig(c)
	c.Timeout, c.QPS, c.Burst = kubeTimeout, kubeQPS, kubeBurst
	if c.UserAgent == "" {
		c.UserAgent = component
	}
	pods, err := metadata.NewForConfig(c)
	if err != nil {
		return nil, fmt.Errorf("client for pods: %w", err)
	}
	events, err := v1.NewForConfig(c)
	if err != nil {
		return nil, fmt.Errorf("client for events: %w", err)
	}
	return &Kube{Pods: pods, Events: events}, nil
}
