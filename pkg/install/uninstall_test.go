package install

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestUninstallingTakesPodtapOutOfEveryChain(t *testing.T) {
	s := newScene(t)
	s.network("10-pods.conflist", primary)
	// An older chain of a network that is no longer the first, and others.
	old := strings.Replace(primary, "\n]", ",\n  {\"type\":\"podtap\"}\n]", 1)
	s.network("90-old.conflist", old)
	s.network("95-sole.conflist", `{"cniVersion":"1.0.0","name":"wire","plugins":[{"type":"podtap","taps":[{"wire":{}}]}]}`)
	s.network("99-bad.conflist", `{`)
	_, stop := s.ready()
	if err := Uninstall(t.Context(), s.conf, nothingElse); err == nil || !strings.Contains(err.Error(), "delete the DaemonSet first") {
		t.Errorf("while podtapd runs: %v", err)
	}
	stop()
	err := Uninstall(t.Context(), s.conf, func(context.Context) (bool, error) {
		if _, err := os.Stat(filepath.Join(s.conf.BinDir, "podtap")); err != nil {
			t.Errorf("the plugin is gone with the entry: %v", err)
		}
		return false, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"10-pods.conflist": primary, "90-old.conflist": primary, "99-bad.conflist": "{",
		"95-sole.conflist": `{"cniVersion":"1.0.0","name":"wire","plugins":[{"type":"podtap","taps":[{"wire":{}}]}]}`} {
		if got := s.read(name); got != want {
			t.Errorf("%s is\n%s\nwant\n%s", name, got, want)
		}
	}
	if left := s.files(s.conf.BinDir) + s.files(s.conf.RunDir); left != "" {
		t.Errorf("left is\n%s", left)
	}
	if err := Uninstall(t.Context(), s.conf, nothingElse); err != nil {
		t.Errorf("a second time: %v", err)
	}
}

func TestThePluginStaysWhileTheRuntimeUsesTheEntry(t *testing.T) {
	s := newScene(t)
	s.network("10-pods.conflist", primary)
	_, stop := s.ready()
	stop()
	s.conf.Loaded = func(context.Context) (Loaded, error) {
		return Loaded{Known: true, Network: "pods", Chain: []string{"bridge", "podtap"}}, nil
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := Uninstall(ctx, s.conf, nothingElse); err == nil || !strings.Contains(err.Error(), "the runtime still uses podtap's entry") {
		t.Errorf("error is %v", err)
	}
	begin, asked := time.Now(), 0
	s.conf.Loaded = func(context.Context) (Loaded, error) {
		asked++
		chain := []string{"bridge", "podtap"}
		if asked > 2 {
			chain = chain[:1]
		}
		return Loaded{Known: true, Network: "pods", Chain: chain}, nil
	}
	s.conf.InFlight = 300 * time.Millisecond
	// Three times until it has loaded the new one, and once more before the plugin goes.
	if err := Uninstall(t.Context(), s.conf, nothingElse); err != nil || asked != 4 || time.Since(begin) < 2*loadRetry+s.conf.InFlight {
		t.Errorf("error %v after %d questions and %v", err, asked, time.Since(begin))
	}
}

func TestAttachmentsOfLivingPodsNeedThePlugin(t *testing.T) {
	cache := t.TempDir()
	remember := func(name, network, config string) {
		t.Helper()
		text, err := json.Marshal(map[string]any{"kind": "cniCacheV1", "containerId": name, "networkName": network, "config": []byte(config)})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Join(cache, "results"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(cache, "results", name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	remember("a", "pods", `{"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"bridge"},{"type":"podtap"}]}`)
	remember("b", "pods", primary)
	remember("c", "wire", `{"cniVersion":"1.0.0","name":"wire","type":"podtap"}`)
	// Addresses beside them, however many, are none.
	if err := os.MkdirAll(filepath.Join(cache, "networks", "pods"), 0o755); err != nil {
		t.Fatal(err)
	}
	for n := range maxCached + 1 {
		if err := os.WriteFile(filepath.Join(cache, "networks", "pods", fmt.Sprint(n)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(cache, "other"), []byte("podtap"), 0o600); err != nil {
		t.Fatal(err)
	}
	if all, err := StillNeeded(cache); err != nil || all != 2 {
		t.Errorf("%d attachments, %v; want 2", all, err)
	}
	if others, err := StillNeeded(cache, "pods"); err != nil || others != 1 {
		t.Errorf("but for pods: %d attachments, %v; want 1", others, err)
	}
	if none, err := StillNeeded(filepath.Join(cache, "none")); err != nil || none != 0 {
		t.Errorf("without a cache: %d, %v", none, err)
	}
}

func TestAnEntryThatSomebodyPutsBackIsTakenOutAgain(t *testing.T) {
	s := newScene(t)
	s.network("10-pods.conflist", primary)
	_, stop := s.ready()
	stop()
	chained := s.read("10-pods.conflist")
	rounds := 0
	back := func(rounds *int, most int) func(context.Context) (bool, error) {
		return func(context.Context) (bool, error) {
			if *rounds++; *rounds <= most {
				s.network("10-pods.conflist", chained)
			}
			return false, nil
		}
	}
	if err := Uninstall(t.Context(), s.conf, back(&rounds, 2)); err != nil || rounds != 3 {
		t.Errorf("error %v after %d rounds", err, rounds)
	}
	if s.read("10-pods.conflist") != primary {
		t.Errorf("the configuration is %s", s.read("10-pods.conflist"))
	}
	// Who never stops keeps the plugin.
	_, stop = s.ready()
	stop()
	rounds = 0
	if err := Uninstall(t.Context(), s.conf, back(&rounds, 1000)); err == nil || !strings.Contains(err.Error(), "puts podtap's entry back") {
		t.Errorf("error is %v", err)
	}
	if _, err := os.Stat(filepath.Join(s.conf.BinDir, "podtap")); err != nil {
		t.Errorf("the plugin is gone: %v", err)
	}
}

func TestAFileThatCannotBeReadKeepsNoEntryInOthers(t *testing.T) {
	s := newScene(t)
	s.network("10-pods.conflist", primary)
	_, stop := s.ready()
	stop()
	s.network("05-big.conf", strings.Repeat(" ", maxFile+1))
	s.network("06-big.conflist", strings.Repeat(" ", maxFile+1))
	if err := Uninstall(t.Context(), s.conf, nothingElse); err != nil {
		t.Error(err)
	}
	if s.read("10-pods.conflist") != primary {
		t.Errorf("the configuration is %s", s.read("10-pods.conflist"))
	}
}

func TestARuntimeThatMissedTheRemovalIsToldAgain(t *testing.T) {
	s := newScene(t)
	s.network("10-pods.conflist", primary)
	path := filepath.Join(s.conf.ConfDir, "10-pods.conflist")
	first, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	s.conf.Loaded = func(context.Context) (Loaded, error) {
		l := Loaded{Known: true, Network: "pods", Chain: []string{"bridge", "podtap"}}
		if now, err := os.Stat(path); err == nil && !os.SameFile(first, now) {
			l.Chain = l.Chain[:1]
		}
		return l, nil
	}
	if err := Uninstall(t.Context(), s.conf, nothingElse); err != nil {
		t.Error(err)
	}
}
