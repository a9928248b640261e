package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/podtap/podtap/api/node"
	"github.com/podtap/podtap/cmd/kubectl-podtap/cluster"
	"github.com/podtap/podtap/pkg/tap"
)

// listCluster lists the taps of a cluster's pods.
func listCluster(ctx context.Context, out, notes io.Writer, a *access, o listOptions) error {
	of := scope{names: o.names}
	c, err := a.cluster()
	if err == nil && !o.allNamespaces {
		of.namespace, err = a.userNamespace()
	}
	if err != nil {
		return visibleError(err)
	}
	all, err := c.Podtapds(ctx)
	if err == nil && len(all) == 0 {
		err = c.NotInstalled()
	}
	if err != nil {
		return visibleError(err)
	}
	answers := c.Ask(ctx, all)
	list, wrong := gather(answers, of)
	wrong = errors.Join(wrong, c.Errors(answers))
	if isDocument(o.format) {
		if wrong != nil {
			list.Errors = strings.Split(wrong.Error(), "\n")
		}
		return visibleError(errors.Join(wrong, of.missing(list), writeDocument(out, o.format, visible(list))))
	}
	if len(list.Taps) == 0 && len(of.names) == 0 {
		_, _ = fmt.Fprintf(notes, "No taps%s.\n", of.where())
	}
	v := view{cluster: true, allNamespaces: o.allNamespaces, wide: o.format == formatWide}
	err = writeTable(out, visible(list), v, time.Now())
	if lacking := untapped(answers, of); lacking > 0 {
		_, _ = fmt.Fprintf(notes, "%s for taps that they do not have; see `kubectl podtap doctor`.\n", plural(lacking, "pod asks", "pods ask"))
	}
	return visibleError(errors.Join(wrong, of.missing(list), err))
}

// scope is which pods are listed.
type scope struct {
	namespace string   // "" for all
	names     []string // none for all
}

func (s scope) has(namespace, name string) bool {
	return (s.namespace == "" || s.namespace == namespace) && (len(s.names) == 0 || slices.Contains(s.names, name))
}

func (s scope) isAll() bool { return s.namespace == "" && len(s.names) == 0 }

func (s scope) where() string {
	if s.namespace == "" {
		return ""
	}
	return " in namespace " + s.namespace
}

// missing are the named pods that have no taps.
func (s scope) missing(list node.Taps) error {
	var errs []error
	for _, name := range s.names {
		if !slices.ContainsFunc(list.Taps, func(t node.Tap) bool { return t.Name == name }) {
			errs = append(errs, fmt.Errorf("pod %s%s has no taps; if it asks for some, `kubectl podtap doctor` says why", name, s.where()))
		}
	}
	return errors.Join(errs...)
}

// gather makes one list of what the nodes told, in order, and has what they could
// not read as an error.
func gather(answers []cluster.Answer, of scope) (node.Taps, error) {
	all := node.Taps{Taps: []node.Tap{}, Senders: []node.Sender{}}
	var errs []error
	for _, a := range answers {
		if a.Taps == nil {
			continue
		}
		var taps []node.Tap
		for _, t := range a.Taps.Taps {
			if of.has(t.Namespace, t.Name) {
				t.Node = a.Node
				taps = append(taps, t)
			}
		}
		for _, s := range a.Taps.Senders {
			if of.isAll() || slices.ContainsFunc(taps, func(t node.Tap) bool { return sends(s, t) }) {
				s.Node = a.Node
				all.Senders = append(all.Senders, s)
			}
		}
		all.Taps = append(all.Taps, taps...)
		for _, e := range a.Taps.Errors {
			errs = append(errs, fmt.Errorf("node %s: %s", a.Node, visibleText(e)))
		}
	}
	slices.SortStableFunc(all.Taps, func(a, b node.Tap) int {
		return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(cmp.Or(a.Name, a.Pod, a.NetNS), cmp.Or(b.Name, b.Pod, b.NetNS)),
			strings.Compare(a.Device, b.Device), strings.Compare(a.Node, b.Node), strings.Compare(a.ContainerID, b.ContainerID))
	})
	slices.SortStableFunc(all.Senders, func(a, b node.Sender) int {
		return cmp.Or(strings.Compare(a.Node, b.Node), strings.Compare(a.Pod, b.Pod), strings.Compare(a.Device, b.Device))
	})
	return all, errors.Join(errs...)
}

// sends says whether a sender of a tap's node sends its copies. Of a relay that was
// deleted the destination is unknown, and so it is of its taps.
func sends(s node.Sender, t node.Tap) bool {
	if s.Pod != "" {
		return t.Placement == tap.PlacementPod && t.Pod == s.Pod && t.Device == s.Device
	}
	return t.Sink == tap.SinkVXLAN && t.Placement != tap.PlacementPod && t.Destination == s.Destination
}

// untapped is how many pods lack taps that they ask for.
func untapped(answers []cluster.Answer, of scope) int {
	n := 0
	for _, a := range answers {
		if a.Report == nil {
			continue
		}
		for _, p := range a.Report.Pods {
			if of.has(p.Namespace, p.Name) {
				n++
			}
		}
	}
	return n
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprint(n) + " " + many
}
