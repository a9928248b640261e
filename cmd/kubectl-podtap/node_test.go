package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/mirror"
	"github.com/podtap/podtap/pkg/tap"
)

// asCommand is the environment variable with which the test binary is the command.
const asCommand = "PODTAP_TEST_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
		return
	}
	_ = os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	lab.Main(m.Run, false)
}

// scene is a node with a pod, and a collector on the underlay.
type scene struct {
	t         *testing.T
	node      *lab.Host
	collector *lab.Host
	pod       *lab.Pod
	opened    *mirror.Node
}

func newScene(t *testing.T) *scene {
	t.Helper()
	n := lab.NewNetwork(t, "", 1500)
	s := &scene{t: t, node: n.Host("node"), collector: n.Host("collector")}
	s.pod = s.node.Pod("pod", 1430)
	s.node.Do(func() error {
		var err error
		s.opened, err = mirror.OpenNode()
		return err
	})
	t.Cleanup(s.opened.Close)
	lab.Settle(t, s.node.Space, s.pod.Space)
	return s
}

// open opens a pod's namespace.
func (s *scene) open(p *lab.Pod) *mirror.Pod {
	s.t.Helper()
	opened, err := s.opened.OpenPod(p.Path())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(opened.Close)
	return opened
}

const webID = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// add makes taps for a pod, as ADD does; COLLECTOR stands for the collector.
func (s *scene) add(p *lab.Pod, container, pod, text string) []mirror.Made {
	s.t.Helper()
	taps, err := tap.Parse([]byte(strings.ReplaceAll(text, "COLLECTOR", s.collector.IPv4())))
	if err == nil {
		err = tap.Complete(taps, "eth0", func(string) bool { return false })
	}
	if err != nil {
		s.t.Fatal(err)
	}
	var all []mirror.Made
	for _, want := range taps {
		made, err := s.open(p).Add(mirror.Owner{Source: mirror.SourceCNI, Network: "pods", ContainerID: container, IfName: "eth0"}, want, pod)
		if err != nil {
			s.t.Fatal(err)
		}
		all = append(all, made)
	}
	return all
}

// answer is what the command said.
type answer struct {
	t              *testing.T
	stdout, stderr string
	code           int
}

// command runs the command in the node's namespace, in a process of its own.
func (s *scene) command(args ...string) answer {
	s.t.Helper()
	return s.commandIn(nil, args...)
}

func (s *scene) commandIn(attributes *syscall.SysProcAttr, args ...string) answer {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, self, args...)
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr, c.SysProcAttr = &stdout, &stderr, attributes
	c.Env = append(os.Environ(), asCommand+"=1")
	s.node.Do(func() error {
		err = c.Run()
		return nil
	})
	if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || ctx.Err() != nil) {
		s.t.Fatalf("run the command: %v (%v)\nstderr: %s", err, ctx.Err(), &stderr)
	}
	a := answer{s.t, stdout.String(), stderr.String(), c.ProcessState.ExitCode()}
	if bad := steering(a.stdout) + steering(a.stderr); bad != "" {
		s.t.Errorf("the output has something that steers a terminal: %q", bad)
	}
	return a
}

// succeeds fails the test where the command failed, or said something beside.
func (a answer) succeeds() answer {
	a.t.Helper()
	if a.code != 0 || a.stderr != "" {
		a.t.Errorf("exit code %d, standard error %q", a.code, a.stderr)
	}
	return a
}

// list is what `list --node -o json` says, read with fields of this file's own:
// those that a user reads.
func (s *scene) list() listed {
	s.t.Helper()
	a := s.command("list", "--node", "-o", "json").succeeds()
	d := json.NewDecoder(strings.NewReader(a.stdout))
	d.DisallowUnknownFields()
	var l listed
	if err := d.Decode(&l); err != nil {
		s.t.Fatalf("%v in\n%s", err, a.stdout)
	}
	for _, t := range l.Taps {
		for _, c := range t.Directions {
			c.addUp(s.t, t.Device)
		}
	}
	return l
}

type listed struct {
	Taps []struct {
		Pod, Namespace, Name, ContainerID, Network, IfName, NetNS, Device, Interface, Direction, Sink, Placement, Destination string
		Since                                                                                                                 time.Time
		SnapLength                                                                                                            int
		MaxBitrate                                                                                                            uint64
		Directions                                                                                                            []direction
		Cut, Capped, Lost                                                                                                     *amount
		SegmentsAdded                                                                                                         *uint64
	}
	Senders []struct {
		Device, Pod, Destination string
		Taps                     int
		Missing                  bool
		Sent                     *amount
		Dropped                  map[string]amount
	}
}

type direction struct {
	Direction, Unit        string
	PassedOver, SampledOut *amount
	Matched, Copied        amount
	Dropped                map[string]amount
}

type amount struct {
	Packets uint64
	Bytes   *uint64
}

// addUp fails where matched is not the sum of copied and dropped.
func (c direction) addUp(t *testing.T, device string) {
	t.Helper()
	packets, bytes := c.Copied.Packets, c.Copied.Bytes
	for _, d := range c.Dropped {
		packets += d.Packets
		if bytes != nil && d.Bytes != nil {
			sum := *bytes + *d.Bytes
			bytes = &sum
		}
	}
	if packets != c.Matched.Packets || c.Matched.Bytes == nil || bytes != nil && *bytes != *c.Matched.Bytes {
		t.Errorf("%s of %q: matched is not what was copied and dropped: %+v", c.Direction, device, c)
	}
}

// settled is the list, at a moment in which nothing is captured.
func (s *scene) settled(c *lab.Capture) (listed, []lab.Frame) {
	s.t.Helper()
	for range 20 {
		before := len(c.Settle(0))
		l := s.list()
		if after := c.Settle(0); len(after) == before {
			return l, after
		}
	}
	s.t.Fatal("the interface does not come to rest")
	return listed{}, nil
}

// table is the table's cells, by line; a line is empty between two tables. Each
// cell must begin where its column's head does.
func (s *scene) table() (rows [][]string) {
	s.t.Helper()
	out := s.command("list", "--node").succeeds().stdout
	s.t.Logf("\n%s", out)
	var starts []int
	for line := range strings.Lines(out) {
		line = strings.TrimSuffix(line, "\n")
		var cells []string
		at := 0
		for i, cell := range strings.Split(line, "   ") {
			start := at
			at += len(cell) + 3
			if cell == "" {
				continue
			}
			cells = append(cells, strings.TrimLeft(cell, " "))
			start += len(cell) - len(strings.TrimLeft(cell, " "))
			if i == 0 || len(rows) == 0 || len(rows[len(rows)-1]) == 0 {
				continue
			}
			if !strings.Contains(fmt.Sprint(starts), fmt.Sprint(start)) {
				s.t.Errorf("in %q the cell %q begins at %d, not under a head (%v)", line, cell, start, starts)
			}
		}
		if len(rows) == 0 || len(rows[len(rows)-1]) == 0 {
			starts = starts[:0]
			for _, c := range cells {
				starts = append(starts, strings.Index(line, c))
			}
		}
		rows = append(rows, cells)
	}
	return rows
}
