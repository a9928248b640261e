package install

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/api/node"
)

func TestANodeBecomesReady(t *testing.T) {
	s := newScene(t)
	s.network("10-pods.conflist", primary)
	i, _ := s.start()
	got := s.becomes(i, node.StateReady)
	want := strings.Replace(primary, "\n]}", ",\n  "+`{"type":"podtap","capabilities":{"io.kubernetes.cri.pod-annotations":true}}`+"\n]}", 1)
	if text := s.read("10-pods.conflist"); text != want {
		t.Errorf("the configuration is\n%s\nwant\n%s", text, want)
	}
	if got.File != "10-pods.conflist" || got.Network != "pods" || strings.Join(got.Chain, " ") != "bridge portmap podtap" || got.Rewrites != 1 {
		t.Errorf("status is %+v", got)
	}
	plugin := filepath.Join(s.conf.BinDir, "podtap")
	if sum, err := digest(plugin); err != nil || sum != i.Digest() {
		t.Errorf("the plugin's digest is %s, %v; the installer says %s", sum, err, i.Digest())
	}
	if info, err := os.Stat(plugin); err != nil || info.Mode() != 0o755 {
		t.Errorf("the plugin is %v, %v", info, err)
	}
	if i.ChainedSince().IsZero() {
		t.Error("it is not known since when podtap is chained")
	}
}

func TestANodeWithoutANetworkWaitsForOne(t *testing.T) {
	s := newScene(t)
	i, _ := s.start()
	s.becomes(i, node.StateNoNetwork)
	s.network("10-pods.conflist", primary)
	s.becomes(i, node.StateReady)
}

