package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

var crashCases = []crashTaps{
	{"three taps", `[{"device":"tap0","direction":"ingress","veth":{}},{"device":"tap1","vxlan":{"vni":102,"remote":"198.18.0.201"}},
		{"device":"tap2","wire":{"addresses":["198.19.0.2/30"],"hostAddresses":["198.19.0.1/30"]}}]`, "net1", [3]int{40, 8, 8}},
	{"vxlan on the node", `[{"device":"tap0","vxlan":{"vni":100,"remote":"198.18.0.200"}}]`, "eth0", [3]int{15, 5, 5}},
	{"one that takes less", `[{"device":"tap0","filter":"udp","sampleRate":4,"snapLength":96,"maxBitrate":"1G","vxlan":{"vni":100,"remote":"198.18.0.200"}}]`, "net1", [3]int{20, 5, 5}},
	{"veth", `[{"device":"tap0","veth":{}}]`, "net1", [3]int{12, 4, 4}},
	{"vxlan in the pod", `[{"device":"tap0","filter":"tcp port 443","vxlan":{"vni":101,"remote":"fd00:18::200","placement":"pod","oversize":"fragment"}}]`, "net1", [3]int{12, 4, 4}},
	{"wire", `[{"device":"tap0","wire":{"addresses":["198.19.0.2/30","fd00:19::2/64"],"hostAddresses":["198.19.0.1/30","fd00:19::1/64"]}}]`, "net1", [3]int{12, 3, 3}},
}

// shortCrash are the taps that a short test goes through.
const shortCrash = "vxlan on the node"

// crashVerbs are those that are killed. DEL and GC begin with a tapped pod.
var crashVerbs = []string{"ADD", "DEL", "GC"}

// recovery is what comes after a killed verb. It says what is not as it must be.
type recovery struct {
	name string
	do   func(*crashScene) string
}

var recoveries = []recovery{
	{"ADD", func(c *crashScene) string {
		if problem := c.again("ADD") + c.asTapped(); problem != "" {
			return problem
		}
		return c.again("CHECK") + c.again("DEL") + c.asBefore() + c.lockRemains(true)
	}},
	{"DEL", func(c *crashScene) string { return c.again("DEL") + c.asBefore() + c.lockRemains(true) }},
	{"GC", func(c *crashScene) string { return c.again("GC") + c.asBefore() + c.lockRemains(false) }},
	{"sweep", func(c *crashScene) string {
		if err := c.sweep(); err != nil {
			return err.Error()
		}
		return c.asBefore() + c.lockRemains(false)
	}},
	{"the namespace's end, DEL", func(c *crashScene) string { return c.withoutPod(c.pod.Path()) }},
	{"the namespace's end, DEL without CNI_NETNS", func(c *crashScene) string { return c.withoutPod("") }},
}

// again calls a verb, and says if it fails or takes long: a lock of the killed one
// would hold it up.
func (c *crashScene) again(verb string) string {
	c.t.Helper()
	return c.againAt(verb, c.pod.Path(), c.confFor(verb))
}

func (c *crashScene) againAt(verb, netns string, configuration conf) string {
	c.t.Helper()
	a := c.attachment()
	a.NetNS = netns
	begin := time.Now()
	got := c.callFor(a, verb, configuration)
	switch took := time.Since(begin); {
	case got.failed != nil:
		return fmt.Sprintf("%s failed: %s\n", verb, got.failed.Msg)
	case took > 10*time.Second:
		return fmt.Sprintf("%s took %v\n", verb, took)
	}
	return ""
}

// withoutPod ends the pod, deletes it, and makes a new one for the next turn.
func (c *crashScene) withoutPod(netns string) string {
	c.t.Helper()
	configuration := c.conf()
	c.pod.Destroy()
	problem := c.againAt("DEL", netns, configuration) + c.asAlone() + c.lockRemains(true)
	if problem == "" {
		c.makePod()
	}
	return problem
}

