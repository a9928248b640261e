package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/mirror"
)

// crashScene is a scene for verbs that are killed. Beside the pod that it happens
// to there is a neighbour, whose tap goes through the same relay where the pod's
// does, and on the pod itself a tap of another network.
type crashScene struct {
	*scene
	neighbour *lab.Pod
	taps      crashTaps
	// alone is the node without the pod.
	alone snapshot
	// bareNode and barePod have no taps of the pod's network; neighbours is the
	// neighbour's namespace.
	bareNode, barePod, neighbours snapshot
	// tappedNode and tappedPod are as an undisturbed ADD leaves them.
	tappedNode, tappedPod snapshot
}

// crashTaps are the taps of the network that is worked on.
type crashTaps struct {
	name, taps string
	// beside is the interface that the other network's tap is on: where it is
	// another than eth0, eth0 has neither clsact nor a queue length.
	beside string
	steps  [3]int // the fewest that are plausible for ADD, DEL and GC
}

const crashNeighbour = `[{"device":"near","veth":{}},{"device":"far","vxlan":{"vni":100,"remote":"198.18.0.200"}}]`

// newCrashScene makes a scene. The prefix is of the names of its namespaces.
func newCrashScene(t *testing.T, prefix string, taps crashTaps) *crashScene {
	t.Helper()
	c := &crashScene{scene: &scene{t: t}, taps: taps}
	c.node = lab.NewNetwork(t, prefix, 1500).Host("node")
	c.neighbour = c.node.Pod("neighbour", 1450)
	c.callFor(c.neighbourAttachment(), "ADD", c.confOf(c.neighbour, "net", crashNeighbour)).succeeds()
	lab.Settle(t, c.node.Space, c.neighbour.Space)
	c.neighbours, c.alone = snap(t, c.neighbour.Space), snap(t, c.node.Space)
	c.makePod()
	c.call("ADD", c.conf()).succeeds()
	c.call("CHECK", c.conf()).silent()
	c.tappedNode, c.tappedPod = named(t, c.node.Space), named(t, c.pod.Space)
	c.call("DEL", c.conf()).silent()
	if problems := c.asBefore(); problems != "" {
		t.Fatalf("an undisturbed DEL: %s", problems)
	}
	return c
}

// makePod makes the pod, which may have gone, with the other network's tap.
func (c *crashScene) makePod() {
	c.t.Helper()
	s := lab.NewSpace(c.t, "crash-pod")
	c.pod = &lab.Pod{Space: s, IPv4: "198.18.101.99", IPv6: "fd00:18:1::99", Host: c.node}
	lab.Cable(c.node.Space, "crash0", s, "eth0", 1450)
	lab.Cable(c.node.Space, "crash1", s, "net1", 1450)
	c.node.Enslave("crash0", "cni0")
	s.Address("eth0", c.pod.IPv4+"/24", c.pod.IPv6+"/64")
	s.Route("", "198.18.101.1")
	s.Route("", "fd00:18:1::1")
	if c.taps.beside != "eth0" {
		if err := s.Netlink.LinkSetTxQLen(s.Link("eth0"), 0); err != nil {
			c.t.Fatal(err)
		}
	}
	other := fmt.Sprintf(`[{"device":"other","interface":%q,"veth":{}}]`, c.taps.beside)
	a := c.attachment()
	a.IfName = "net1"
	c.callFor(a, "ADD", c.confOf(c.pod, "other", other)).succeeds()
	c.bareNode, c.barePod = snap(c.t, c.node.Space), snap(c.t, s)
}

// destroy ends the scene's machines before its test does.
func (c *crashScene) destroy() {
	for _, s := range []*lab.Space{c.pod.Space, c.neighbour.Space, c.node.Space} {
		s.Destroy()
	}
}

func (c *crashScene) neighbourAttachment() attachment {
	return attachment{ID: "neighbour", NetNS: c.neighbour.Path(), IfName: "eth0", Namespace: "default", Pod: "db"}
}

func (c *crashScene) confOf(p *lab.Pod, network, taps string) conf {
	return conf{"cniVersion": newest, "name": network, "type": "podtap", "prevResult": prevResult(newest, p), "taps": json.RawMessage(taps)}
}

func (c *crashScene) conf() conf { return c.confOf(c.pod, "net", c.taps.taps) }

// confFor is what a verb is called with. For GC the neighbour is valid, and the
// pod is not.
func (c *crashScene) confFor(verb string) conf {
	if verb != "GC" {
		return c.conf()
	}
	return conf{"cniVersion": newest, "name": "net", "type": "podtap",
		"cni.dev/valid-attachments": []any{map[string]string{"containerID": "neighbour", "ifname": "eth0"}}}
}

// kill runs a verb and kills it before its n-th step.
func (c *crashScene) kill(verb string, n int) (killed bool, step string) {
	c.t.Helper()
	self, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	command := exec.Command(self)
	command.Stdin, command.Stdout, command.Stderr = strings.NewReader(c.confFor(verb).text(c.t)), &stdout, &stderr
	command.Env = append(os.Environ(), c.attachment().environment(verb)...)
	c.node.Do(func() error {
		killed, step, err = lab.KillAt(command, n)
		return nil
	})
	if errors.Is(err, lab.ErrNoTrace) {
		c.t.Skip(err)
	}
	if err != nil {
		c.t.Fatalf("%s, to be killed before step %d: %v\n%s%s", verb, n, err, stdout.String(), stderr.String())
	}
	return killed, step
}

