package samples_test

import (
	"path"
	"strings"
	"testing"
)

// The names are those of pkg/mirror's hostName and relayName, which are of 15 bytes.
func TestNetworkDaemonsLeavePodtapsNamesAlone(t *testing.T) {
	patterns := map[string][]string{}
	for line := range strings.Lines(read(t, "10-podtap.network")) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "Name="); ok {
			patterns["systemd-networkd"] = strings.Fields(name)
		}
	}
	for line := range strings.Lines(read(t, "networkmanager-podtap.conf")) {
		if list, ok := strings.CutPrefix(strings.TrimSpace(line), "unmanaged-devices+="); ok {
			for device := range strings.SplitSeq(list, ";") {
				patterns["NetworkManager"] = append(patterns["NetworkManager"], strings.TrimPrefix(device, "interface-name:"))
			}
		}
	}
	matches := func(daemon, name string) bool {
		for _, pattern := range patterns[daemon] {
			if ok, err := path.Match(pattern, name); err != nil {
				t.Error(err)
			} else if ok {
				return true
			}
		}
		return false
	}
	for _, daemon := range []string{"systemd-networkd", "NetworkManager"} {
		for name, want := range map[string]bool{
			"podtapbfa9ae123": true, "vetha02b8d98ea4": true,
			// The receiver that the README makes, other programs' veths, the node's own.
			"podtap0": false, "veth1a2b3c4d": false, "veth0": false, "eth0": false,
		} {
			if matches(daemon, name) != want {
				t.Errorf("%s: %s matches is not %v", daemon, name, want)
			}
		}
	}
	if !strings.Contains(read(t, "10-podtap.network"), "\n[Link]\nUnmanaged=yes\n") {
		t.Error("systemd-networkd would manage what it matches")
	}
}
