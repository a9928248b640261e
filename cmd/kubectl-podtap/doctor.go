package main

import (
	"cmp"
	"context"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/podtap/podtap/cmd/kubectl-podtap/cluster"
	"github.com/podtap/podtap/cmd/kubectl-podtap/doctor"
)

const aboutDoctor = `Say what is wrong with podtap on a cluster, and what to do about it.

It asks the podtapd of each node, through the API server, how it is installed there,
which pods lack taps that they ask for, and which taps lose copies; it compares that
with the cluster's nodes, and the nodes with each other. What it finds comes from
worst to least:

  problem   pods are not tapped as they ask, or will not be
  warning   copies are lost, or something will fail later
  info      worth knowing where taps are not what you expect

It needs, in podtapd's namespace, the verb "list" on pods and the verb "create" on
pods/portforward. With "list" on nodes it finds nodes without podtapd, and with
"list" on daemonsets there it knows which nodes are not meant to have one. It changes
nothing.

The exit code is 1 if there is a problem; warnings alone leave it 0.`

const exampleDoctor = `  kubectl podtap doctor
  kubectl podtap doctor --context staging

  # with all that the nodes report, to send to somebody who helps
  kubectl podtap doctor -o yaml > podtap.yaml

  # the pods that lack taps
  kubectl podtap doctor -o json |
    jq -r '.findings[] | select(.check == "PodNotTapped") | .pod'`

func doctorCommand() *cobra.Command {
	var format string
	access := newAccess(false)
	c := &cobra.Command{
		Use:     "doctor",
		Short:   "Say what is wrong with podtap on a cluster, and what to do",
		Long:    aboutDoctor,
		Example: exampleDoctor,
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := checkFormat(format, formatTable, formatJSON, formatYAML); err != nil {
				return err
			}
			return runDoctor(c.Context(), c.OutOrStdout(), access, format)
		},
	}
	c.Flags().StringVarP(&format, "output", "o", formatTable, "`format`: table, json or yaml")
	access.addFlags(c.Flags())
	return c
}

func runDoctor(ctx context.Context, out io.Writer, a *access, format string) error {
	c, err := a.cluster()
	if err != nil {
		return visibleError(err)
	}
	in, err := examine(ctx, c)
	if err != nil {
		return visibleError(err)
	}
	in = visible(in)
	found := doctor.Diagnose(in)
	if isDocument(format) {
		err = writeDocument(out, format, documentOf(in, found))
	} else {
		err = writeDiagnosis(out, in, found)
	}
	if err == nil && doctor.Count(found, doctor.Problem) > 0 {
		return exitCode(1)
	}
	return err
}

// examine learns what there is to know of a cluster. Only where nothing can be
// learned at all is there an error.
func examine(ctx context.Context, c *cluster.Cluster) (doctor.Input, error) {
	in := doctor.Input{Now: time.Now(), Namespace: c.Namespace}
	all, err := c.Podtapds(ctx)
	if err != nil {
		return in, err
	}
	nodes := map[string]doctor.Node{}
	known, err := c.Nodes(ctx)
	switch {
	case apierrors.IsForbidden(err):
		in.NodesUnknown = err.Error()
	case err != nil:
		return in, err
	}
	for _, n := range known {
		nodes[n.Name] = doctor.Node{Name: n.Name, Architecture: n.Architecture, Kernel: n.Kernel, Runtime: n.Runtime, Excluded: n.Excluded}
	}
	answers := c.Ask(ctx, all)
	if len(answers) > 0 && !slices.ContainsFunc(answers, func(a cluster.Answer) bool { return !apierrors.IsForbidden(a.Err) }) {
		return in, c.Errors(answers)
	}
	for _, a := range answers {
		n := nodes[a.Node]
		n.Name, n.Podtapd, n.Report, n.Taps = cmp.Or(a.Node, "(no node)"), a.Pod, a.Report, a.Taps
		if a.Err != nil {
			n.Trouble, n.Hint = strings.ReplaceAll(a.Err.Error(), "\n", "; "), c.Hint(a.Podtapd)
		}
		nodes[n.Name] = n
	}
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		in.Nodes = append(in.Nodes, nodes[name])
	}
	return in, nil
}
