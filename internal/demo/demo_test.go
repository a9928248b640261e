package demo

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/vishvananda/netlink"

	"github.com/podtap/podtap/internal/lab"
)

func TestMain(m *testing.M) { lab.Main(m.Run, true) }

// nothingLeft fails where the demo left namespaces or files.
func nothingLeft(t *testing.T) {
	t.Helper()
	for _, pattern := range []string{"/run/netns/*", "/run/podtap-demo-*", "/run/podtap/lock/*"} {
		left, err := filepath.Glob(pattern)
		if err != nil || len(left) > 0 {
			t.Errorf("left after the demo: %v %v", left, err)
		}
	}
}

func TestTheDemoCopiesEveryPacketAndLeavesNothing(t *testing.T) {
	var out bytes.Buffer
	err := Run(&out, Options{BinDir: lab.Plugins()})
	t.Logf("%s", out.String())
	if err != nil {
		t.Fatal(err)
	}
	nothingLeft(t)
	for _, want := range []string{
		`pod web     podtap.io/taps: '{vxlan: {vni: 100, remote: 198.18.0.3}}'`,
		`"capabilities": {"io.kubernetes.cri.pod-annotations": true}`,
		"podtap's devices: mirror in web",
		"podtap's devices: none in client, none on node2",
		"ICMP echo request seq 1",
		"CHECK web     nothing to object to",
		"no relay, no lock file",
		"all counts right: 206 of 206 packets copied, nothing left",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("not printed: %s", want)
		}
	}
	if strings.Contains(out.String(), "\x1b") {
		t.Error("colours where there is no terminal")
	}
	for _, l := range strings.Split(out.String(), "\n") {
		if utf8.RuneCountInString(l) > 100 {
			t.Errorf("wider than 100 columns: %s", l)
		}
	}
}

func TestTheDemoFailsWhereTheTapsRulesAreGone(t *testing.T) {
	var out bytes.Buffer
	err := Run(&out, Options{BinDir: lab.Plugins(), sabotage: func(web *lab.Space) {
		clsact := &netlink.Clsact{QdiscAttrs: netlink.QdiscAttrs{LinkIndex: web.Link("eth0").Attrs().Index,
			Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT}}
		if err := web.Netlink.QdiscDel(clsact); err != nil {
			t.Errorf("delete the tapped interface's hooks: %v", err)
		}
	}})
	if err == nil {
		t.Fatalf("the demo succeeds without a tap:\n%s", out.String())
	}
	for _, want := range []string{"3 ICMP packets received by the pod, but 0 copies", "100 UDP packets sent by the pod, but 0 copies", "CHECK of the pod web"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
	if !strings.Contains(out.String(), "WRONG: 0 of 206 packets copied") || strings.Contains(out.String(), "all counts right") {
		t.Errorf("the last line is wrong:\n%s", out.String())
	}
	nothingLeft(t)
}

func TestAMissingPluginIsNamedWithWhatToDo(t *testing.T) {
	dir := t.TempDir()
	err := FindPlugins(dir)
	if err == nil || !strings.Contains(err.Error(), filepath.Join(dir, "podtap")) || !strings.Contains(err.Error(), "make build") {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "podtap"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := FindPlugins(dir); err == nil || !strings.Contains(err.Error(), "not an executable file") {
		t.Errorf("%v", err)
	}
}
