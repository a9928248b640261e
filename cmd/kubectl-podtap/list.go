package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"
)

const aboutList = `List the taps of a cluster's pods: what they copy, and where to, with the packets
that matched, those that were copied, and those that were lost, by reason.

It asks the podtapd of each node, through the API server. For that you need, in
podtapd's namespace, the verb "list" on pods and the verb "create" on
pods/portforward. Nodes that do not answer are named; the others' taps are listed.
Taps whose copies are cut, made to fit the path, or capped, are listed once more below.
If copies were lost on their way from the taps to the collectors, the VXLAN devices
that lost them are listed below that; -o wide has all of these.

With --node it lists the node that it runs on, with its VXLAN devices, and needs
neither podtapd nor the API server. It runs as root, in the node's own network
namespace. All that it does is read: it changes nothing and waits for nobody.

Packets are counted as the tapped interface counts them. Copies that a sender lost
count as copied at the tap, because there they were. What each column and each
field of the JSON means is in docs/kubectl-podtap.md.

The exit code is 1 if something could not be read, or a named pod has no taps. What
could be read is listed.`

const exampleList = `  kubectl podtap list                   the taps of the current namespace's pods
  kubectl podtap list -n prod web-0     those of one pod
  kubectl podtap list -A -o wide        all, with their nodes and senders
  watch kubectl podtap list -n prod     and see what is lost just now

  # the pods that lost copies, or exceeded their cap
  kubectl podtap list -A -o json |
    jq -r '.taps[] | select(any(.directions[]; .dropped != {}) or (.lost.packets // 0) > 0) | .pod'

  kubectl-podtap list --node            on the node, as root
  kubectl-podtap list --node -o json    for programs: more fields, bytes

  # the same from elsewhere, where the program is in a folder of the node's
  kubectl debug node/worker1 -it --image=busybox --profile=sysadmin -- \
    chroot /host /usr/local/bin/kubectl-podtap list --node`

// listOptions are what the command line of list says.
type listOptions struct {
	node          bool
	allNamespaces bool
	format        string
	names         []string // of pods
}

func listCommand() *cobra.Command {
	var o listOptions
	access := newAccess(true)
	c := &cobra.Command{
		Use:     "list [POD...]",
		Short:   "List taps, with what they have copied and lost",
		Long:    aboutList,
		Example: exampleList,
		RunE: func(c *cobra.Command, args []string) error {
			o.names = args
			if err := checkFormat(o.format, formatTable, formatWide, formatJSON, formatYAML); err != nil {
				return err
			}
			if !o.node {
				return listCluster(c.Context(), c.OutOrStdout(), c.ErrOrStderr(), access, o)
			}
			if len(args) > 0 {
				return fmt.Errorf("list --node takes no names, such as %q; it lists the node that it runs on", args[0])
			}
			for _, name := range access.flags {
				if c.Flags().Changed(name) {
					return fmt.Errorf("--%s is for a cluster; list --node lists all taps of the node that it runs on", name)
				}
			}
			if o.allNamespaces {
				return errors.New("--all-namespaces is for a cluster; list --node lists all taps of the node that it runs on")
			}
			return listNode(c.OutOrStdout(), c.ErrOrStderr(), o.format)
		},
	}
	c.Flags().BoolVar(&o.node, "node", false, "list the taps of the node that this runs on, as root")
	c.Flags().BoolVarP(&o.allNamespaces, "all-namespaces", "A", false, "list the taps of the pods of all namespaces")
	c.Flags().StringVarP(&o.format, "output", "o", formatTable, "`format`: table, wide, json or yaml")
	access.addFlags(c.Flags())
	return c
}
