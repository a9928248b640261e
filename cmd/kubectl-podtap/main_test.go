package main

import (
	"bytes"
	"strings"
	"testing"
)

// run is the command line with its output.
func run(args ...string) (string, error) {
	var out bytes.Buffer
	c := root()
	c.SetOut(&out)
	c.SetErr(&out)
	c.SetArgs(args)
	err := c.Execute()
	return out.String(), err
}

func TestHelpTeaches(t *testing.T) {
	for command, words := range map[string][]string{
		"--help":         {"podtap copies the packets of a Kubernetes pod", "podtap.io/taps: '{vxlan: {vni: 100", "demo", "doctor", "filter", "list", "version"},
		"demo --help":    {"network namespaces", "--bin-dir", "The exit code is 0 only if every count is right"},
		"version":        {"kubectl-podtap ", "go1."},
		"doctor --help":  {"what to do about it", "The exit code is 1 if there is a problem", "--podtap-namespace", "pods/portforward", "doctor -o yaml"},
		"filter --help":  {"pcap-filter(7)", "-ddd", "--kernel", "exit code is 1", "docs/filters.md"},
		"help demo":      {"--bin-dir"},
		"version --help": {"Print the version"},
	} {
		out, err := run(strings.Fields(command)...)
		if err != nil {
			t.Errorf("%s: %v", command, err)
		}
		for _, w := range words {
			if !strings.Contains(out, w) {
				t.Errorf("%s does not say %q:\n%s", command, w, out)
			}
		}
	}
}

func TestAMistakeOnTheCommandLineIsNamed(t *testing.T) {
	for command, says := range map[string]string{
		"tap":                         `unknown command "tap"`,
		"demo extra":                  `unknown command "extra"`,
		"demo --colour":               "unknown flag: --colour",
		"demo --bin-dir /nonexistent": "/nonexistent",
	} {
		if _, err := run(strings.Fields(command)...); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v; want %q", command, err, says)
		}
	}
}
