package install

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The copy goes on calling the plugin, for each pod.
func TestThePluginStaysWhileACopyOfMultusCallsIt(t *testing.T) {
	s := newScene(t)
	s.network("10-pods.conflist", primary)
	_, stop := s.ready()
	stop()
	chained := copying(s.read("10-pods.conflist"))
	s.network("00-multus.conflist", chained)
	plugin := filepath.Join(s.conf.BinDir, "podtap")
	for what, loaded := range map[string]func(context.Context) (Loaded, error){
		"the file": nil,
		"what the runtime has loaded": func(context.Context) (Loaded, error) {
			return Loaded{Known: true, Chain: []string{"multus"}, First: []byte(`{"type":"multus","delegates":[{"plugins":[{"type":"podtap"}]}]}`)}, nil
		},
	} {
		s.conf.Loaded = loaded
		s.network("00-multus.conflist", chained)
		if loaded != nil {
			s.network("00-multus.conflist", copying(primary))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		err := Uninstall(ctx, s.conf, nothingElse)
		cancel()
		if err == nil || !strings.Contains(err.Error(), "goes by a copy of the network's configuration that has podtap's entry") {
			t.Errorf("%s: error is %v", what, err)
		}
		if _, err := os.Stat(plugin); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	s.conf.Loaded = nil
	s.network("00-multus.conflist", chained)
	copied := make(chan error, 1)
	go func() {
		time.Sleep(500 * time.Millisecond)
		copied <- os.WriteFile(filepath.Join(s.conf.ConfDir, "00-multus.conflist"), []byte(copying(primary)), 0o644)
	}()
	begin := time.Now()
	err := Uninstall(t.Context(), s.conf, nothingElse)
	if took := time.Since(begin); err != nil || took < 400*time.Millisecond {
		t.Errorf("error is %v, after %v", err, took)
	}
	if err := <-copied; err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(plugin); !os.IsNotExist(err) {
		t.Errorf("the plugin is still there: %v", err)
	}
	if s.read("10-pods.conflist") != primary || s.read("00-multus.conflist") != copying(primary) {
		t.Errorf("the configurations are\n%s\n%s", s.read("10-pods.conflist"), s.read("00-multus.conflist"))
	}
}

// Multus has come after podtap, and found the list that podtap had made.
func TestAListThatMultusNamesStaysOneAtTheEnd(t *testing.T) {
	s := newScene(t)
	s.network("10-pods.conf", single)
	_, stop := s.ready()
	stop()
	s.network("00-multus.conf", `{"cniVersion":"1.0.0","name":"multus-cni-network","type":"multus","clusterNetwork":"/etc/cni/net.d/10-pods.conflist"}`)
	if err := Uninstall(t.Context(), s.conf, nothingElse); err != nil {
		t.Fatal(err)
	}
	if got := s.types("10-pods.conflist"); got != "bridge" {
		t.Errorf("the list has %s", got)
	}
}

// Multus calls all of its delegates for each pod, not only the network's.
func TestThePluginStaysWhileAnyDelegateOfMultusCallsIt(t *testing.T) {
	for name, second := range map[string]string{
		"a list":     `{"name":"second","plugins":[{"type":"macvlan"},{"type":"podtap"}]}`,
		"one plugin": `{"name":"second","type":"podtap"}`,
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.network("10-pods.conflist", primary)
			_, stop := s.ready()
			stop()
			s.network("00-multus.conf", copied(primary+","+second))
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if err := Uninstall(ctx, s.conf, nothingElse); err == nil || !strings.Contains(err.Error(), "if Multus is gone, remove its file") {
				t.Errorf("error is %v", err)
			}
			if _, err := os.Stat(filepath.Join(s.conf.BinDir, "podtap")); err != nil {
				t.Error(err)
			}
		})
	}
}

// Multus' installer may start while podtap is taken off, and write a copy of what it had
// read before.
func TestThePluginStaysWhereMultusCopiesAtTheLastMoment(t *testing.T) {
	s := newScene(t)
	s.network("10-pods.conflist", primary)
	_, stop := s.ready()
	stop()
	chained := copying(s.read("10-pods.conflist"))
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := Uninstall(ctx, s.conf, func(context.Context) (bool, error) {
		s.network("00-multus.conflist", chained)
		return false, nil
	})
	if err == nil || !strings.Contains(err.Error(), "goes by a copy of the network's configuration that has podtap's entry") {
		t.Errorf("error is %v", err)
	}
	if _, err := os.Stat(filepath.Join(s.conf.BinDir, "podtap")); err != nil {
		t.Error(err)
	}
}
