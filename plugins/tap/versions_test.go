package main

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
)

// situation is what a verb finds.
type situation struct {
	name string
	// attachment and conf change what is said of a healthy pod.
	attachment func(*attachment)
	conf       func(conf) conf
}

func situations() []situation {
	same := func(*attachment) {}
	chain := func(c conf) conf { return c }
	return []situation{
		{"in a chain", same, chain},
		{"without prevResult", same, func(c conf) conf { return c.without("prevResult") }},
		{"without CNI_NETNS", func(a *attachment) { a.NetNS = "" }, chain},
		{"with a CNI_NETNS that does not exist", func(a *attachment) { a.NetNS += "-gone" }, chain},
	}
}

// want is the code with which a verb fails, 0 where it succeeds.
func want(verb, version, situation string) uint {
	old := slices.Index(versions, version)
	switch verb {
	case "CHECK":
		// libcni's skel asks for the namespace before it asks for the version.
		if old < slices.Index(versions, "0.4.0") && situation != "without CNI_NETNS" {
			return types.ErrIncompatibleCNIVersion
		}
	case "GC", "STATUS":
		if old < slices.Index(versions, "1.1.0") {
			return types.ErrIncompatibleCNIVersion
		}
		return 0
	case "DEL", "VERSION":
		return 0
	}
	switch situation {
	case "without CNI_NETNS":
		return types.ErrInvalidEnvironmentVariables
	case "with a CNI_NETNS that does not exist":
		return types.ErrInvalidNetNS
	}
	return 0
}

func TestEveryVerbAnswersInEveryVersionAndSituation(t *testing.T) {
	for _, version := range versions {
		for _, in := range situations() {
			t.Run(version+" "+in.name, func(t *testing.T) {
				s := newScene(t)
				untouched := s.untouched()
				a := s.attachment()
				if in.name == "without prevResult" {
					a.IfName = "net1" // as Multus names the interface of a sole plugin
				}
				c := in.conf(s.chained(version).with(conf{"taps": json.RawMessage(`[{"veth":{}}]`), "cni.dev/valid-attachments": []any{}}))
				in.attachment(&a)
				for _, verb := range []string{"VERSION", "STATUS", "ADD", "CHECK", "DEL", "GC"} {
					for range 2 {
						got := s.callFor(a, verb, c)
						code := want(verb, version, in.name)
						if code != 0 {
							got.fails(code)
							continue
						}
						got.succeeds()
						switch verb {
						case "ADD":
							wantResult(t, got, version, in.name)
						case "VERSION":
							wantVersions(t, got)
						default:
							got.silent()
						}
					}
				}
				untouched(t)
			})
		}
	}
}

// wantResult checks that ADD answers in the version of the configuration, with
// one interface more than came in.
func wantResult(t *testing.T, a answer, version, situation string) {
	t.Helper()
	var head struct {
		CNIVersion string `json:"cniVersion"`
		Interfaces []any  `json:"interfaces"`
		IPs        []any  `json:"ips"`
	}
	if err := json.Unmarshal([]byte(a.stdout), &head); err != nil {
		t.Fatalf("standard output %q: %v", a.stdout, err)
	}
	interfaces, ips := 2, 2
	if situation == "without prevResult" {
		interfaces, ips = 1, 0
	}
	if head.CNIVersion != version || len(head.Interfaces) != interfaces || len(head.IPs) != ips {
		t.Errorf("result is %s, want version %s, %d interfaces and %d addresses", a.stdout, version, interfaces, ips)
	}
}

func wantVersions(t *testing.T, a answer) {
	t.Helper()
	var told struct {
		Supported []string `json:"supportedVersions"`
	}
	if err := json.Unmarshal([]byte(a.stdout), &told); err != nil || !slices.Equal(told.Supported, versions) {
		t.Errorf("VERSION says %s (%v), want %v", a.stdout, err, versions)
	}
}

func TestVersionsThatPodtapDoesNotSpeakAreRefused(t *testing.T) {
	s := newScene(t)
	untouched := s.untouched()
	for _, version := range []string{"0.1.0", "0.2.0", "1.2.0", "2.0.0"} {
		for _, verb := range []string{"ADD", "CHECK", "DEL", "GC", "STATUS"} {
			c := s.configured(`[{"veth":{}}]`).with(conf{"cniVersion": version})
			s.call(verb, c).fails(types.ErrIncompatibleCNIVersion)
		}
	}
	untouched(t)
}

func TestAnUnknownVerbIsRefused(t *testing.T) {
	s := newScene(t)
	s.call("PING", s.chained(newest)).fails(types.ErrInvalidEnvironmentVariables, "unknown CNI_COMMAND: PING")
}
