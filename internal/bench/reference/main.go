// Reference is the smallest plugin that Go and the CNI library make: no verb does
// anything. What its VERSION takes is what starting a process costs, and below
// which no plugin that is built like podtap can get.
package main

import (
	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/version"
)

func main() {
	skel.PluginMainFuncs(skel.CNIFuncs{}, version.All, "reference")
}
