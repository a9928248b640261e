package doctor

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/podtap/podtap/api/node"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

var plain = regexp.MustCompile(`^[A-Za-z0-9.:_-]+$`)

// word is a text as a shell's word: people paste commands into a root shell, and a
// pod may name a device of its own $(reboot).
func word(s string) string {
	if plain.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// checkPods tells of pods that ask for taps and do not have them.
func checkPods(_ Input, n Node) []Finding {
	if n.Report == nil {
		return nil
	}
	var found []Finding
	for _, p := range n.Report.Pods {
		anew := fmt.Sprintf("`kubectl -n %s delete pod %s`, so that its controller makes it anew", word(p.Namespace), word(p.Name))
		severity, fix := Problem, "correct it, then "+anew
		switch p.Reason {
		case node.ReasonHostNetwork:
			severity, fix = Warning, "remove its annotation podtap.io/taps, or hostNetwork: a tap is made in a pod's own network, and it has none"
		case node.ReasonNotChained:
			fix = anew
		case node.ReasonRemoved:
			fix = "find who removed it, in the pod or on the node; then " + anew
		case node.ReasonMissing:
			fix = anew + "; if it still has none, the runtime's log and podtapd's on the node say why"
		}
		found = append(found, Finding{Severity: severity, Check: "PodNotTapped", Pod: p.Namespace + "/" + p.Name,
			Message: strings.TrimSuffix(string(p.Reason)+": "+p.Message, ": "), Fix: fix})
	}
	return found
}

// checkTaps tells of taps that lose copies.
func checkTaps(_ Input, n Node) []Finding {
	if n.Taps == nil {
		return nil
	}
	var found []Finding
	for _, e := range n.Taps.Errors {
		found = append(found, warning("TapsUnread", "not all taps could be read: "+e, "the error's own words say what was tried; `kubectl podtap list` shows the rest")...)
	}
	for _, t := range n.Taps.Taps {
		dropped := map[string]uint64{}
		var matched uint64
		for _, c := range t.Directions {
			matched += c.Matched.Packets
			sum(dropped, c.Dropped)
		}
		if t.Capped != nil { // as the tap asks
			dropped["mirror"] -= min(t.Capped.Packets, dropped["mirror"])
		}
		if t.Lost != nil {
			dropped["lost"] = t.Lost.Packets
		}
		for _, reason := range sortedKeys(dropped) {
			if dropped[reason] == 0 {
				continue
			}
			found = append(found, Finding{Severity: Warning, Check: "TapLosesCopies", Pod: cmp.Or(t.Pod, t.NetNS),
				Message: fmt.Sprintf("tap %s of %s lost %d of %d copies (%s)", cmp.Or(t.Device, "(deleted)"), t.Interface, dropped[reason], matched, reason),
				Fix:     tapFix(t, reason)})
		}
	}
	return found
}

func taps(n int) string {
	if n == 1 {
		return "1 tap"
	}
	return fmt.Sprintf("%d taps", n)
}

func sum(into map[string]uint64, dropped map[string]node.Amount) {
	for reason, a := range dropped {
		if a.Packets > 0 {
			into[reason] += a.Packets
		}
	}
}

func tapFix(t node.Tap, reason string) string {
	switch {
	case t.Device == "":
		return "somebody deleted the tap's device in the pod: make the pod anew"
	case reason == "lost":
		return "the node's CPUs are too busy to take the tap's copies, or its memory is short: let the tap take less, by a filter, a sample or a lower maxBitrate"
	case reason != "mirror":
		return "see what docs/kubectl-podtap.md says of this reason"
	case t.Sink == "veth" && t.Destination != "":
		return fmt.Sprintf("the tap's device is down or full; on the node, `ip link set dev %s up`, and in the pod see that %s is up", word(t.Destination), t.Device)
	}
	return fmt.Sprintf("the tap's device is down or full: in the pod, see that %s is up", t.Device)
}

// checkSenders tells of VXLAN devices that lose what taps have copied.
func checkSenders(_ Input, n Node) []Finding {
	if n.Taps == nil {
		return nil
	}
	var found []Finding
	for _, s := range n.Taps.Senders {
		what := fmt.Sprintf("the sender %s to %s, of %s,", s.Device, cmp.Or(s.Destination, "an unknown collector"), taps(s.Taps))
		if s.Missing {
			found = append(found, Finding{Severity: Warning, Check: "SenderDeleted", Pod: s.Pod,
				Message: fmt.Sprintf("somebody deleted the sender %s; the copies of %s go nowhere", s.Device, taps(s.Taps)),
				Fix:     "make those pods anew; `kubectl podtap list -A -o wide` shows the node's taps, theirs have no destination"})
			continue
		}
		for _, reason := range sortedKeys(s.Dropped) {
			if lost := s.Dropped[reason].Packets; lost > 0 {
				found = append(found, Finding{Severity: Warning, Check: "SenderLosesCopies", Pod: s.Pod,
					Message: fmt.Sprintf("%s lost %d copies (%s)", what, lost, reason), Fix: senderFix(s, reason)})
			}
		}
	}
	return found
}

func senderFix(s node.Sender, reason string) string {
	switch reason {
	case "down":
		return fmt.Sprintf("on the node, `ip link set dev %s up`, and find who set it down", word(s.Device))
	case "noRoute":
		collector, _, _ := strings.Cut(s.Destination, "/")
		if i := strings.LastIndex(collector, ":"); i > 0 {
			collector = strings.Trim(collector[:i], "[]")
		}
		return fmt.Sprintf("give the node a route to the collector: `ip route get %s` there fails, or did", word(cmp.Or(collector, "COLLECTOR")))
	case "other":
		return "over IPv6 they exceeded what the path takes (vxlan.oversize: fit makes them smaller), the node had no memory for them, or the device no destination: the node's kernel log may say which"
	}
	return "see what docs/kubectl-podtap.md says of this reason"
}
