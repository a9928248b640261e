package install

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"

	"github.com/podtap/podtap/api/node"
)

const single = `{ "cniVersion": "0.4.0",
  "name": "pods", "type": "bridge", "mtu": 1.50e3 }
`

func TestAConfigurationOfOnePluginBecomesAListAndBack(t *testing.T) {
	for _, ending := range []string{".conf", ".json"} {
		t.Run(ending, func(t *testing.T) {
			s := newScene(t)
			s.network("10-pods"+ending, single)
			if err := os.Chmod(filepath.Join(s.conf.ConfDir, "10-pods"+ending), 0o640); err != nil {
				t.Fatal(err)
			}
			i, stop := s.start()
			got := s.becomes(i, node.StateReady)
			if got.File != "10-pods.conflist" || strings.Join(got.Chain, " ") != "bridge podtap" {
				t.Errorf("status is %+v", got)
			}
			path := filepath.Join(s.conf.ConfDir, "10-pods.conflist")
			list, err := libcni.ConfListFromFile(path)
			if err != nil || list.Name != "pods" || list.CNIVersion != "0.4.0" || len(list.Plugins) != 2 {
				t.Fatalf("libcni reads %+v, %v", list, err)
			}
			if !strings.Contains(s.read("10-pods.conflist"), strings.TrimSpace(single)) {
				t.Errorf("the plugin's own bytes are not in\n%s", s.read("10-pods.conflist"))
			}
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
				t.Errorf("it is %v, %v", info, err)
			}
			stop()
			if err := Uninstall(t.Context(), s.conf, nothingElse); err != nil {
				t.Fatal(err)
			}
			if got := s.read("10-pods" + ending); got != single {
				t.Errorf("after uninstalling it is %q, want %q", got, single)
			}
			if entries, _ := os.ReadDir(s.conf.ConfDir); len(entries) != 1 {
				t.Errorf("files\n%s", s.files(s.conf.ConfDir))
			}
		})
	}
}

func TestAnOwnerWhoWritesHisOnePluginAgainIsFollowed(t *testing.T) {
	s := newScene(t)
	s.network("10-pods.conf", single)
	i, _ := s.ready()
	s.network("10-pods.conf", strings.Replace(single, "1.50e3", "9000", 1))
	s.eventually("the list has what is new", func() bool {
		text, err := os.ReadFile(filepath.Join(s.conf.ConfDir, "10-pods.conflist"))
		_, gone := os.Stat(filepath.Join(s.conf.ConfDir, "10-pods.conf"))
		return err == nil && strings.Contains(string(text), "9000") && os.IsNotExist(gone)
	})
	s.becomes(i, node.StateReady)
}

func TestAListThatIsSomebodyElsesIsNotOverwritten(t *testing.T) {
	s := newScene(t)
	s.network("10-pods.conf", single)
	s.network("10-pods.conflist", primary)
	i, _ := s.start()
	if got := s.becomes(i, node.StateUnsupported); !strings.Contains(got.Message, "10-pods.conflist which is not podtap's") {
		t.Errorf("message is %q", got.Message)
	}
	if s.read("10-pods.conf") != single || s.read("10-pods.conflist") != primary {
		t.Error("something was changed")
	}
}
