package mirror

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/podtap/podtap/internal/lab"
)

// Where the kernel takes no eBPF of podtap's, as it takes none of an ordinary user's, what
// needs it fails with its name, and all else works: copies that are to fit if possible go in
// fragments, and that is told.
func TestWithoutEBPFTheRestWorks(t *testing.T) {
	if lab.Privileged() {
		asOrdinaryUser(t)
		return
	}
	s := newScene(t, 1500, 1500)
	node, p := open(t, s.node, s.pod)
	before := track(t, s.node.Space, s.pod.Space)
	for text, words := range map[string]string{
		"snapLength: 96, veth: {}":                                         "snapLength: not supported: to cut copies takes eBPF: this kernel does not let podtap load eBPF programs",
		"snapLength: 96, vxlan: {vni: 1, remote: COLLECTOR4}":              "snapLength: not supported: to cut copies takes eBPF",
		"vxlan: {vni: 1, remote: COLLECTOR4, oversize: fit}":               "vxlan.oversize: not supported: to make copies fit takes eBPF; use fragment",
		"snapLength: 96, vxlan: {vni: 1, remote: COLLECTOR6}, filter: udp": "snapLength: not supported",
	} {
		if _, err := p.Add(ownerOf("c1"), s.want(t, text, "device: mirror"), ""); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), words) {
			t.Errorf("%s: the error is %v", text, err)
		}
		before.unchanged("after " + text)
	}
	for text, warning := range map[string]string{
		"sampleRate: 2, maxBitrate: 1G, filter: icmp, veth: {}": "",
		variants[1].text: "copies of packets above 1450 bytes go in IP fragments: this kernel does not let podtap load eBPF programs",
		variants[2].text: "copies of packets above 1430 bytes will be lost: over IPv6 the kernel does not fragment VXLAN",
	} {
		want := s.want(t, text, "device: mirror")
		made := add(t, p, ownerOf("c1"), want)
		if told := strings.Join(made.Warnings, "; "); !strings.Contains(told, warning) || warning == "" && told != "" {
			t.Errorf("%s: the warnings are %q", text, made.Warnings)
		}
		s.pod.Ping(s.peer.IPv4, 8)
		healthy(t, p, ownerOf("c1"), want)
		is := only(t, node)
		if is.Trimmed != nil || is.Counters[0].Matched.Packets == 0 && is.Counters[1].Matched.Packets == 0 {
			t.Errorf("%s: it is listed as %+v", text, is)
		}
		changed := want
		changed.Filter = "icmp or icmp6"
		if _, err := p.Change(ownerOf("c1"), want, changed); err != nil {
			t.Errorf("%s: %v", text, err)
		}
		healthy(t, p, ownerOf("c1"), changed)
		changed.SnapLength = 96
		if _, err := p.Change(ownerOf("c1"), want, changed); !errors.Is(err, ErrUnsupported) {
			t.Errorf("%s: to be cut it says %v", text, err)
		}
		healthy(t, p, ownerOf("c1"), want)
		remove(t, p, ownerOf("c1"))
		before.unchanged("after " + text)
	}
}

// asOrdinaryUser runs the test once more, as a user who has no rights on the machine.
func asOrdinaryUser(t *testing.T) {
	t.Helper()
	const nobody = 65534
	dir, err := os.MkdirTemp("", "podtap-ordinary")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	program := filepath.Join(dir, "test")
	if err := errors.Join(copyFile("/proc/self/exe", program), os.Chmod(dir, 0o777), os.Chmod(program, 0o755)); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-test.v", "-test.run", "^"+t.Name()+"$")
	cmd.Dir, cmd.Env = dir, []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TMPDIR=" + dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("as an ordinary user: %v\n%s", err, out)
	}
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
