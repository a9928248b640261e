package doctor

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// handsOver is since which version a runtime hands the pods' annotations to plugins.
var handsOver = map[string][2]int{"containerd": {1, 5}, "cri-o": {1, 29}}

var majorMinor = regexp.MustCompile(`^v?(\d{1,9})\.(\d{1,9})`)

// runtimeOf is the name and the version of a node's container runtime.
func runtimeOf(n Node) (name, version string) {
	name, version, _ = strings.Cut(n.Runtime, "://")
	if n.Report != nil {
		name, version = cmp.Or(n.Report.Runtime.Name, name), cmp.Or(n.Report.Runtime.Version, version)
	}
	return name, version
}

// RuntimeName is a node's container runtime, for people.
func (n Node) RuntimeName() string {
	name, version := runtimeOf(n)
	return strings.TrimSpace(name + " " + version)
}

func checkRuntime(_ Input, n Node) []Finding {
	if n.Report == nil {
		return nil
	}
	const asks = "so the plugin has to ask podtapd for the annotations, and pods that start while podtapd does not run are not tapped"
	var found []Finding
	if p := n.Report.Runtime.Problem; p != "" {
		found = warning("RuntimeSilent", "podtapd cannot ask the container runtime: "+p, "say with podtapd's --runtime-endpoint where its CRI socket is")
	}
	name, version := runtimeOf(n)
	since, known := handsOver[strings.ToLower(name)]
	is := majorMinor.FindStringSubmatch(version)
	if !known || is == nil {
		return append(found, warning("RuntimeUnknown", fmt.Sprintf("it is not known whether the container runtime (%s) hands over pods' annotations; if not, %s",
			cmp.Or(n.RuntimeName(), "unknown"), strings.TrimPrefix(asks, "so ")), "use containerd 1.5 or later, or CRI-O 1.29 or later")...)
	}
	major, _ := strconv.Atoi(is[1])
	minor, _ := strconv.Atoi(is[2])
	if slices.Compare([]int{major, minor}, since[:]) < 0 {
		found = append(found, warning("RuntimeOld", fmt.Sprintf("%s hands over no annotations of pods, %s", n.RuntimeName(), asks),
			fmt.Sprintf("update it to %d.%d or later", since[0], since[1]))...)
	}
	return found
}

// checkSame compares the nodes with each other.
func checkSame(in Input) []Finding {
	versions := map[string][]string{}           // nodes, by version
	digests := map[string]map[string][]string{} // nodes, by architecture, and digest
	for _, n := range in.Nodes {
		if n.Report == nil {
			continue
		}
		if v := n.Report.Podtapd; v != "" {
			versions[v] = append(versions[v], n.Name)
		}
		if d := n.Report.Plugin.Digest; d != "" {
			// podtapd's own word, if any: not everybody may ask for nodes.
			of := cmp.Or(n.Report.Arch, n.Architecture)
			if digests[of] == nil {
				digests[of] = map[string][]string{}
			}
			digests[of][d] = append(digests[of][d], n.Name)
		}
	}
	fix := fmt.Sprintf("while podtap is updated that is as it should be; `kubectl -n %s rollout status daemonset podtap` says how far that is", in.Namespace)
	var found []Finding
	if len(versions) > 1 {
		found = append(found, Finding{Severity: Warning, Check: "VersionsDiffer", Message: "podtapd has several versions: " + groups(versions), Fix: fix})
	}
	for _, architecture := range sortedKeys(digests) {
		if of := digests[architecture]; len(of) > 1 {
			found = append(found, Finding{Severity: Warning, Check: "PluginsDiffer",
				Message: strings.TrimSpace("the nodes have several plugins "+architecture) + ": " + groups(of), Fix: fix})
		}
	}
	return found
}

// groups says which nodes have what; most have what comes first.
func groups(nodes map[string][]string) string {
	what := sortedKeys(nodes)
	slices.SortStableFunc(what, func(a, b string) int { return len(nodes[b]) - len(nodes[a]) })
	var out []string
	for _, w := range what {
		out = append(out, fmt.Sprintf("%s on %s", Short(w), Names(nodes[w])))
	}
	return strings.Join(out, "; ")
}

// Short is as much of a digest as tells it from others.
func Short(digest string) string {
	if len(digest) == 64 {
		return digest[:12]
	}
	return digest
}

// Names are a few names of many.
func Names(all []string) string {
	const few = 5
	if len(all) <= few {
		return strings.Join(all, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(all[:few], ", "), len(all)-few)
}
