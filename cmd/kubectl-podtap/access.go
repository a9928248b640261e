package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/pflag"
	"k8s.io/cli-runtime/pkg/genericclioptions"

	"github.com/podtap/podtap/cmd/kubectl-podtap/cluster"
)

// access is how the command line leads to a cluster: kubectl's flags, those that
// people use with a command that only reads.
type access struct {
	config    *genericclioptions.ConfigFlags
	namespace string   // podtapd's
	flags     []string // their names
}

func newAccess(namespaced bool) *access {
	all := genericclioptions.NewConfigFlags(true)
	a := &access{config: genericclioptions.NewConfigFlags(true), namespace: cluster.DefaultNamespace}
	*a.config = genericclioptions.ConfigFlags{
		KubeConfig: all.KubeConfig, Context: all.Context, ClusterName: all.ClusterName, AuthInfoName: all.AuthInfoName,
		Impersonate: all.Impersonate, ImpersonateGroup: all.ImpersonateGroup, Timeout: all.Timeout,
	}
	if namespaced {
		a.config.Namespace = all.Namespace
	}
	return a
}

func (a *access) addFlags(to *pflag.FlagSet) {
	own := pflag.NewFlagSet("", pflag.ContinueOnError)
	a.config.AddFlags(own)
	own.StringVar(&a.namespace, "podtap-namespace", a.namespace, "the `namespace` in which podtap is installed")
	own.VisitAll(func(f *pflag.Flag) { a.flags = append(a.flags, f.Name) })
	to.AddFlagSet(own)
}

func (a *access) cluster() (*cluster.Cluster, error) {
	config, err := a.config.ToRESTConfig()
	if err == nil && a.nowhere() {
		err = errors.New("there is no kubeconfig")
	}
	if err != nil {
		return nil, fmt.Errorf("%w; name one with --kubeconfig or KUBECONFIG, or, for the taps of the node that this runs on, use `kubectl-podtap list --node`", err)
	}
	return cluster.New(config, a.namespace)
}

// nowhere says whether nothing leads to a cluster. Then client-go would try
// localhost:8080, where for years no API server has been.
func (a *access) nowhere() bool {
	raw, err := a.config.ToRawKubeConfigLoader().RawConfig()
	return err == nil && len(raw.Clusters) == 0 && os.Getenv("KUBERNETES_SERVICE_HOST") == "" && os.Getenv("KUBERNETES_MASTER") == ""
}

// userNamespace is the namespace that the user works in.
func (a *access) userNamespace() (string, error) {
	name, _, err := a.config.ToRawKubeConfigLoader().Namespace()
	return name, err
}
