package install

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/api/node"
)

// mounted mounts a small file system over a folder, with what is in it copied.
func (s *scene) mounted(folder, options string) {
	s.t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		s.t.Fatal(err)
	}
	kept := map[string][]byte{}
	for _, e := range entries {
		if kept[e.Name()], err = os.ReadFile(filepath.Join(folder, e.Name())); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := unix.Mount("tmpfs", folder, "tmpfs", 0, options); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = unix.Unmount(folder, unix.MNT_DETACH) })
	for name, text := range kept {
		if err := os.WriteFile(filepath.Join(folder, name), text, 0o755); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *scene) remount(folder string, flags uintptr, options string) {
	s.t.Helper()
	if err := unix.Mount("", folder, "", unix.MS_REMOUNT|flags, options); err != nil {
		s.t.Fatal(err)
	}
}

func TestADiskThatCannotBeWrittenIsSaidAndTriedAgain(t *testing.T) {
	for _, which := range []string{"bin", "net.d"} {
		t.Run(which+" read-only", func(t *testing.T) {
			s := newScene(t)
			s.network("10-pods.conflist", primary)
			folder := filepath.Join(filepath.Dir(s.conf.BinDir), which)
			s.mounted(folder, "size=1m")
			s.remount(folder, unix.MS_RDONLY, "size=1m")
			i, _ := s.start()
			if got := s.becomes(i, node.StateFailing); !strings.Contains(got.Message, "read-only") {
				t.Errorf("message is %q", got.Message)
			}
			s.remount(folder, 0, "size=1m")
			s.becomes(i, node.StateReady)
		})
		t.Run(which+" full", func(t *testing.T) {
			s := newScene(t)
			s.network("10-pods.conflist", primary)
			folder := filepath.Join(filepath.Dir(s.conf.BinDir), which)
			s.mounted(folder, "size=8k")
			fill := filepath.Join(folder, "fill")
			_ = os.WriteFile(fill, make([]byte, 8<<10), 0o600)
			i, _ := s.start()
			if got := s.becomes(i, node.StateFailing); !strings.Contains(got.Message, "no space left") {
				t.Errorf("message is %q", got.Message)
			}
			if s.read("10-pods.conflist") != primary {
				t.Error("the configuration was changed")
			}
			if entries, _ := filepath.Glob(filepath.Join(folder, ".*"+temporary)); len(entries) > 1 {
				t.Errorf("each attempt leaves a file: %v", entries)
			}
			if err := os.Remove(fill); err != nil {
				t.Fatal(err)
			}
			s.becomes(i, node.StateReady)
		})
	}
}

func TestThePluginIsReplacedWhileItRuns(t *testing.T) {
	s := newScene(t)
	s.network("10-pods.conflist", primary)
	sleep, err := exec.LookPath("sleep")
	if err != nil {
		t.Skip("there is no sleep to run")
	}
	old, err := os.ReadFile(sleep)
	if err != nil {
		t.Fatal(err)
	}
	plugin := filepath.Join(s.conf.BinDir, "podtap")
	if err := os.WriteFile(plugin, old, 0o755); err != nil {
		t.Fatal(err)
	}
	running := exec.Command(plugin, "60")
	if err := running.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = running.Process.Kill(); _ = running.Wait() }()
	s.ready()
	if err := try(plugin); err != nil {
		t.Error(err)
	}
	// It comes back, too, whoever takes it away.
	if err := os.Remove(plugin); err != nil {
		t.Fatal(err)
	}
	s.eventually("the plugin is back", func() bool { return try(plugin) == nil })
}

func TestAPluginThatDoesNotRunIsNotInstalled(t *testing.T) {
	for name, text := range map[string]string{"fails": "#!/bin/sh\nexit 3\n", "says nothing": "#!/bin/sh\n", "is for another machine": "\x7fELF\x02\x01\x01"} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.network("10-pods.conflist", primary)
			plugin := filepath.Join(s.conf.BinDir, "podtap")
			s.write(plugin, "the old one")
			s.write(s.conf.Plugin, text)
			i, _ := s.start()
			if got := s.becomes(i, node.StateFailing); !strings.Contains(got.Message, "the plugin does not run") {
				t.Errorf("message is %q", got.Message)
			}
			if got, err := os.ReadFile(plugin); err != nil || string(got) != "the old one" {
				t.Errorf("the old plugin is now %q, %v", got, err)
			}
			if s.read("10-pods.conflist") != primary {
				t.Error("it was chained all the same")
			}
		})
	}
}

