package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"

	"github.com/podtap/podtap/pkg/uninstall"
)

const (
	aboutUninstall = `Take podtap off: its entry out of the CNI configuration, then, when the runtime has
loaded that, all taps, then the plugin. Pods start before, during and after it, and
taps end; the pods themselves lose nothing. The plugin stays where it will be called to
delete pods that still live: CRI-O's, and, with Multus, those that were started while
podtap was chained or that have an attachment of podtap's.

Without --cluster it does that on this node, where podtapd must not be running. With
--cluster it has podtapd do it on every node, waits for all, and deletes the DaemonSet;
that is the Job of deploy/kustomize/uninstall and of the Helm chart.`

	uninstallRetry     = time.Second
	uninstallRetryMost = 30 * time.Second
)

func uninstallCommand() *cobra.Command {
	f := &nodeFlags{}
	var cluster, stay bool
	var namespace, cache string
	var timeout time.Duration
	c := &cobra.Command{
		Use: "uninstall", Short: "Take podtap off this node, or off the cluster", Long: aboutUninstall, Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			log, err := newLog(f.logLevel)
			switch {
			case err != nil:
				return err
			case cluster && stay:
				return errors.New("--cluster and --stay exclude each other")
			case cluster:
				return uninstallCluster(c.Context(), f.kubeconfig, namespace, timeout, log)
			case stay:
				return uninstallAndStay(c.Context(), f, cache, log)
			}
			ctx, cancel := context.WithTimeout(c.Context(), timeout)
			defer cancel()
			return uninstallNode(ctx, f, cache, log)
		},
	}
	f.add(c.Flags())
	s := c.Flags()
	s.BoolVar(&cluster, "cluster", false, "uninstall on all nodes of the cluster")
	s.StringVar(&namespace, "namespace", os.Getenv("POD_NAMESPACE"), "with --cluster: the `namespace` of podtap; default $POD_NAMESPACE")
	s.DurationVar(&timeout, "timeout", 5*time.Minute, "give up after this time, and say what is left")
	s.BoolVar(&stay, "stay", false, "try until it is done, then stay to be asked whether it is: as the DaemonSet that --cluster makes")
	s.StringVar(&cache, "cni-cache-dir", uninstall.CacheFolder, "the `folder` in which runtimes remember what they have attached")
	return c
}

func uninstallCluster(ctx context.Context, kubeconfig, namespace string, timeout time.Duration, log *slog.Logger) error {
	if namespace == "" {
		return errors.New("podtap's namespace is unknown: set POD_NAMESPACE, or --namespace")
	}
	rest, err := restConfig(kubeconfig)
	if err != nil {
		return err
	}
	rest.Timeout = 30 * time.Second
	kube, err := kubernetes.NewForConfig(rest)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return uninstall.Cluster(ctx, kube, namespace, log)
}

func uninstallNode(ctx context.Context, f *nodeFlags, cache string, log *slog.Logger) error {
	client, err := f.runtime()
	if err != nil {
		return err
	}
	var runtime uninstall.Runtime
	if client != nil {
		defer client.Close()
		runtime = client
	}
	return uninstall.Node(ctx, f.install(log, client), runtime, cache, log)
}

// uninstallAndStay uninstalls until that is done, and answers the probes of the
// DaemonSet: ready is where it is done.
func uninstallAndStay(ctx context.Context, f *nodeFlags, cache string, log *slog.Logger) error {
	var problem atomic.Pointer[error]
	begun := errors.New("uninstalling")
	problem.Store(&begun)
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := *problem.Load(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "podtap is off this node")
	})
	server := &http.Server{Addr: f.apiAddress, Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.ListenAndServe() }()
	defer server.Close()
	go func() {
		for pause := uninstallRetry; ; pause = min(2*pause, uninstallRetryMost) {
			err := uninstallNode(ctx, f, cache, log)
			problem.Store(&err)
			if err == nil {
				log.Info("podtap is off this node")
				return
			}
			log.Error("podtap is still on this node; podtapd tries again", "error", err, "in", pause)
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
		}
	}()
	select {
	case <-ctx.Done():
		return nil
	case err := <-served:
		return err
	}
}
