package install

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/podtap/podtap/api/node"
	"github.com/podtap/podtap/pkg/cniconf"
)

const (
	primary = `{"cniVersion":"1.0.0","name":"pods","plugins":[
  {"type":"bridge", "mtu": 1500.0},
  {"type":"portmap"}
]}
`
	shortWait = 15 * time.Second
)

// scene is a node's folders.
type scene struct {
	t    *testing.T
	conf Config
	pace pace // of installers that start from now on
}

// configAt is a node's folders below one.
func configAt(dir string) Config {
	return Config{
		Plugin: filepath.Join(dir, "image", "podtap"), BinDir: filepath.Join(dir, "bin"), ConfDir: filepath.Join(dir, "net.d"),
		Settings: filepath.Join(dir, "settings", "config.yaml"), AgentSocket: cniconf.DefaultAgentSocket, RunDir: filepath.Join(dir, "run"),
		InFlight: time.Millisecond, Log: slog.New(slog.DiscardHandler),
	}
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{t, configAt(t.TempDir()), fastPace()}
	for _, d := range []string{s.conf.BinDir, s.conf.ConfDir, filepath.Dir(s.conf.Settings), filepath.Dir(s.conf.Plugin)} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// As a plugin, the test binary says VERSION; a script keeps the scene small.
	s.write(s.conf.Plugin, "#!/bin/sh\nexec "+self+"\n")
	s.write(s.conf.Settings, "")
	return s
}

// fastPace lets a test see in a second what takes a minute.
func fastPace() pace {
	return pace{resync: time.Second, retry: 20 * time.Millisecond, retryMost: 100 * time.Millisecond, load: 300 * time.Millisecond,
		conflict: conflictPace{window: 10 * time.Second, rewrites: 3, quiet: 700 * time.Millisecond, slow: 3 * time.Second}}
}

// start lets an installer run until it is stopped, or the test ends.
func (s *scene) start() (i *Installer, stop func()) {
	s.t.Helper()
	i = New(s.conf)
	i.pace = s.pace
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- i.Run(ctx) }()
	stopped := false
	stop = func() {
		s.t.Helper()
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				s.t.Errorf("the installer ended with %v", err)
			}
		case <-time.After(shortWait):
			s.t.Error("the installer does not end")
		}
	}
	s.t.Cleanup(stop)
	return i, stop
}

// ready is an installer that is at work, and ready.
func (s *scene) ready() (i *Installer, stop func()) {
	s.t.Helper()
	i, stop = s.start()
	s.becomes(i, node.StateReady)
	return i, stop
}

// write writes a file as a network plugin does that cares: whole.
func (s *scene) write(path, text string) {
	s.t.Helper()
	temp := path + ".new"
	if err := os.WriteFile(temp, []byte(text), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(temp, path); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) network(name, text string) {
	s.t.Helper()
	s.write(filepath.Join(s.conf.ConfDir, name), text)
}

func (s *scene) read(name string) string {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.conf.ConfDir, name))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// eventually insists that something comes true.
func (s *scene) eventually(what string, is func() bool) {
	s.t.Helper()
	for end := time.Now().Add(shortWait); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("it did not come true within %v: %s", shortWait, what)
		}
	}
}

// becomes insists that the installer comes to a state, and tells all of it then.
func (s *scene) becomes(i *Installer, want node.State) node.Install {
	s.t.Helper()
	for end := time.Now().Add(shortWait); ; time.Sleep(5 * time.Millisecond) {
		if got := i.Status(); got.State == want {
			return got
		} else if time.Now().After(end) {
			s.t.Fatalf("after %v the state is %s, %q; want %s", shortWait, got.State, got.Message, want)
		}
	}
}

// types are those of the plugins of a file.
func (s *scene) types(name string) string {
	s.t.Helper()
	var list struct{ Plugins []struct{ Type string } }
	if err := json.Unmarshal([]byte(s.read(name)), &list); err != nil {
		s.t.Fatalf("%s: %v", name, err)
	}
	var out []string
	for _, p := range list.Plugins {
		out = append(out, p.Type)
	}
	return strings.Join(out, " ")
}

// files lists a folder, with sizes and times of change.
func (s *scene) files(folder string) string {
	s.t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		s.t.Fatal(err)
	}
	var out strings.Builder
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			s.t.Fatal(err)
		}
		fmt.Fprintln(&out, e.Name(), info.Mode(), info.Size(), info.ModTime())
	}
	return out.String()
}
