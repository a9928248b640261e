package doctor

import (
	"fmt"
	"slices"
	"strings"
)

const plugin = "podtap"

// checkChain looks at the CNI configuration's file.
func checkChain(_ Input, n Node) []Finding {
	chain, ready := installed(n)
	if !ready || len(chain) == 0 {
		return nil
	}
	const fix = "if it is podtapd that wrote it so, please report that; if somebody else did, take podtap's entry out there, and podtapd puts it in its place"
	first, count := slices.Index(chain, plugin), 0
	for _, p := range chain {
		if p == plugin {
			count++
		}
	}
	switch {
	case first < 0:
		return problem("ChainWithoutPodtap", fmt.Sprintf("podtap is not in the chain of %s (%s): pods start without taps", n.Report.Install.File, arrows(chain)),
			"podtapd puts it there within seconds; if this stays, see its log")
	case first == 0:
		return problem("PodtapFirst", fmt.Sprintf("podtap is the first plugin of %s (%s); there is no interface to tap before the network plugin has made it",
			n.Report.Install.File, arrows(chain)), fix)
	case count > 1:
		return warning("PodtapTwice", fmt.Sprintf("podtap is %d times in %s (%s); each entry makes the taps of each pod", count, n.Report.Install.File, arrows(chain)), fix)
	}
	return nil
}

// checkLoaded compares the file with what the runtime uses.
func checkLoaded(_ Input, n Node) []Finding {
	chain, ready := installed(n)
	if !ready || len(n.Report.Runtime.Chain) == 0 {
		return nil
	}
	is, file := n.Report.Runtime, n.Report.Install
	switch {
	case !slices.Contains(is.Chain, plugin):
		why := "it has not read the file since podtap was put in"
		if is.Network != "" && file.Network != "" && is.Network != file.Network {
			why = fmt.Sprintf("it uses the network %s, podtap is in %s (%s)", is.Network, file.Network, file.File)
		}
		return problem("ChainNotLoaded", fmt.Sprintf("the container runtime has loaded a chain without podtap (%s): %s; pods start without taps", arrows(is.Chain), why),
			"see that podtapd's --cni-conf-dir is the folder that the runtime reads, and that no other file in it comes first; then restart the runtime, which leaves pods running")
	case len(chain) > 0 && !slices.Equal(chain, is.Chain):
		return warning("ChainDiffers", fmt.Sprintf("the container runtime has loaded another chain (%s) than %s has (%s)", arrows(is.Chain), file.File, arrows(chain)),
			"it should load the file's within seconds; if this stays, restart the runtime, which leaves pods running")
	}
	return nil
}

// harmless are plugins that change nothing which a tap depends on.
var harmless = []string{plugin, "portmap", "bandwidth", "firewall"}

// checkPluginsBehind tells of plugins that run on a pod which is tapped already.
func checkPluginsBehind(_ Input, n Node) []Finding {
	chain, ready := installed(n)
	at := slices.Index(chain, plugin)
	if !ready || at <= 0 { // first is a finding of its own
		return nil
	}
	behind := slices.DeleteFunc(slices.Clone(chain[at:]), func(p string) bool { return slices.Contains(harmless, p) })
	if len(behind) == 0 {
		return nil
	}
	if slices.Contains(behind, "tuning") {
		return warning("PluginsBehind", fmt.Sprintf("tuning comes after podtap (%s); where it changes a pod's MTU or MAC address, the taps keep what was before, and lose copies that are too large", arrows(chain)),
			"move tuning before podtap in the network's configuration")
	}
	return one(Info, "PluginsBehind", fmt.Sprintf("%s after podtap (%s): pods are tapped before what that does to their interfaces", comes(behind), arrows(chain)),
		"nothing, unless a tap lacks or has what that plugin changes; then move podtap behind it")
}

func comes(plugins []string) string {
	if len(plugins) == 1 {
		return plugins[0] + " comes"
	}
	return strings.Join(plugins, " and ") + " come"
}

// installed is the chain of the file, and whether podtapd says that all is well with
// it; otherwise there is a finding already.
func installed(n Node) (chain []string, ready bool) {
	if n.Report == nil || n.Report.Install.State != "Ready" {
		return nil, false
	}
	return n.Report.Install.Chain, true
}

func arrows(chain []string) string { return strings.Join(chain, " → ") }
