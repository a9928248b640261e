// Kubectl-podtap is podtap's command line, a plugin of kubectl: it lists the taps of
// a cluster or of a node, says what is wrong with podtap, checks filters, and shows a demo.
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/podtap/podtap/internal/version"
)

const about = `podtap copies the packets of a Kubernetes pod to wherever somebody needs to look
at them: an intrusion-detection sensor, Wireshark, a probe, a device on the node.

It is a CNI meta-plugin, chained behind the cluster's network plugin. When a pod
starts, it reads the pod's annotation podtap.io/taps, for example

    podtap.io/taps: '{vxlan: {vni: 100, remote: 198.18.0.3}}'

and makes the mirror that this asks for, within what the administrator's policy
allows. The copies begin with the pod's first packet and end with the pod; the
pod's own traffic is not touched.`

// exitCode is the result of a program that has said all there is to say.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

func main() {
	err := root().Execute()
	var code exitCode
	switch {
	case errors.As(err, &code):
		os.Exit(int(code))
	case err != nil:
		fmt.Fprintln(os.Stderr, "kubectl podtap:", err)
		os.Exit(1)
	}
}

func root() *cobra.Command {
	c := &cobra.Command{
		Use:               "kubectl-podtap",
		Annotations:       map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl podtap"},
		Short:             "Copies of a pod's packets, for whoever needs to look at them",
		Long:              about,
		SilenceUsage:      true,
		SilenceErrors:     true,
		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	c.AddCommand(demoCommand(), doctorCommand(), filterCommand(), listCommand(), versionCommand())
	return c
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of this program",
		Args:  cobra.NoArgs,
		Run: func(c *cobra.Command, _ []string) {
			fmt.Fprintf(c.OutOrStdout(), "kubectl-podtap %s, %s %s/%s\n", version.String(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
		},
	}
}