func TestARuntimeThatMissedTheChangeIsToldAgain(t *testing.T) {
	s := newScene(t)
	s.network("10-pods.conflist", primary)
	path := filepath.Join(s.conf.ConfDir, "10-pods.conflist")
	var first, second os.FileInfo
	s.conf.Loaded = func(context.Context) (Loaded, error) {
		info, err := os.Stat(path)
		if err == nil && first == nil && strings.Contains(s.read("10-pods.conflist"), "podtap") {
			first = info
		}
		if first != nil && !os.SameFile(info, first) {
			second = info
			return Loaded{Known: true, Network: "pods", Chain: []string{"bridge", "portmap", "podtap"}}, err
		}
		return Loaded{Known: true, Network: "pods", Chain: []string{"bridge", "portmap"}}, err
	}
	i, stop := s.start()
	s.becomes(i, node.StateFailing)
	if got := i.Status(); !strings.Contains(got.Message, "has not loaded podtap's entry") {
		t.Errorf("message is %q", got.Message)
	}
	s.becomes(i, node.StateReady)
	stop()
	if second == nil {
		t.Error("the file was not written again")
	}
}

func TestTheRuntimesOwnWordCounts(t *testing.T) {
	n := &network{path: "/x/10-pods.conflist", name: "pods"}
	for _, c := range []struct {
		loaded Loaded
		want   string
	}{
		{Loaded{}, ""},
		{Loaded{Known: true, Network: "pods", Chain: []string{"bridge", "podtap"}}, ""},
		{Loaded{Known: true, Network: "pods", Chain: []string{"bridge", "podtap"}, Entry: []byte(`{"taps": [], "type": "podtap"}`)}, ""},
		{Loaded{Known: true, Network: "multus-cni-network", Chain: []string{"multus-shim"}}, ""},
		{Loaded{Known: true, Chain: []string{"multus"}, First: []byte(`{"type": "multus", "clusterNetwork": "/host/etc/cni/net.d/10-pods.conflist"}`)}, ""},
		{Loaded{Known: true, Chain: []string{"multus"}, First: []byte(`{"type": "multus", "clusterNetwork": "/etc/cni/net.d/20-other.conflist"}`)}, `calls the network "/etc/cni/net.d/20-other.conflist"`},
		{Loaded{Known: true, Chain: []string{"multus"}, First: []byte(`{"type": "multus", "delegates": [{"name": "pods", "plugins": [{"type": "bridge"}, ` + entry + `]}]}`)}, ""},
		{Loaded{Known: true, Chain: []string{"multus"}, First: []byte(`{"type": "multus", "delegates": [{"name": "pods", "plugins": [{"type": "bridge"}]}]}`)}, "(as the runtime has loaded it) goes by a copy of 10-pods.conflist, without podtap's entry"},
		{Loaded{Known: true, Network: "pods", Chain: []string{"bridge"}}, "has not loaded podtap's entry of 10-pods.conflist"},
		{Loaded{Known: true, Network: "pods", Chain: []string{"bridge", "podtap"}, Entry: []byte(`{"type": "podtap"}`)}, "with other settings"},
		{Loaded{Known: true}, "has loaded no network"},
		{Loaded{Known: true, Network: "other", Chain: []string{"ptp"}}, `uses the network "other"`},
	} {
		if err := (&Installer{entry: []byte(entry)}).disagrees(c.loaded, n); (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.loaded, err, c.want)
		}
	}
}

func TestAFolderThatWasDeletedEndsTheProcess(t *testing.T) {
	s := newScene(t)
	s.network("10-pods.conflist", primary)
	// Held as a container holds the origin of a mount.
	held := filepath.Join(t.TempDir(), "held")
	if err := os.Mkdir(held, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(s.conf.ConfDir, held, "", unix.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(held, unix.MNT_DETACH) })
	origin := s.conf.ConfDir
	s.conf.ConfDir = held
	i := New(s.conf)
	i.pace = fastPace()
	done := make(chan error, 1)
	go func() { done <- i.Run(t.Context()) }()
	s.becomes(i, node.StateReady)
	if err := os.RemoveAll(origin); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "deleted") {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(shortWait):
		t.Error("it goes on")
	}
}
