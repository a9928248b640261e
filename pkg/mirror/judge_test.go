package mirror

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"

	"github.com/podtap/podtap/internal/lab"
)

// needs skips a test whose judge is not installed, or cannot work.
func needs(t *testing.T, programs ...string) {
	t.Helper()
	if !lab.Privileged() {
		t.Skip("tcpdump gives up its privileges, which takes the machine's own root")
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("%s is not installed; it is the judge of this test", p)
		}
	}
}

// listen starts a program in the collector, waits until it says that it listens,
// and returns a function that waits for its end and has what it printed.
func (s *scene) listen(t *testing.T, ready string, program string, args ...string) func() string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	log := filepath.Join(t.TempDir(), "log")
	f, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(ctx, program, args...)
	c.Stdout, c.Stderr = f, f
	if err := s.collector.NetNS.Do(func(ns.NetNS) error { return c.Start() }); err != nil {
		t.Fatal(err)
	}
	text := func() string { b, _ := os.ReadFile(log); return string(b) }
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(text(), ready); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not listen: %s", program, text())
		}
	}
	return func() string {
		if err := c.Wait(); err != nil {
			t.Errorf("%s: %v\n%s", program, err, text())
		}
		return text()
	}
}

// The commands of the README's receiver, as printed there.
func TestTheReadmesReceiverShowsTheCopies(t *testing.T) {
	needs(t, "ip", "tcpdump")
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, block, found := strings.Cut(string(text), "<!-- receiver -->\n```sh\n")
	block, _, _ = strings.Cut(block, "```")
	lines := strings.Split(strings.TrimSpace(block), "\n")
	if !found || len(lines) < 2 {
		t.Fatalf("the README has no receiver: %q", block)
	}
	s := newScene(t, 1450, 1500)
	_, p := open(t, s.node, s.pod)
	for _, line := range lines[:len(lines)-1] {
		s.collector.Run("sh", "-c", line)
	}
	printed := s.listen(t, "listening on", "sh", "-c", "exec "+lines[len(lines)-1]+" -l -c 6 icmp")
	add(t, p, ownerOf("c1"), s.want(t, variants[1].text, "direction: both"))
	s.pod.Ping(s.peer.IPv4, 3)
	out := printed()
	for _, want := range []string{"IP " + s.pod.IPv4 + " > " + s.peer.IPv4 + ": ICMP echo request", "IP " + s.peer.IPv4 + " > " + s.pod.IPv4 + ": ICMP echo reply"} {
		if n := strings.Count(out, want); n != 3 {
			t.Errorf("%q is shown %d times:\n%s", want, n, out)
		}
	}
}

// tshark takes the outer packets apart, checksums included.
func TestTsharkFindsNothingWrongWithTheOuterPackets(t *testing.T) {
	needs(t, "tcpdump", "tshark")
	s := newScene(t, 1450, 1500)
	_, p := open(t, s.node, s.pod)
	for _, v := range variants[1:] {
		t.Run(v.name, func(t *testing.T) {
			want := s.want(t, v.text, "direction: both")
			file := filepath.Join(t.TempDir(), "outer.pcap")
			// UDP port 4789 with ICMP over IPv4 inside, counted from the outer IP
			// header's end: UDP and VXLAN have 8 bytes each, Ethernet 14.
			filter := "udp port 4789 and ip[20+28:2] = 0x0800 and ip[20+39] = 1"
			if want.VXLAN.Remote.Is6() {
				filter = "udp port 4789 and ip6[40+28:2] = 0x0800 and ip6[40+39] = 1"
			}
			done := s.listen(t, "listening on", "tcpdump", "-ni", "eth0", "-c", "6", "-w", file, "-U", filter)
			defer s.collector.Collect("[::]:4789").Stop()
			add(t, p, ownerOf("c1"), want)
			s.pod.Ping(s.peer.IPv4, 3)
			done()
			out, err := exec.Command("tshark", "-r", file, "-T", "fields", "-E", "separator=,", "-o", "ip.check_checksum:TRUE",
				"-e", "vxlan.vni", "-e", "vxlan.flags", "-e", "udp.dstport", "-e", "icmp.type", "-e", "icmp.checksum.status", "-e", "ip.ttl", "-e", "ipv6.hlim").Output()
			if err != nil {
				t.Fatal(err)
			}
			requests, replies := strings.Count(string(out), "100,0x0800,4789,8,1,"), strings.Count(string(out), "100,0x0800,4789,0,1,")
			if requests != 3 || replies != 3 {
				t.Errorf("tshark sees %d requests and %d replies:\n%s", requests, replies, out)
			}
			remove(t, p, ownerOf("c1"))
		})
	}
}
