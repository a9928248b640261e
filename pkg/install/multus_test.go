package install

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/podtap/podtap/api/node"
)

// copying is Multus' configuration with a copy of a network's, as its thin plugin's
// installer writes it.
func copying(network string) string {
	return fmt.Sprintf(`{"cniVersion":"1.0.0","name":"multus-cni-network","plugins":[{"type":"multus","kubeconfig":"/k","delegates":[%s]}]}`, network)
}

func TestPodtapIsChainedToTheNetworkThatMultusCalls(t *testing.T) {
	other := strings.Replace(primary, `"pods"`, `"other"`, 1)
	for name, c := range map[string]struct {
		multus string
		want   string // the file that is chained; "" for none
		says   string
	}{
		"by name":            {`{"type":"multus","clusterNetwork":"pods"}`, "20-pods.conflist", ""},
		"by path":            {`{"type":"multus-shim","clusterNetwork":"/host/etc/cni/net.d/20-pods.conflist"}`, "20-pods.conflist", ""},
		"by folder":          {`{"type":"multus","clusterNetwork":"/etc/cni/multus/primary"}`, "10-other.conflist", ""},
		"not at all":         {`{"type":"multus-shim"}`, "10-other.conflist", ""},
		"by name, elsewhere": {`{"type":"multus","clusterNetwork":"attachment"}`, "", `00-multus.conf) calls the network "attachment"`},
		"by path, elsewhere": {`{"type":"multus","clusterNetwork":"/etc/cni/multus/net.d/30-pods.conflist"}`, "", "and 20-pods.conflist is not that"},
		"a copy of none":     {`{"type":"multus","delegates":[{"name":"none","plugins":[{"type":"ptp"}]}]}`, "", `calls the network "none"`},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			multus := strings.Replace(c.multus, `{`, `{"cniVersion":"1.0.0","name":"multus-cni-network",`, 1)
			s.network("00-multus.conf", multus)
			s.network("10-other.conflist", other)
			s.network("20-pods.conflist", primary)
			if c.want != "" {
				i, _ := s.ready()
				if got := i.Status(); got.File != c.want {
					t.Errorf("chained in %s, want %s", got.File, c.want)
				}
			} else {
				i, _ := s.start()
				if got := s.becomes(i, node.StateUnsupported); !strings.Contains(got.Message, c.says) {
					t.Errorf("message is %q, want %q", got.Message, c.says)
				}
			}
			for name, was := range map[string]string{"00-multus.conf": multus, "10-other.conflist": other, "20-pods.conflist": primary} {
				if got := s.read(name); (got == was) == (name == c.want) {
					t.Errorf("%s is %s", name, got)
				}
			}
		})
	}
}

// Before Multus comes the network by which the runtime goes then.
func TestAMultusThatTheRuntimeDoesNotUseSaysNothing(t *testing.T) {
	s := newScene(t)
	s.network("10-pods.conflist", primary)
	s.network("70-multus.conflist", copying(`{"name":"none","plugins":[{"type":"ptp"}]}`))
	s.ready()
}

func TestACopyOfMultusHasToHaveTheEntryToo(t *testing.T) {
	s := newScene(t)
	s.network("10-pods.conflist", primary)
	without := copying(primary)
	s.network("00-multus.conflist", without)
	i, _ := s.start()
	got := s.becomes(i, node.StateFailing)
	if want := "Multus (00-multus.conflist) goes by a copy of 10-pods.conflist, without podtap's entry; start Multus again"; !strings.Contains(got.Message, want) {
		t.Errorf("message is %q, want %q", got.Message, want)
	}
	if !i.ChainedSince().IsZero() {
		t.Error("podtap counts as chained")
	}
	if s.types("10-pods.conflist") != "bridge portmap podtap" {
		t.Errorf("for Multus to copy there is %s", s.types("10-pods.conflist"))
	}
	if s.read("00-multus.conflist") != without {
		t.Errorf("Multus' own configuration is %s", s.read("00-multus.conflist"))
	}

	with := copying(s.read("10-pods.conflist"))
	s.network("00-multus.conflist", with)
	s.becomes(i, node.StateReady)
	if i.ChainedSince().IsZero() {
		t.Error("podtap does not count as chained")
	}

	s.write(s.conf.Settings, "failurePolicy: Ignore\n")
	if got := s.becomes(i, node.StateFailing); !strings.Contains(got.Message, "with another entry of podtap's") {
		t.Errorf("message is %q", got.Message)
	}
	if s.read("00-multus.conflist") != with {
		t.Errorf("Multus' own configuration is %s", s.read("00-multus.conflist"))
	}
}

// Its installer looks each second.
func TestAMultusThatCopiesAnewInTimeIsNoFailure(t *testing.T) {
	s := newScene(t)
	s.pace.load = shortWait
	s.network("10-pods.conflist", primary)
	s.network("00-multus.conflist", copying(primary))
	var told []node.State
	s.conf.Changed = func(n node.Install) { told = append(told, n.State) }
	i, stop := s.start()
	s.eventually("podtap is chained", func() bool { return s.types("10-pods.conflist") == "bridge portmap podtap" })
	time.Sleep(500 * time.Millisecond)
	if got := i.Status(); got.State == node.StateReady {
		t.Errorf("it is ready before Multus has copied")
	}
	s.network("00-multus.conflist", copying(s.read("10-pods.conflist")))
	s.becomes(i, node.StateReady)
	stop()
	if len(told) != 1 {
		t.Errorf("it told of %v", told)
	}
}

