package doctor

import (
	"cmp"
	"fmt"
	"time"

	"github.com/podtap/podtap/api/node"
)

// startingTakes is how long podtapd may take until it knows how its node is.
const startingTakes = 2 * time.Minute

func notInstalled(in Input) Finding {
	return Finding{Severity: Problem, Check: "NotInstalled", Message: "there is no podtapd in namespace " + in.Namespace,
		Fix: "install podtap with `kubectl apply -k deploy/kustomize/base`, see docs/install.md, or say with --podtap-namespace where it is; " +
			"where its DaemonSet is there, `kubectl -n " + in.Namespace + " describe daemonset podtap` says why it has no pods"}
}

func checkPodtapd(in Input, n Node) []Finding {
	switch {
	case n.Podtapd == "" && n.Excluded:
		return one(Info, "PodtapdExcluded", "the DaemonSet's nodeSelector leaves the node out: no pod on it is tapped",
			"if pods on it are to be tapped, give the node the labels that the DaemonSet selects")
	case n.Podtapd == "":
		return problem("PodtapdMissing", "no podtapd: pods that start on the node are not tapped, unless it was installed before",
			fmt.Sprintf("`kubectl -n %s describe daemonset podtap` says why it has no pod there: a taint, say, or a node that is not ready", in.Namespace))
	case n.Trouble != "":
		return problem("PodtapdSilent", n.Trouble, n.Hint)
	}
	return nil
}

func checkInstall(in Input, n Node) []Finding {
	if n.Report == nil {
		return nil
	}
	is := n.Report.Install
	var found []Finding
	if is.Settings != "" {
		found = problem("Settings", "the settings are wrong, and the last good ones are in force: "+is.Settings,
			fmt.Sprintf("correct them with `kubectl -n %s edit configmap podtap`", in.Namespace))
	}
	const check = "Install"
	switch is.State {
	case node.StateReady:
	case node.StateStarting:
		if in.Now.Sub(is.Since) < startingTakes {
			return append(found, warning(check, "podtapd is just starting", "wait, and ask again")...)
		}
		return append(found, problem(check, said(is, "podtapd starts, and does not get done"), logs(in, n))...)
	case node.StateStandby:
		return append(found, warning(check, said(is, "podtapd waits: another one of the node is at work"),
			"while podtap is updated that is as it should be; if it stays, there are two installations: `kubectl get daemonsets -A` shows them, take one away")...)
	case node.StateNoNetwork:
		return append(found, problem(check, said(is, "there is no CNI configuration yet that podtap could be chained to"),
			"install the cluster's network plugin; if it is there, say with podtapd's --cni-conf-dir where its configuration is")...)
	case node.StateUnsupported:
		return append(found, problem(check, said(is, "podtap cannot be chained to the node's CNI configuration"),
			"see docs/troubleshooting.md for the configurations that podtap can be chained to")...)
	case node.StateConflict:
		return append(found, problem(check, said(is, "somebody takes podtap out of the CNI configuration again and again"),
			"find who writes it, usually the network plugin's own DaemonSet, and let it leave the file alone or chain podtap itself, see docs/troubleshooting.md")...)
	default: // also states of later versions
		return append(found, problem(check, said(is, "podtap could not be installed"), logs(in, n))...)
	}
	return found
}

// said is podtapd's own message, which knows most.
func said(is node.Install, otherwise string) string {
	return string(is.State) + ": " + cmp.Or(is.Message, otherwise)
}

func logs(in Input, n Node) string {
	return fmt.Sprintf("`kubectl -n %s logs %s` tells more", in.Namespace, n.Podtapd)
}

func checkKernel(_ Input, n Node) []Finding {
	if n.Report == nil || n.Report.Kernel.Problem == "" {
		return nil
	}
	return problem("Kernel", fmt.Sprintf("taps cannot work on kernel %s: %s", cmp.Or(n.Report.Kernel.Release, n.Kernel), n.Report.Kernel.Problem),
		"load or build in what it lacks, or keep pods that ask for taps off the node; see docs/install.md for what kernels need")
}
