package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/plugins/pkg/ns"

	"github.com/podtap/podtap/internal/lab"
)

// crowdPatience bounds one verb where fifty want the kernel's only lock for all
// networks at once; it is longer than podtap waits for a lock of its own.
const crowdPatience = 75 * time.Second

// process is a verb whose process is there and waits for its configuration: what
// is let go together is at work together, whatever the start of a process costs.
type process struct {
	what, verb     string
	command        *exec.Cmd
	cancel         context.CancelFunc
	stdin          io.WriteCloser
	text           string
	stdout, stderr bytes.Buffer
}

// start starts a verb's process. It may be called from any goroutine.
func (s *scene) start(a attachment, verb string, c conf) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), crowdPatience)
	p := &process{what: verb + " of " + a.ID, verb: verb, command: exec.CommandContext(ctx, self), cancel: cancel, text: string(text)}
	p.command.Env = append(os.Environ(), a.environment(verb)...)
	p.command.Stdout, p.command.Stderr = &p.stdout, &p.stderr
	if p.stdin, err = p.command.StdinPipe(); err == nil {
		err = s.node.NetNS.Do(func(ns.NetNS) error { return p.command.Start() })
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("start %s: %w", p.what, err)
	}
	return p, nil
}

// finish lets the process go and waits for its end. The error of a verb that
// failed wraps the plugin's *types.Error. A DEL that succeeds although it could
// not remove everything says so on standard error, which is an error here.
func (p *process) finish() error {
	defer p.cancel()
	_, err := io.WriteString(p.stdin, p.text)
	err = errors.Join(err, p.stdin.Close(), p.command.Wait())
	said := fmt.Sprintf("\nstdout: %s\nstderr: %s", p.stdout.String(), p.stderr.String())
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		failed := &types.Error{}
		if json.Unmarshal(p.stdout.Bytes(), failed) == nil {
			return fmt.Errorf("%s failed with code %d: %w%s", p.what, failed.Code, failed, said)
		}
	}
	if err != nil {
		return fmt.Errorf("%s: %w%s", p.what, err, said)
	}
	if p.verb != "ADD" && p.stdout.Len() > 0 || p.verb == "DEL" && p.stderr.Len() > 0 {
		return fmt.Errorf("%s was not silent%s", p.what, said)
	}
	return nil
}

// run is start and finish.
func (s *scene) run(a attachment, verb string, c conf) error {
	p, err := s.start(a, verb, c)
	if err != nil {
		return err
	}
	return p.finish()
}

// crowd is how many pods there are on one node, and relays the number of the
// collectors that they share.
const crowd, relays = 50, 5

// member is one pod of a crowd.
type member struct {
	*lab.Pod
	attachment
	conf   conf
	before snapshot
}

func newCrowd(t *testing.T) (s *scene, members []*member, asBefore func(when string)) {
	t.Helper()
	s = &scene{t: t, node: lab.NewNetwork(t, "", 1500).Host("node")}
	pods := crowd
	if testing.Short() { // a slow machine does not get fifty through a lock in podtap's 30 s
		pods = crowd / 5
		t.Logf("-short: %d pods, not %d", pods, crowd)
	}
	for i := range pods {
		m := &member{Pod: s.node.Pod(fmt.Sprintf("pod%d", i), 1450)}
		m.attachment = attachment{ID: fmt.Sprintf("container%d", i), NetNS: m.Path(), IfName: "eth0", Namespace: "default", Pod: m.Name}
		m.conf = conf{"cniVersion": newest, "name": "net", "type": "podtap", "prevResult": prevResult(newest, m.Pod),
			"taps": json.RawMessage(fmt.Sprintf(`[{"device":"near","veth":{}},{"device":"far","vxlan":{"vni":%d,"remote":"198.18.0.%d"}}]`,
				100+i%relays, 200+i%relays))}
		members = append(members, m)
	}
	for _, m := range members {
		m.before = snap(t, m.Space)
	}
	node := snap(t, s.node.Space)
	return s, members, func(when string) {
		t.Helper()
		problem := left(t, s.node.Space, node)
		for _, m := range members {
			problem += left(t, m.Space, m.before)
		}
		if problem != "" {
			t.Errorf("%s, not all is as it was before the first ADD:\n%s", when, problem)
		}
		locksFree(t)
	}
}

// together runs a verb for all members at once.
func together(s *scene, members []*member, verb string) {
	s.t.Helper()
	var processes []*process
	for _, m := range members {
		p, err := s.start(m.attachment, verb, m.conf)
		if err != nil {
			s.t.Error(err)
			continue
		}
		processes = append(processes, p)
	}
	begin := time.Now()
	var wait sync.WaitGroup
	for _, p := range processes {
		wait.Go(func() {
			if err := p.finish(); err != nil {
				s.t.Error(err)
			}
		})
	}
	wait.Wait()
	s.t.Logf("%d processes of %s ended within %v", len(processes), verb, time.Since(begin).Round(time.Millisecond))
}

