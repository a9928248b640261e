//go:build e2e

package e2e

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// collector receives copies on a node, as users do: a VXLAN device, and tcpdump.
type collector struct {
	t          *testing.T
	file       string
	process    *exec.Cmd
	statistics chan string // what tcpdump says at its end
	stopped    bool
}

// apart is a machine of the nodes' network that is no node, and its address. (On a
// node, nobody there may send into the VXLAN device: it is the node's own.)
const (
	apart        = "collector"
	apartAddress = "198.18.0.100"
)

// settled is when whatever would be too much has come: tcpdump is handed packets once a
// second.
const settled = 2 * time.Second

// makeApart makes that machine; it ends with the tests. It has the same MAC each time: the
// nodes would send copies to that of the last run's for some seconds.
func makeApart() (remove func(), err error) {
	name := networkOf(apart)
	remove = func() {
		_ = exec.Command("ip", "link", "del", cluster+"collector").Run() // for a namespace ends some time later
		_ = exec.Command("ip", "netns", "del", name).Run()
	}
	remove() // what tests that were killed have left
	for _, args := range [][]string{
		{"netns", "add", name},
		{"link", "add", cluster + "collector", "type", "veth", "peer", "name", "eth0", "address", "02:00:c6:12:00:64", "netns", name},
		{"link", "set", cluster + "collector", "master", cluster + "br0", "up"},
		{"-n", name, "addr", "add", apartAddress + "/24", "dev", "eth0"},
		{"-n", name, "link", "set", "eth0", "up"},
	} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			return remove, fmt.Errorf("ip %s: %w %s", strings.Join(args, " "), err, out)
		}
	}
	return remove, nil
}

// networkOf is a node's network, as the host knows it.
func networkOf(node string) string { return cluster + "-" + node }

// collect starts a collector for a VNI on a node; more is for its VXLAN device.
func collect(t *testing.T, node string, vni int, more ...string) *collector {
	t.Helper()
	device := fmt.Sprintf("copies%d", vni)
	ip := func(args ...string) {
		t.Helper()
		if out, err := exec.Command("ip", append([]string{"-n", networkOf(node)}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v %s", strings.Join(args, " "), err, out)
		}
	}
	ip(append([]string{"link", "add", device, "type", "vxlan", "id", fmt.Sprint(vni), "dstport", "4789"}, more...)...)
	t.Cleanup(func() { _ = exec.Command("ip", "-n", networkOf(node), "link", "del", device).Run() })
	ip("link", "set", device, "arp", "off", "mtu", "65000", "up")
	// As docs/collect.md says: while one CPU waits between two fragments, another may send
	// more than 64 of others.
	if out, err := exec.Command("ip", "netns", "exec", networkOf(node), "sh", "-c", "echo 0 >/proc/sys/net/ipv4/ipfrag_max_dist").CombinedOutput(); err != nil {
		t.Fatalf("ipfrag_max_dist: %v %s", err, out)
	}
	c := &collector{t: t, file: filepath.Join(t.TempDir(), "copies.pcap"), statistics: make(chan string, 1)}
	// No --immediate-mode: with it each packet takes a slot of the device's MTU, and 16 MiB
	// have 256 of these.
	c.process = exec.Command("ip", "netns", "exec", networkOf(node), "tcpdump", "-i", device, "-U", "-B", "16384", "-w", c.file)
	c.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	complaint, err := c.process.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.stop)
	output := bufio.NewReader(complaint)
	line, err := output.ReadString('\n')
	go func() {
		rest, _ := io.ReadAll(output)
		c.statistics <- string(rest)
	}()
	if err != nil || !strings.Contains(line, "listening on") {
		t.Fatalf("tcpdump: %v %s", err, line)
	}
	return c
}

// stop ends tcpdump, which must have had room for every copy: what it dropped would look
// as if podtap had.
func (c *collector) stop() {
	if c.stopped {
		return
	}
	c.stopped = true
	_ = c.process.Process.Signal(os.Interrupt)
	late := time.AfterFunc(10*time.Second, func() { _ = c.process.Process.Kill() })
	statistics := <-c.statistics
	late.Stop()
	_ = c.process.Wait()
	if !strings.Contains(statistics, "\n0 packets dropped by kernel") {
		c.t.Errorf("the collector's tcpdump lost copies itself: %s", statistics)
	}
}