func TestARewrittenConfigurationIsChainedAgain(t *testing.T) {
	s := newScene(t)
	s.pace.resync = time.Hour // it is the change itself that wakes podtapd
	s.network("10-pods.conflist", primary)
	i, _ := s.ready()
	s.network("10-pods.conflist", strings.Replace(primary, "1500.0", "9000", 1))
	s.eventually("podtap is chained to the new one", func() bool {
		return s.types("10-pods.conflist") == "bridge portmap podtap" && strings.Contains(s.read("10-pods.conflist"), "9000")
	})
	s.becomes(i, node.StateReady)
	// In place, in two writes with a pause between, as cp or a script does it.
	f, err := os.OpenFile(filepath.Join(s.conf.ConfDir, "10-pods.conflist"), os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, _ = f.WriteString(primary[:40])
	time.Sleep(500 * time.Millisecond)
	_, _ = f.WriteString(primary[40:])
	s.eventually("podtap is chained to the one written slowly", func() bool {
		return strings.Contains(s.read("10-pods.conflist"), "podtap") && strings.Contains(s.read("10-pods.conflist"), "1500.0")
	})
	s.becomes(i, node.StateReady)
}

func TestANetworkOfALowerNameTakesOver(t *testing.T) {
	s := newScene(t)
	s.pace.resync = time.Hour // it is the change itself that wakes podtapd
	s.network("10-pods.conflist", primary)
	i, _ := s.ready()
	s.network("05-other.conflist", strings.Replace(primary, "bridge", "ptp", 1))
	s.eventually("podtap is chained to the other", func() bool { return s.types("05-other.conflist") == "ptp portmap podtap" })
	s.eventually("the status names the other", func() bool { return i.Status().File == "05-other.conflist" })
}

func TestMultusLoopbackAndBadFilesArePassedOver(t *testing.T) {
	s := newScene(t)
	multus := `{"cniVersion":"0.3.1","name":"multus-cni-network","type":"multus-shim","delegates":[]}`
	loopback := `{"cniVersion":"0.3.1","name":"lo","plugins":[{"type":"loopback"}]}`
	s.network("00-multus.conf", multus)
	s.network("01-loopback.conflist", loopback)
	s.network("02-bad.conflist", `{"name":`)
	s.network("03-note.txt", `{}`)
	if err := unix.Mkfifo(filepath.Join(s.conf.ConfDir, "04-pipe.conf"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.network("05-large.conf", strings.Repeat(" ", maxFile)+primary)
	s.network("10-pods.conflist", primary)
	s.ready()
	if s.types("10-pods.conflist") != "bridge portmap podtap" || s.read("00-multus.conf") != multus || s.read("01-loopback.conflist") != loopback {
		t.Error("podtap is chained to the wrong one")
	}
}

func TestWhatPodtapCannotBeChainedToIsLeftAlone(t *testing.T) {
	for name, c := range map[string]struct{ file, text, message string }{
		"an old version":  {"10-a.conflist", `{"cniVersion":"0.2.0","name":"n","plugins":[{"type":"a"}]}`, `its cniVersion is "0.2.0"`},
		"no version":      {"10-a.conflist", `{"name":"n","plugins":[{"type":"a"}]}`, `its cniVersion is ""`},
		"a key twice":     {"10-a.conflist", `{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"a"}],"plugins":[{"type":"b"}]}`, `"plugins" is there twice`},
		"an old single":   {"10-a.conf", `{"cniVersion":"0.2.0","name":"n","type":"a"}`, `its cniVersion is "0.2.0"`},
		"a newer version": {"10-a.conflist", `{"cniVersion":"9.0.0","name":"n","plugins":[{"type":"a"}]}`, "9.0.0"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.network(c.file, c.text)
			i, _ := s.start()
			if got := s.becomes(i, node.StateUnsupported); !strings.Contains(got.Message, c.message) || !strings.Contains(got.Message, c.file) {
				t.Errorf("message is %q", got.Message)
			}
			if s.read(c.file) != c.text {
				t.Error("it was changed")
			}
		})
	}
	t.Run("a symbolic link", func(t *testing.T) {
		s := newScene(t)
		s.write(filepath.Join(s.conf.RunDir+"x"), primary)
		if err := os.Symlink(s.conf.RunDir+"x", filepath.Join(s.conf.ConfDir, "10-a.conflist")); err != nil {
			t.Fatal(err)
		}
		i, _ := s.start()
		if got := s.becomes(i, node.StateUnsupported); !strings.Contains(got.Message, "symbolic link") {
			t.Errorf("message is %q", got.Message)
		}
	})
}

func TestAnEndTouchesNothing(t *testing.T) {
	s := newScene(t)
	s.network("10-pods.conflist", primary)
	_, stop := s.ready()
	before := s.files(s.conf.ConfDir) + s.files(s.conf.BinDir)
	stop()
	if after := s.files(s.conf.ConfDir) + s.files(s.conf.BinDir); after != before {
		t.Errorf("the end changed\n%sto\n%s", before, after)
	}
	// And a new one finds nothing to do.
	_, stop = s.ready()
	stop()
	if after := s.files(s.conf.ConfDir) + s.files(s.conf.BinDir); after != before {
		t.Errorf("the next one changed\n%sto\n%s", before, after)
	}
}

func TestTwoInstallersTakeTurns(t *testing.T) {
	s := newScene(t)
	s.network("10-pods.conflist", primary)
	first, stop := s.start()
	s.becomes(first, node.StateReady)
	second, _ := s.start()
	s.becomes(second, node.StateStandby)
	stop()
	s.becomes(second, node.StateReady)
}

func TestSettingsAreFollowedWithoutARestart(t *testing.T) {
	s := newScene(t)
	s.network("10-pods.conflist", primary)
	// As a kubelet mounts a ConfigMap: through a link that is replaced.
	folder := filepath.Dir(s.conf.Settings)
	set := func(version, text string) {
		t.Helper()
		if err := os.Mkdir(filepath.Join(folder, version), 0o755); err != nil {
			t.Fatal(err)
		}
		s.write(filepath.Join(folder, version, "config.yaml"), text)
		if err := os.Symlink(version, filepath.Join(folder, "..data_tmp")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(folder, "..data_tmp"), filepath.Join(folder, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	_ = os.Remove(s.conf.Settings)
	set("..1", "failurePolicy: Ignore\n")
	if err := os.Symlink("..data/config.yaml", s.conf.Settings); err != nil {
		t.Fatal(err)
	}
	s.pace.resync = time.Hour
	i, _ := s.ready()
	if !strings.Contains(s.read("10-pods.conflist"), `"failurePolicy":"Ignore"`) {
		t.Errorf("the configuration is %s", s.read("10-pods.conflist"))
	}
	set("..2", "failurePolicy: Fail\npolicy: {rules: [{sinks: [vxlan], destinations: [198.18.0.9]}]}\n")
	s.eventually("the new settings are there", func() bool {
		return strings.Contains(s.read("10-pods.conflist"), `"policy":{"rules":[{"destinations":["198.18.0.9"],"sinks":["vxlan"]}]},"failurePolicy":"Fail"`)
	})
	set("..3", "failurePolicy: Perhaps\n")
	got := s.becomes(i, node.StateFailing)
	if !strings.Contains(got.Settings, `failurePolicy: "Perhaps"`) || !strings.Contains(s.read("10-pods.conflist"), `"failurePolicy":"Fail"`) {
		t.Errorf("status %+v; configuration %s", got, s.read("10-pods.conflist"))
	}
	set("..4", "")
	s.becomes(i, node.StateReady)
	if got := i.Status(); got.Settings != "" || strings.Contains(s.read("10-pods.conflist"), "failurePolicy") {
		t.Errorf("status %+v; configuration %s", got, s.read("10-pods.conflist"))
	}
}

func TestBadSettingsFromTheStartChainNothing(t *testing.T) {
	s := newScene(t)
	s.network("10-pods.conflist", primary)
	s.write(s.conf.Settings, "polcy: {}\n")
	i, _ := s.start()
	if got := s.becomes(i, node.StateFailing); !strings.Contains(got.Message, `"polcy" is unknown; known are taps, policy, failurePolicy, log`) {
		t.Errorf("message is %q", got.Message)
	}
	if s.read("10-pods.conflist") != primary {
		t.Error("it was changed")
	}
}
