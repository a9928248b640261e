package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func logging(path string) conf { return conf{"log": map[string]string{"level": "info", "file": path}} }

func TestTheLogFileIsPrivateAndTellsWhatWasMade(t *testing.T) {
	s := newScene(t)
	path := filepath.Join(t.TempDir(), "log", "podtap.log")
	c := s.configured(everySink).with(logging(path))
	got := s.call("ADD", c).succeeds()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the log's mode is %v, want 0600", info.Mode().Perm())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != got.stderr || strings.Count(string(text), "tap made") != 4 || !strings.Contains(string(text), "pod=web") {
		t.Errorf("the log is %q, want 4 taps made, as on standard error: %q", text, got.stderr)
	}
	s.call("DEL", c).silent()
}

func TestTheLogFileIsRotatedOnceAt10MiB(t *testing.T) {
	s := newScene(t)
	path := filepath.Join(t.TempDir(), "podtap.log")
	for _, size := range []int64{10<<20 - 1, 10 << 20, 11 << 20} {
		for _, name := range []string{path, path + ".1"} {
			if err := os.WriteFile(name, []byte("old"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
		s.call("ADD", s.annotated("veth: {}").with(logging(path))).succeeds()
		now, rotated := fileSize(t, path), fileSize(t, path+".1")
		switch {
		case size < 10<<20 && (now <= size || rotated != 3):
			t.Errorf("at %d bytes: the log has %d, the rotation %d; it came too early", size, now, rotated)
		case size >= 10<<20 && (now > 4096 || rotated != size):
			t.Errorf("at %d bytes: the log has %d, the rotation %d; want a new log", size, now, rotated)
		}
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 2 {
		t.Errorf("the folder has %v (%v), want the log and one rotation", entries, err)
	}
}

func fileSize(t *testing.T, path string) int64 {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

func TestALogFileThatCannotBeIsAWarningAndThePodStarts(t *testing.T) {
	s := newScene(t)
	dir := t.TempDir()
	target := filepath.Join(dir, "target")
	if err := os.WriteFile(target, []byte("precious"), 0o644); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"a symbolic link": link, "a folder": dir, "below a file": filepath.Join(target, "log")} {
		t.Run(name, func(t *testing.T) {
			s := s.in(t)
			c := s.annotated("veth: {}").with(logging(path))
			s.call("ADD", c).succeeds().says("level=WARN", "no log file", "tap made")
			if !s.pod.Has("mirror") {
				t.Error("the tap is not there")
			}
			s.call("CHECK", c).silent()
			s.call("DEL", c).silent()
		})
	}
	if text, err := os.ReadFile(target); err != nil || string(text) != "precious" {
		t.Errorf("what the link points to is %q (%v)", text, err)
	}
}

func TestTheLogsLevelIsKept(t *testing.T) {
	s := newScene(t)
	for level, want := range map[string]bool{"debug": true, "info": true, "warn": false, "error": false} {
		c := s.annotated("veth: {}").with(conf{"log": map[string]string{"level": level}})
		if got := s.call("ADD", c).succeeds(); strings.Contains(got.stderr, "tap made") != want {
			t.Errorf("at level %s standard error has %q", level, got.stderr)
		}
		s.call("DEL", c).silent()
	}
	for text, phrase := range map[string]string{`loud`: "one of debug, info, warn, error"} {
		c := s.annotated("veth: {}").with(conf{"log": map[string]string{"level": text}})
		s.call("ADD", c).fails(7, "log.level", phrase)
	}
	s.call("ADD", s.annotated("veth: {}").with(logging("relative"))).fails(7, "log.file", "absolute path")
}

func TestTheLogWarnsOfCopiesThatWillBeLost(t *testing.T) {
	s := newScene(t)
	s.call("ADD", s.configured(`{"vxlan":{"vni":7,"remote":"fd00:18::200","oversize":"fragment"}}`)).succeeds().says("level=WARN", "will be lost", "tap=mirror")
}

func TestALogThatOthersCouldReadBecomesPrivate(t *testing.T) {
	s := newScene(t)
	path := filepath.Join(t.TempDir(), "podtap.log")
	if err := errors.Join(os.WriteFile(path, []byte("old\n"), 0o600), os.Chmod(path, 0o644)); err != nil {
		t.Fatal(err)
	}
	s.call("ADD", s.annotated("veth: {}").with(logging(path))).succeeds()
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the log's mode is %v (%v), want 0600", info.Mode(), err)
	}
}

// A pipe must neither be waited for nor be written to.
func TestALogFileIsNoPipe(t *testing.T) {
	s := newScene(t)
	for _, reader := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "pipe")
		if err := unix.Mkfifo(path, 0o644); err != nil {
			t.Fatal(err)
		}
		if reader {
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
		}
		c := s.annotated("veth: {}").with(logging(path))
		s.call("ADD", c).succeeds().says("level=WARN", "no log file", "tap made")
		s.call("DEL", c).silent()
	}
}