// flow is one direction of a conversation.
type flow struct {
	protocol string // tcp or udp
	from, to netip.AddrPort
}

// seen is what has arrived of a flow.
type seen struct {
	packets  int
	payload  int // bytes; of TCP each byte once, in whichever order they came
	syn, fin bool
	segments [][2]uint32 // of TCP: from and to which sequence number there are bytes
}

// covered is how many bytes some segments have, each counted once.
func covered(segments [][2]uint32) int {
	slices.SortFunc(segments, func(a, b [2]uint32) int { return cmp.Or(int(int32(a[0]-b[0])), int(int32(a[1]-b[1]))) })
	total, end := 0, uint32(0)
	for i, s := range segments {
		from := s[0]
		if i > 0 && int32(end-from) > 0 {
			from = end
		}
		if i == 0 || int32(s[1]-end) > 0 {
			total += max(0, int(int32(s[1]-from)))
			end = s[1]
		}
	}
	return total
}

// flows are what the collector has so far.
func (c *collector) flows() map[flow]*seen {
	c.t.Helper()
	f, err := os.Open(c.file)
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	all := map[flow]*seen{}
	r, err := pcapgo.NewReader(f)
	if errors.Is(err, io.EOF) {
		return all
	}
	if err != nil {
		c.t.Fatal(err)
	}
	for {
		data, _, err := r.ReadPacketData()
		if err != nil { // the end, or a packet that is just being written
			return all
		}
		note(all, gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.Default))
	}
}

func note(all map[flow]*seen, p gopacket.Packet) {
	if p.NetworkLayer() == nil || p.TransportLayer() == nil {
		return
	}
	from, _ := netip.AddrFromSlice(p.NetworkLayer().NetworkFlow().Src().Raw())
	to, _ := netip.AddrFromSlice(p.NetworkLayer().NetworkFlow().Dst().Raw())
	switch l := p.TransportLayer().(type) {
	case *layers.UDP:
		k := flow{"udp", netip.AddrPortFrom(from, uint16(l.SrcPort)), netip.AddrPortFrom(to, uint16(l.DstPort))}
		if all[k] == nil {
			all[k] = &seen{}
		}
		all[k].packets++
		all[k].payload += len(l.Payload)
	case *layers.TCP:
		k := flow{"tcp", netip.AddrPortFrom(from, uint16(l.SrcPort)), netip.AddrPortFrom(to, uint16(l.DstPort))}
		s := all[k]
		if s == nil {
			s = &seen{}
			all[k] = s
		}
		s.packets++
		s.syn, s.fin = s.syn || l.SYN, s.fin || l.FIN
		if len(l.Payload) > 0 {
			s.segments = append(s.segments, [2]uint32{l.Seq, l.Seq + uint32(len(l.Payload))})
		}
	}
}

// sum of the flows between a pod and a port, by protocol and direction.
func (c *collector) sum(protocol string, is func(flow) bool) seen {
	c.t.Helper()
	total := seen{syn: true, fin: true}
	for f, s := range c.flows() {
		if f.protocol == protocol && is(f) {
			total.packets += s.packets
			total.payload += s.payload + covered(s.segments)
			total.syn, total.fin = total.syn && s.syn, total.fin && s.fin
		}
	}
	return total
}

// counts insists that exactly so many datagrams have come from and to an address.
func (c *collector) counts(what string, address netip.Addr, sent, received int) {
	c.t.Helper()
	count := func() (int, int) {
		return c.sum("udp", func(f flow) bool { return f.from.Addr() == address }).packets, c.sum("udp", func(f flow) bool { return f.to.Addr() == address }).packets
	}
	eventually(c.t, patience, what+" arrives", func() error {
		if out, in := count(); out < sent || in < received {
			return fmt.Errorf("%d sent and %d received of %d and %d", out, in, sent, received)
		}
		return nil
	})
	time.Sleep(settled)
	if out, in := count(); out != sent || in != received {
		c.t.Errorf("%s: %d copies of what was sent and %d of what was received, want %d and %d", what, out, in, sent, received)
	}
}
