package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/pkg/mirror"
	"github.com/podtap/podtap/pkg/tap"
)

const aboutList = `List the taps of a node: whose they are, what they copy, and where to, with the
packets that matched, those that were copied, and those that were lost, by reason.
Below them, the VXLAN devices that send copies, with what they sent and lost.

It lists one node, the one that it runs on, and so far that is all it can list. It
runs as root, in the node's own network namespace. All that it does is read: it
changes nothing and waits for nobody.

Packets are counted as the tapped interface counts them. Copies that a sender lost
count as copied at the tap, because there they were. What each column and each
field of the JSON means is in docs/reference.md.

The exit code is 1 if something could not be read. What could be is listed.`

const exampleList = `  kubectl-podtap list --node            on the node, as root
  kubectl-podtap list --node -o json    for programs: more fields, bytes
  watch kubectl-podtap list --node      and see what is lost just now

  # from elsewhere, where the program is in a folder of the node's
  kubectl debug node/worker1 -it --image=busybox --profile=sysadmin -- \
    chroot /host /usr/local/bin/kubectl-podtap list --node

  # the pods that lost copies
  kubectl-podtap list --node -o json |
    jq -r '.taps[] | select(any(.directions[]; .dropped != {})) | .pod'`

func listCommand() *cobra.Command {
	var node bool
	var format string
	c := &cobra.Command{
		Use:     "list --node",
		Short:   "List the taps of a node, with what they have copied and lost",
		Long:    aboutList,
		Example: exampleList,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return fmt.Errorf("list takes no names, such as %q; list --node lists the node that it runs on", args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error {
			if format != "table" && format != "json" {
				return fmt.Errorf("--output %q is unknown; known are table and json", format)
			}
			if !node {
				return errors.New("only `list --node` exists so far: the taps of one node; run it there as root, for example through `kubectl debug node/NAME`, see --help")
			}
			return runList(c.OutOrStdout(), c.ErrOrStderr(), format)
		},
	}
	c.Flags().BoolVar(&node, "node", false, "list the taps of the node that this runs on")
	c.Flags().StringVarP(&format, "output", "o", "table", "`format`: table or json")
	return c
}

// runList lists the taps of the network namespace that it runs in.
func runList(out, notes io.Writer, format string) error {
	node, err := mirror.OpenNode()
	if err != nil {
		return explain(err)
	}
	defer node.Close()
	list, err := node.List()
	if errors.Is(err, unix.EPERM) {
		return explain(err) // what an ordinary user sees would mislead
	}
	return show(out, notes, format, list, err)
}

// show shows a list, and then what went wrong while it was made.
func show(out, notes io.Writer, format string, list mirror.List, err error) error {
	list = visible(list)
	if format == "json" {
		return explain(errors.Join(err, writeJSON(out, list)))
	}
	if len(list.Taps) == 0 && err == nil {
		_, _ = fmt.Fprintln(notes, "No taps on this node.")
	}
	return explain(errors.Join(err, writeTable(out, list, time.Now())))
}

// explain adds what the user can do. Names of devices may be in the error.
func explain(err error) error {
	if err == nil {
		return nil
	}
	lines := strings.Split(err.Error(), "\n") // of several errors, one each
	for i, l := range lines {
		lines[i] = visibleText(l)
	}
	text := strings.Join(lines, "\n")
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		text += "; run it as root, on the node itself"
	}
	return errors.New(text)
}

// visible is the list with nothing in it that could steer a terminal, neither
// through a table nor through a program that reads the JSON. Pods may write what
// they like into their own devices.
func visible(l mirror.List) mirror.List {
	l.Taps, l.Senders = slices.Clone(l.Taps), slices.Clone(l.Senders)
	for i := range l.Taps {
		t := &l.Taps[i]
		t.Direction = tap.Direction(visibleText(string(t.Direction)))
		makeVisible(&t.Owner.Network, &t.Owner.ContainerID, &t.Owner.IfName, &t.Pod, &t.NetNS, &t.Device, &t.Interface, &t.Destination)
	}
	for i := range l.Senders {
		s := &l.Senders[i]
		makeVisible(&s.Device, &s.Pod, &s.Destination)
	}
	return l
}

func makeVisible(texts ...*string) {
	for _, t := range texts {
		*t = visibleText(*t)
	}
}

// visibleText is a text as it is, or, where something in it is unprintable, in
// quotes and with that escaped.
func visibleText(s string) string {
	if utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return s
	}
	return strconv.Quote(s)
}
