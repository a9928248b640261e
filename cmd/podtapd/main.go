// Podtapd is podtap on one node: it installs the CNI plugin and keeps it chained,
// answers it, cleans up after it, and tells how the node's taps are doing. It runs
// as a DaemonSet; what it does is in pkg/install and pkg/agent.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/podtap/podtap/internal/version"
)

const about = `podtapd puts podtap on the node that it runs on, and keeps it there: it copies the
plugin into the runtime's folder, adds podtap's entry to the network configuration
that the runtime uses, and adds it again whenever the network plugin rewrites that.
It answers the plugin, sweeps away what dead pods have left, and tells of the node's
taps in metrics, events and a small API for kubectl-podtap.

It runs as the DaemonSet in deploy/. When it ends it touches nothing: pods go on
starting with their taps, and the next podtapd finds everything in its place.`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := root().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "podtapd:", err)
		os.Exit(1)
	}
}

func root() *cobra.Command {
	c := &cobra.Command{
		Use:               "podtapd",
		Short:             "podtap on one node",
		Long:              about,
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	c.AddCommand(runCommand(), uninstallCommand(), &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  cobra.NoArgs,
		Run: func(c *cobra.Command, _ []string) {
			fmt.Fprintf(c.OutOrStdout(), "podtapd %s, %s %s/%s\n", version.String(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
		},
	})
	return c
}

// newLog logs to standard error, where the kubelet keeps it.
func newLog(level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(strings.ToUpper(level))); err != nil {
		return nil, fmt.Errorf("--log-level %q is unknown; known are debug, info, warn and error", level)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: l})), nil
}
