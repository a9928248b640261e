//go:build tools

// Package tools pins containerd 1.7 and its dependencies. Its go.mod has exclude
// lines, which `go install package@version` refuses; this module repeats them.
package tools

import (
	_ "github.com/containerd/containerd/cmd/containerd"
	_ "github.com/containerd/containerd/cmd/containerd-shim-runc-v2"
	_ "github.com/containerd/containerd/cmd/ctr"
)