func TestFiftyPodsAtOnceGetTheirTapsAndLoseThem(t *testing.T) {
	s, members, asBefore := newCrowd(t)
	together(s, members, "ADD")
	if n := snap(t, s.node.Space).count(`alias "podtap/1 relay `); n != relays {
		t.Errorf("the node has %d relays for %d collectors", n, relays)
	}
	together(s, members, "CHECK")
	together(s, members, "DEL")
	asBefore("after DEL of all")
}

// Relays come and go while others are about to use them.
func TestFiftyPodsThatComeAndGoDoNotDisturbEachOther(t *testing.T) {
	s, members, asBefore := newCrowd(t)
	var wait sync.WaitGroup
	for _, m := range members {
		wait.Go(func() {
			for _, verb := range []string{"ADD", "CHECK", "DEL", "ADD", "DEL"} {
				if err := s.run(m.attachment, verb, m.conf); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	asBefore("after the last DEL")
}

// race is two verbs of one pod that are called at the same time, as when a runtime
// is restarted in the middle of one, or repeats it.
type race struct {
	name   string
	verbs  [2]string
	valid  bool // GC knows of the pod
	tapped bool // the pod is tapped already
	rounds int
	// ends are the states that the pod may be in.
	ends []string
}

const (
	whole   = "the taps are whole"
	nothing = "there is nothing"
)

var races = []race{
	{"ADD and DEL", [2]string{"ADD", "DEL"}, true, false, 25, []string{whole, nothing}},
	{"ADD again and DEL", [2]string{"ADD", "DEL"}, true, true, 15, []string{whole, nothing}},
	{"ADD and ADD", [2]string{"ADD", "ADD"}, true, false, 12, []string{whole}},
	{"DEL and DEL", [2]string{"DEL", "DEL"}, true, true, 12, []string{nothing}},
	{"ADD and GC that knows of the pod", [2]string{"ADD", "GC"}, true, false, 12, []string{whole}},
	{"CHECK and GC that knows of the pod", [2]string{"CHECK", "GC"}, true, true, 6, []string{whole}},
	{"DEL and GC", [2]string{"DEL", "GC"}, false, true, 12, []string{nothing}},
	{"ADD and GC that does not know of the pod yet", [2]string{"ADD", "GC"}, false, false, 20, []string{whole, nothing}},
}

// The spread of two verbs' beginnings: about what ADD takes.
const spread = 60 * time.Millisecond

// Both verbs succeed, whichever gets the pod's lock first, and the pod's taps are
// whole or not there at all.
func TestVerbsOfOnePodTakeTurns(t *testing.T) {
	for i, r := range races {
		t.Run(r.name, func(t *testing.T) {
			s := newScene(t)
			nameless(t, s.node.Space)
			random := rand.New(rand.NewPCG(1, uint64(i)))
			node, pod := snap(t, s.node.Space), snap(t, s.pod.Space)
			c := s.configured(everySink)
			seen := map[string]int{}
			rounds := r.rounds
			if testing.Short() {
				rounds = max(4, rounds/4)
				t.Logf("-short: %d rounds, not %d", rounds, r.rounds)
			}
			for round := range rounds {
				if r.tapped {
					s.call("ADD", c).succeeds()
				}
				offset := time.Duration(random.Int64N(int64(2*spread))) - spread
				s.race(r, c, offset)
				end := whole
				if problem := left(t, s.node.Space, node) + left(t, s.pod.Space, pod); problem == "" {
					end = nothing
				} else if err := s.run(s.attachment(), "CHECK", c); err != nil {
					end = err.Error() + "\n" + problem
				}
				seen[end]++
				if end != r.ends[0] && end != r.ends[len(r.ends)-1] {
					t.Errorf("round %d, %s %v after %s: %s", round, r.verbs[1], offset, r.verbs[0], end)
				}
				if err := s.run(s.attachment(), "DEL", c); err != nil {
					t.Error(err)
				}
				if problem := left(t, s.node.Space, node) + left(t, s.pod.Space, pod); problem != "" {
					t.Fatalf("round %d, %s %v after %s: DEL left\n%s", round, r.verbs[1], offset, r.verbs[0], problem)
				}
				locksFree(t)
			}
			t.Logf("%d rounds: %d times %s, %d times %s", rounds, seen[whole], whole, seen[nothing], nothing)
		})
	}
}

// race lets the second verb go some time after the first, or before it.
func (s *scene) race(r race, c conf, offset time.Duration) {
	s.t.Helper()
	valid := []any{}
	if r.valid {
		valid = append(valid, map[string]string{"containerID": s.attachment().ID, "ifname": s.attachment().IfName})
	}
	var wait sync.WaitGroup
	for i, verb := range r.verbs {
		text := c
		if verb == "GC" {
			text = conf{"cniVersion": newest, "name": "net", "type": "podtap", "cni.dev/valid-attachments": valid}
		}
		p, err := s.start(s.attachment(), verb, text)
		if err != nil {
			s.t.Fatal(err)
		}
		pause := max(0, offset)
		if i == 0 {
			pause = max(0, -offset)
		}
		wait.Go(func() {
			time.Sleep(pause)
			if err := p.finish(); err != nil {
				s.t.Errorf("with %s beside it: %v", r.verbs[1-i], err)
			}
		})
	}
	wait.Wait()
}
