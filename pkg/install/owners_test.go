package install

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/api/node"
)

func TestAFileThatMultusWaitsForKeepsItsName(t *testing.T) {
	s := newScene(t)
	s.network("00-multus.conf", `{"cniVersion":"0.3.1","name":"multus-cni-network","type":"multus-shim","readinessindicatorfile":"/etc/cni/net.d/10-pods.conf"}`)
	s.network("10-pods.conf", single)
	i, _ := s.start()
	if got := s.becomes(i, node.StateUnsupported); !strings.Contains(got.Message, "00-multus.conf needs that under its own name") {
		t.Errorf("message is %q", got.Message)
	}
	if s.read("10-pods.conf") != single {
		t.Error("it was changed")
	}
}

// Without the plugin no pod would start; with an older one all do.
func TestAnEntryIsThereOnlyWithAPluginThatRuns(t *testing.T) {
	s := newScene(t)
	s.network("10-pods.conflist", primary)
	_, stop := s.ready()
	stop()
	s.mounted(s.conf.BinDir, "size=1m")
	if err := os.Remove(filepath.Join(s.conf.BinDir, "podtap")); err != nil {
		t.Fatal(err)
	}
	s.remount(s.conf.BinDir, unix.MS_RDONLY, "size=1m")
	i, _ := s.start()
	s.becomes(i, node.StateFailing)
	s.eventually("the entry is gone", func() bool { return s.read("10-pods.conflist") == primary })
	if !i.ChainedSince().IsZero() {
		t.Error("podtap counts as chained")
	}
	s.remount(s.conf.BinDir, 0, "size=1m")
	s.becomes(i, node.StateReady)
	if s.types("10-pods.conflist") != "bridge portmap podtap" {
		t.Errorf("the chain is %s", s.types("10-pods.conflist"))
	}
}

func TestAnOlderPluginGoesOnBeingChained(t *testing.T) {
	s := newScene(t)
	s.network("10-pods.conflist", primary)
	_, stop := s.ready()
	stop()
	s.write(s.conf.Plugin, "#!/bin/sh\nexit 1\n")
	s.network("10-pods.conflist", primary)
	i, _ := s.start()
	s.eventually("the older one is chained", func() bool { return s.types("10-pods.conflist") == "bridge portmap podtap" })
	if got := s.becomes(i, node.StateFailing); !strings.Contains(got.Message, "the plugin does not run") {
		t.Errorf("message is %q", got.Message)
	}
}

// As a network plugin that watches its folder, and wants to be alone there.
func TestAnOwnerWhoRewritesAtOnceIsAConflict(t *testing.T) {
	s := newScene(t)
	s.network("10-pods.conflist", primary)
	path := filepath.Join(s.conf.ConfDir, "10-pods.conflist")
	w, err := fsnotify.NewWatcher()
	if err != nil {
		t.Skip(err)
	}
	defer w.Close()
	if err := w.Add(s.conf.ConfDir); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range w.Events {
			text, err := os.ReadFile(path)
			if err == nil && strings.Contains(string(text), "podtap") && os.WriteFile(path+".own", []byte(primary), 0o644) == nil {
				_ = os.Rename(path+".own", path)
			}
		}
	}()
	i, _ := s.start()
	s.becomes(i, node.StateConflict)
	before := i.Status().Rewrites
	time.Sleep(4 * time.Second) // more than one slow period
	if got := i.Status().Rewrites - before; got > 3 {
		t.Errorf("the entry was written %d times more in 4 s; want about one in 3 s", got)
	}
	_ = w.Close()
	<-done
	s.becomes(i, node.StateReady)
}

func TestWithoutAWatchAConflictIsSlowToo(t *testing.T) {
	p := conflictPace{window: time.Minute, rewrites: 2, quiet: 10 * time.Second, slow: 30 * time.Second}
	var c conflict
	now, wrote := time.Now(), 0
	for range 150 { // a look, and a missing entry, each 2 s
		c.noticed(now)
		if c.may(now, p) == nil {
			c.wrote(now, true)
			wrote++
		}
		now = now.Add(2 * time.Second)
	}
	if wrote > 35 {
		t.Errorf("in 300 s the entry was written %d times", wrote)
	}
}

func TestSinceWhenPodtapIsChainedSurvivesNewSettingsAndRestarts(t *testing.T) {
	s := newScene(t)
	s.network("10-pods.conflist", primary)
	i, stop := s.ready()
	since := i.ChainedSince()
	s.write(s.conf.Settings, "failurePolicy: Ignore\n")
	s.eventually("the settings are there", func() bool { return strings.Contains(s.read("10-pods.conflist"), "Ignore") })
	s.becomes(i, node.StateReady)
	if !i.ChainedSince().Equal(since) {
		t.Errorf("after new settings it is %v, was %v", i.ChainedSince(), since)
	}
	stop()
	i, stop = s.ready()
	if !i.ChainedSince().Equal(since) {
		t.Errorf("after a restart it is %v, was %v", i.ChainedSince(), since)
	}
	stop()
	time.Sleep(20 * time.Millisecond)
	s.network("10-pods.conflist", primary)
	i, _ = s.ready()
	if !i.ChainedSince().After(since) {
		t.Errorf("after a gap it is %v, was %v", i.ChainedSince(), since)
	}
}

func TestARuntimeThatDoesNotAnswerHasNotLoadedANewEntry(t *testing.T) {
	s := newScene(t)
	s.network("10-pods.conflist", primary)
	answer := make(chan Loaded, 1)
	s.conf.Loaded = func(context.Context) (Loaded, error) {
		select {
		case l := <-answer:
			return l, nil
		default:
			return Loaded{}, errors.New("no answer")
		}
	}
	i, _ := s.start()
	if got := s.becomes(i, node.StateFailing); !strings.Contains(got.Message, "does not say whether it has loaded") || !i.ChainedSince().IsZero() {
		t.Errorf("message is %q; chained since %v", got.Message, i.ChainedSince())
	}
	answer <- Loaded{Known: true, Network: "pods", Chain: []string{"bridge", "portmap", "podtap"}}
	s.becomes(i, node.StateReady)
	// Once it has, it may be silent for a while.
	time.Sleep(2 * fastPace().resync)
	if got := i.Status(); got.State != node.StateReady {
		t.Errorf("the state is %s, %q", got.State, got.Message)
	}
}

func TestAnEndInTheMiddleSaysNothing(t *testing.T) {
	s := newScene(t)
	s.network("10-pods.conflist", primary)
	asked := make(chan struct{}, 1000)
	s.conf.Loaded = func(context.Context) (Loaded, error) {
		asked <- struct{}{}
		return Loaded{}, errors.New("no answer")
	}
	var told []node.State
	s.conf.Changed = func(n node.Install) { told = append(told, n.State) }
	_, stop := s.start()
	<-asked
	stop()
	if len(told) > 0 {
		t.Errorf("the end was told as %v", told)
	}
}

func TestWhatCannotBePutBackIsNotDeleted(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "10-a.conf")
	if err := os.WriteFile(path, []byte("newer"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := withdraw(path, []byte("what was read")); !errors.Is(err, errChanged) {
		t.Errorf("error is %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "newer" {
		t.Errorf("it is %q, %v", text, err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("there are %v", entries)
	}
}