func TestACopyOfMultusAloneIsNoNetwork(t *testing.T) {
	s := newScene(t)
	s.network("00-multus.conflist", copying(primary))
	i, _ := s.start()
	if got := s.becomes(i, node.StateNoNetwork); !strings.Contains(got.Message, "a copy of one in 00-multus.conflist, which is Multus' own") {
		t.Errorf("message is %q", got.Message)
	}
}

func TestAFileThatALoadedMultusNamesKeepsItsName(t *testing.T) {
	s := newScene(t)
	s.network("10-pods.conf", single)
	s.conf.Loaded = func(context.Context) (Loaded, error) { // from another folder
		return Loaded{Known: true, Chain: []string{"multus"}, First: []byte(`{"type":"multus","clusterNetwork":"/run/multus/cni/net.d/10-pods.conf"}`)}, nil
	}
	i, _ := s.start()
	if got := s.becomes(i, node.StateUnsupported); !strings.Contains(got.Message, "Multus, as the runtime has loaded it, needs that under its own name") {
		t.Errorf("message is %q", got.Message)
	}
	if s.read("10-pods.conf") != single {
		t.Error("it was changed")
	}
}

// What makes Multus' copies watches the file, and stops at that once it has vanished; in the
// folder that Multus looks into there may be a link to the file.
func TestAFileThatMultusNeedsButDoesNotNameKeepsItsName(t *testing.T) {
	for name, multus := range map[string]string{
		"a copy":   copied(single),
		"a folder": `{"cniVersion":"1.0.0","name":"multus-cni-network","type":"multus","clusterNetwork":"/etc/cni/multus/primary/"}`,
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.network("00-multus.conf", multus)
			s.network("10-pods.conf", single)
			i, stop := s.start()
			if got := s.becomes(i, node.StateUnsupported); !strings.Contains(got.Message, "00-multus.conf needs that under its own name") {
				t.Errorf("message is %q", got.Message)
			}
			if s.read("10-pods.conf") != single {
				t.Error("it was changed")
			}
			stop()

			// Where Multus came later, the file is the list that podtap had made.
			if err := os.Remove(filepath.Join(s.conf.ConfDir, "00-multus.conf")); err != nil {
				t.Fatal(err)
			}
			_, stop = s.ready()
			stop()
			s.network("00-multus.conf", multus)
			if err := Uninstall(t.Context(), s.conf, nothingElse); err != nil {
				t.Fatal(err)
			}
			if got := s.types("10-pods.conflist"); got != "bridge" {
				t.Errorf("at the end there is %q", got)
			}
		})
	}
}

// copied is copying for a configuration of one file, with a copy of one plugin's.
func copied(network string) string {
	return fmt.Sprintf(`{"cniVersion":"1.0.0","name":"multus-cni-network","type":"multus","delegates":[%s]}`, network)
}

// The runtime's folder is another, and so Multus', which calls another network.
func TestWhatALoadedMultusDoesNotCallIsLeftAlone(t *testing.T) {
	s := newScene(t)
	s.pace.resync = 100 * time.Millisecond
	s.network("10-pods.conflist", primary)
	s.conf.Loaded = func(context.Context) (Loaded, error) {
		return Loaded{Known: true, Chain: []string{"multus"}, First: []byte(`{"type":"multus","clusterNetwork":"other"}`)}, nil
	}
	i, _ := s.start()
	if got := s.becomes(i, node.StateUnsupported); !strings.Contains(got.Message, `calls the network "other"`) {
		t.Errorf("message is %q", got.Message)
	}
	time.Sleep(500 * time.Millisecond)
	if s.read("10-pods.conflist") != primary {
		t.Error("it was changed")
	}
}

func TestANetworkThatMultusWaitsForIsWaitedFor(t *testing.T) {
	s := newScene(t)
	s.network("00-multus.conf", `{"cniVersion":"1.0.0","name":"multus-cni-network","type":"multus","clusterNetwork":"/elsewhere/10-pods.conflist"}`)
	i, _ := s.start()
	if got := s.becomes(i, node.StateNoNetwork); !strings.Contains(got.Message, `calls the network "/elsewhere/10-pods.conflist"`) {
		t.Errorf("message is %q", got.Message)
	}
}

func TestACopyOfMultusThatCallsAPluginThatIsNotThereIsToldOf(t *testing.T) {
	s := newScene(t)
	s.write(s.conf.Plugin, "#!/bin/sh\nexit 3\n")
	s.network("10-pods.conflist", primary)
	s.network("00-multus.conflist", copying(`{"name":"pods","plugins":[{"type":"bridge"},{"type":"podtap"}]}`))
	i, _ := s.start()
	got := s.becomes(i, node.StateFailing)
	for _, want := range []string{"the plugin does not run", "no pod starts until then", "Multus (00-multus.conflist) goes by a copy"} {
		if !strings.Contains(got.Message, want) {
			t.Errorf("message is %q, want %q", got.Message, want)
		}
	}
}
