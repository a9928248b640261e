package install

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestNoOtherWritersChangeIsLost(t *testing.T) {
	s := newScene(t)
	path := filepath.Join(s.conf.ConfDir, "10-pods.conflist")
	s.network("10-pods.conflist", primary)
	const rounds = 400
	done := make(chan struct{})
	go func() { // the owner, who writes one version after the other
		defer close(done)
		for n := range rounds {
			text := strings.Replace(primary, "1500.0", fmt.Sprint(2000+n), 1)
			if os.WriteFile(path+".new", []byte(text), 0o644) == nil {
				_ = os.Rename(path+".new", path)
			}
			time.Sleep(time.Duration(n%7) * 50 * time.Microsecond)
		}
	}()
	entry := []byte(`{"type":"podtap"}`)
	chain := func() error {
		n, err := readNetwork(path)
		if err != nil || n.has(entry) {
			return err
		}
		_, text, err := n.chained(entry)
		if err != nil {
			return err
		}
		return replace(path, n.text, text)
	}
	chained, lost := 0, 0
	for over := false; !over; {
		select {
		case <-done:
			over = true
		default:
		}
		switch err := chain(); {
		case err == nil:
			chained++
		case errors.Is(err, errChanged):
			lost++
		default:
			t.Fatal(err)
		}
	}
	if text := s.read("10-pods.conflist"); !strings.Contains(text, fmt.Sprint(2000+rounds-1)) || s.types("10-pods.conflist") != "bridge portmap podtap" {
		t.Errorf("after %d replacements, and %d that gave way, the configuration is\n%s", chained, lost, text)
	}
	if lost == 0 {
		t.Logf("no replacement met another writer")
	}
}

// The moment between the look and the exchange is too short to be met by chance.
func TestWhatWasWrittenAfterTheLookIsPutBack(t *testing.T) {
	dir := t.TempDir()
	path, temp := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	for name, text := range map[string]string{path: "theirs", temp: "ours"} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := exchange(path, temp, []byte("what was read"), []byte("ours")); !errors.Is(err, errChanged) {
		t.Errorf("error is %v", err)
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "theirs" {
		t.Errorf("it is %q, %v", got, err)
	}
}

func TestReplacingGivesWayToWhoWasFaster(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	if err := os.WriteFile(path, []byte("theirs"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := replace(path, []byte("what was read"), []byte("ours")); !errors.Is(err, errChanged) {
		t.Errorf("error is %v", err)
	}
	if got, _ := os.ReadFile(path); !bytes.Equal(got, []byte("theirs")) {
		t.Errorf("it is %q", got)
	}
}

func TestTheModeAndTheOwnerStay(t *testing.T) {
	s := newScene(t)
	s.network("10-pods.conflist", primary)
	path := filepath.Join(s.conf.ConfDir, "10-pods.conflist")
	if err := os.Chmod(path, 0o604); err != nil {
		t.Fatal(err)
	}
	owned := os.Chown(path, 1234, 1234) == nil
	s.ready()
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil || stat.Mode&0o777 != 0o604 || owned && (stat.Uid != 1234 || stat.Gid != 1234) {
		t.Errorf("mode %o, owner %d:%d, %v", stat.Mode, stat.Uid, stat.Gid, err)
	}
}
