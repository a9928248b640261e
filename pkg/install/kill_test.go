package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"

	"github.com/podtap/podtap/api/node"
	"github.com/podtap/podtap/internal/lab"
)

// installOnce is the program that is killed: it installs podtap in a folder, or
// takes it out again, and ends.
func installOnce(arg string) int {
	verb, dir, _ := strings.Cut(arg, " ")
	conf := configAt(dir)
	if verb == "uninstall" {
		if err := Uninstall(context.Background(), conf, nothingElse); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	conf.Changed = func(s node.Install) {
		if s.State == node.StateReady {
			cancel()
		}
	}
	if err := New(conf).Run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func TestAnInstallerKilledAtAnyStepLeavesAWorkingNode(t *testing.T) {
	conf := `{"cniVersion":"0.4.0","name":"pods","type":"bridge"}`
	for name, c := range map[string]struct{ verb, file, text string }{
		"install to a list":       {"install", "10-pods.conflist", primary},
		"install to one plugin":   {"install", "10-pods.conf", conf},
		"uninstall from a list":   {"uninstall", "10-pods.conflist", primary},
		"uninstall from a single": {"uninstall", "10-pods.conf", conf},
	} {
		t.Run(name, func(t *testing.T) {
			steps := 0
			for n := 1; ; n++ {
				s := newScene(t)
				s.network(c.file, c.text)
				if c.verb == "uninstall" {
					_, stop := s.ready()
					stop()
				}
				child := exec.Command("/proc/self/exe")
				child.Env = append(os.Environ(), childDir+"="+c.verb+" "+filepath.Dir(s.conf.ConfDir))
				var complaint strings.Builder
				child.Stderr = &complaint
				killed, step, err := lab.KillAt(child, n)
				if errors.Is(err, lab.ErrNoTrace) {
					t.Skip(err)
				}
				if !killed {
					if err != nil {
						t.Fatalf("without a kill: %v %s", err, complaint.String())
					}
					break
				}
				steps++
				s.works(fmt.Sprintf("killed before step %d (%s)", n, step))
				s.recovers(c.verb, c.file, c.text, fmt.Sprintf("after a kill before step %d (%s)", n, step))
			}
			if steps < 8 {
				t.Errorf("only %d steps", steps)
			}
		})
	}
}

// nothingElse is uninstalling without taps to remove.
func nothingElse(context.Context) (keepPlugin bool, err error) { return false, nil }

// works insists that a runtime finds a network at this very moment, and each of
// the plugins that it needs.
func (s *scene) works(when string) {
	s.t.Helper()
	n, skipped, err := discover(s.conf.ConfDir)
	if err != nil || skipped != nil {
		s.t.Fatalf("%s: %v, %v; files\n%s", when, err, skipped, s.files(s.conf.ConfDir))
	}
	if n.list == nil {
		return
	}
	list, err := libcni.ConfListFromFile(n.path)
	if err != nil || list.Name != "pods" || list.Plugins[0].Network.Type != "bridge" {
		s.t.Fatalf("%s: %v, %+v", when, err, list)
	}
	if n.entries() > 1 {
		s.t.Fatalf("%s: the chain is %v", when, n.types())
	}
	if n.entries() == 1 {
		if err := try(filepath.Join(s.conf.BinDir, "podtap")); err != nil {
			s.t.Fatalf("%s: podtap is chained, but the plugin does not run: %v", when, err)
		}
	}
}

// recovers insists that the next one comes to a good end, whatever was left.
func (s *scene) recovers(verb, file, text, when string) {
	s.t.Helper()
	if verb == "uninstall" {
		if err := Uninstall(context.Background(), s.conf, nothingElse); err != nil {
			s.t.Fatalf("%s: %v", when, err)
		}
		if got := strings.TrimSpace(s.read(file)); got != strings.TrimSpace(text) {
			s.t.Fatalf("%s: the configuration is %s", when, got)
		}
	} else {
		_, stop := s.ready()
		stop()
		s.works(when)
	}
	entries, err := os.ReadDir(s.conf.ConfDir)
	if err != nil || len(entries) != 1 {
		s.t.Fatalf("%s: %v; files\n%s", when, err, s.files(s.conf.ConfDir))
	}
	entries, err = os.ReadDir(s.conf.BinDir)
	if want := map[string]int{"install": 1, "uninstall": 0}[verb]; err != nil || len(entries) != want {
		s.t.Fatalf("%s: %v; files\n%s", when, err, s.files(s.conf.BinDir))
	}
}