// ownLab is the environment variable that says that the test runs in a process and
// namespaces of its own.
const ownLab = "PODTAP_TEST_OWN_LAB"

// A runtime may kill podtap at any time, and so may the kernel where memory is
// short. Whatever a verb had done by then, the next one makes good, and nobody
// else's taps notice. No step is passed over: each system call that changes
// something is one.
func TestAVerbKilledAtAnyStepIsMadeGoodByTheNext(t *testing.T) {
	for _, taps := range crashCases {
		for i, verb := range crashVerbs {
			t.Run(taps.name+"/"+verb, func(t *testing.T) {
				if testing.Short() && taps.name != shortCrash {
					t.Skipf("-short: only the taps %q are killed at each step", shortCrash)
				}
				if os.Getenv(ownLab) == "" {
					t.Parallel()
					inOwnLab(t)
					return
				}
				killAtEachStep(t, taps, verb, taps.steps[i])
			})
		}
	}
}

// inOwnLab runs a test in a process and namespaces of its own, so that several can
// work at once although names and locks are the same.
func inOwnLab(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var parts []string
	for _, part := range strings.Split(t.Name(), "/") {
		parts = append(parts, "^"+part+"$")
	}
	c := exec.CommandContext(ctx, self, "-test.v", "-test.timeout=9m", fmt.Sprintf("-test.short=%t", testing.Short()), "-test.run="+strings.Join(parts, "/"))
	c.Env = append(os.Environ(), ownLab+"=1")
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS}
	out, err := c.CombinedOutput()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		t.Errorf("in a process of its own: %v\n%s", err, out)
	case err != nil:
		t.Fatal(err)
	case bytes.Contains(out, []byte("--- SKIP")):
		t.Skipf("%s", out)
	case !bytes.Contains(out, []byte("--- PASS: "+t.Name()+" (")):
		t.Errorf("it has not run in a process of its own:\n%s", out)
	default:
		t.Logf("%s", out)
	}
}

func killAtEachStep(t *testing.T, taps crashTaps, verb string, fewest int) {
	t.Helper()
	c := newCrashScene(t, "", taps)
	begin, failures := time.Now(), 0
	after := recoveries
	if testing.Short() {
		after = recoveries[:1]
		t.Logf("-short: only the recovery %s of %d", after[0].name, len(recoveries))
	}
	for _, r := range after {
		steps, failed := 0, 0
		for n, killed := 1, true; killed; n++ {
			var step, problem string
			if killed, step, problem = c.killAt(verb, n, r); killed {
				steps = n
			} else {
				step = "none"
			}
			if problem != "" {
				failed++
				t.Errorf("%s killed before step %d (%s), then %s:\n%s", verb, n, step, r.name, problem)
				failures++
				c.destroy()
				c = newCrashScene(t, fmt.Sprintf("scene%d-", failures), taps)
			}
		}
		if steps < fewest {
			t.Errorf("%s has %d steps, which is hard to believe", verb, steps)
		}
		t.Logf("%s killed before each of %d steps, then %s: %d failures", verb, steps, r.name, failed)
	}
	t.Logf("%v in all", time.Since(begin).Round(time.Second))
}

// killAt kills a verb at one step and recovers.
func (c *crashScene) killAt(verb string, n int, r recovery) (killed bool, step, problem string) {
	c.t.Helper()
	// So the making of the directory is among the steps.
	if err := os.RemoveAll(filepath.Dir(lockDirectory)); err != nil {
		c.t.Fatal(err)
	}
	if verb != "ADD" {
		c.call("ADD", c.conf()).succeeds()
	}
	killed, step = c.kill(verb, n)
	if problem = c.bystanders(); problem != "" {
		problem = "at once, of others:\n" + problem + "\n"
	}
	return killed, step, problem + r.do(c)
}

// lockDirectory is where the locks are.
const lockDirectory = "/run/podtap/lock"
