//go:build tools

// Package tools pins Multus' thin plugin, its installer, its passthru plugin and their
// dependencies. `go install package@version` asks for the list of its versions, which not
// every module proxy has; a build from this module does not.
package tools

import (
	_ "gopkg.in/k8snetworkplumbingwg/multus-cni.v4/cmd/multus"
	_ "gopkg.in/k8snetworkplumbingwg/multus-cni.v4/cmd/passthru-cni"
	_ "gopkg.in/k8snetworkplumbingwg/multus-cni.v4/cmd/thin_entrypoint"
)