// sweep removes the dead pod's taps in this process, as an agent of the node would.
func (c *crashScene) sweep() (err error) {
	c.t.Helper()
	c.node.Do(func() error {
		var node *mirror.Node
		if node, err = mirror.OpenNode(); err != nil {
			return nil
		}
		defer node.Close()
		a := c.attachment()
		_, err = node.Sweep(func(t mirror.Trace) bool {
			return t.Owner == mirror.Owner{Source: mirror.SourceCNI, Network: "net", ContainerID: a.ID, IfName: a.IfName}
		})
		return nil
	})
	return err
}

// bystanders says what a kill has done to what is not the pod's network's.
func (c *crashScene) bystanders() string {
	c.t.Helper()
	var out []string
	for _, at := range []struct {
		before snapshot
		space  *lab.Space
	}{{c.bareNode, c.node.Space}, {c.barePod, c.pod.Space}} {
		for _, line := range lab.Changes(at.before, snap(c.t, at.space)) {
			// More may be there; and while eth0's clsact is made, its queue has a length.
			if strings.HasPrefix(line, "- ") && !strings.HasPrefix(line, "- device eth0 ") {
				out = append(out, at.space.Name+": "+line)
			}
		}
	}
	return strings.Join(out, "\n")
}

// asBefore says in what the namespaces differ from those without taps.
func (c *crashScene) asBefore() string {
	c.t.Helper()
	return differences(c.node.Name, c.bareNode, snap(c.t, c.node.Space)) + differences(c.pod.Name, c.barePod, snap(c.t, c.pod.Space)) + c.neighbourAsBefore()
}

// asTapped says in what they differ from those that an undisturbed ADD leaves.
func (c *crashScene) asTapped() string {
	c.t.Helper()
	return differences(c.node.Name, c.tappedNode, named(c.t, c.node.Space)) + differences(c.pod.Name, c.tappedPod, named(c.t, c.pod.Space)) +
		c.bystanders() + c.neighbourAsBefore()
}

// asAlone says in what the node differs from one without the pod. The kernel ends
// a namespace's devices some time after the namespace.
func (c *crashScene) asAlone() (out string) {
	c.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if out = differences(c.node.Name, c.alone, snap(c.t, c.node.Space)); out == "" {
			break
		}
	}
	return out + c.neighbourAsBefore()
}

func (c *crashScene) neighbourAsBefore() string {
	return differences(c.neighbour.Name, c.neighbours, snap(c.t, c.neighbour.Space))
}

func differences(where string, before, after snapshot) string {
	changes := lab.Changes(before, after)
	if len(changes) == 0 {
		return ""
	}
	return where + ":\n\t" + strings.Join(changes, "\n\t") + "\n"
}

// lockRemains says what is wrong with the locks that are left: none may be held,
// and none of a pod whose lock was taken again may be there at all.
func (c *crashScene) lockRemains(taken bool) (out string) {
	c.t.Helper()
	for _, path := range lab.Locks(c.t) {
		f, err := os.Open(path)
		if err != nil {
			c.t.Fatal(err)
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			out += fmt.Sprintf("the lock %s: %v\n", path, err)
		}
		_ = f.Close()
		if taken && strings.Contains(path, "/pod-") {
			out += fmt.Sprintf("the lock %s is left\n", path)
		}
	}
	return out
}

// What differs between two ADDs of the same taps is when they are made, and the
// indexes of devices and of actions. An action's parameters begin with its index (tc_gen
// and tc_police of linux/pkt_cls.h), and mirred's, which have 28 bytes, end with the
// device's.
var (
	actionOptions = regexp.MustCompile(`(2\.[17]\.\d\.2:\w+\.[12]=)[0-9a-f]{8}([0-9a-f]*)`)
	madeAt        = regexp.MustCompile(` at=\d+`)
	// A program that trims copies has its relay's index in it, which its tag (10) and the end
	// of its name (7) tell: "relay=", in hexadecimal digits.
	trims    = regexp.MustCompile(`(bpf\.2\.7=[0-9a-f]*72656c61793d)[0-9a-f]*( .*bpf\.2\.10=)[0-9a-f]*`)
	onDevice = regexp.MustCompile(`^(address \S+ on|qdisc \S+ on|route {Ifindex:) (\d+)`)
)

// mirredRest is the length of mirred's options without the action's index, in
// hexadecimal digits.
const mirredRest = 48

// named is a snapshot with names in the place of devices' indexes, and without
// what differs otherwise.
func named(t *testing.T, s *lab.Space) snapshot {
	t.Helper()
	links, err := s.Netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	byIndex, byHex := map[string]string{}, map[string]string{}
	for _, l := range links {
		byIndex[fmt.Sprint(l.Attrs().Index)] = l.Attrs().Name
		var b [4]byte
		binary.NativeEndian.PutUint32(b[:], uint32(l.Attrs().Index))
		byHex[fmt.Sprintf("%x", b)] = l.Attrs().Name
	}
	lines := snap(t, s)
	for i, line := range lines {
		line = trims.ReplaceAllString(madeAt.ReplaceAllString(line, ""), "$1$2")
		if m := onDevice.FindStringSubmatch(line); m != nil {
			line = m[1] + " " + byIndex[m[2]] + line[len(m[0]):]
		}
		lines[i] = actionOptions.ReplaceAllStringFunc(line, func(s string) string {
			m := actionOptions.FindStringSubmatch(s)
			if len(m[2]) == mirredRest {
				return m[1] + m[2][:mirredRest-8] + " to " + byHex[m[2][mirredRest-8:]]
			}
			return m[1] + m[2]
		})
	}
	return lines
}
