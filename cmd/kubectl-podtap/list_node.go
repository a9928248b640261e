package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/api/node"
	"github.com/podtap/podtap/pkg/inventory"
)

// listNode lists the taps of the network namespace that it runs in.
func listNode(out, notes io.Writer, format string) error {
	list, err := inventory.Read()
	if errors.Is(err, unix.EPERM) {
		return explain(err) // what an ordinary user sees would mislead
	}
	return show(out, notes, format, list, err)
}

// show shows a node's list, and then what went wrong while it was made.
func show(out, notes io.Writer, format string, list node.Taps, err error) error {
	list = visible(list)
	if isDocument(format) {
		return explain(errors.Join(err, writeDocument(out, format, list)))
	}
	if len(list.Taps) == 0 && err == nil {
		_, _ = fmt.Fprintln(notes, "No taps on this node.")
	}
	return explain(errors.Join(err, writeTable(out, list, view{}, time.Now())))
}

// explain adds what the user can do.
func explain(err error) error {
	if errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) {
		return fmt.Errorf("%w; run it as root, on the node itself", visibleError(err))
	}
	return visibleError(err)
}
