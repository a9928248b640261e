package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/types"
	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/pkg/cniconf"
	"github.com/podtap/podtap/pkg/mirror"
)

func TestADevicesAliasNamesThePod(t *testing.T) {
	s := newScene(t)
	s.call("ADD", s.configured(`{"veth":{"hostInterface":"sensor0"}}`)).succeeds()
	if alias := s.node.Link("sensor0").Attrs().Alias; !strings.HasSuffix(alias, " pod=default/web") {
		t.Errorf("the alias is %q", alias)
	}
}

// Without its locks podtap can do nothing: ADD and GC say so, DEL only logs, and
// the next one does what is left.
func TestWhereNoLockCanBeHadOnlyDelSucceeds(t *testing.T) {
	s := newScene(t)
	nameless(t, s.node.Space)
	untouched := s.untouched()
	c := s.configured(everySink)
	s.call("ADD", c).succeeds()
	if err := errors.Join(os.RemoveAll("/run/podtap"), os.WriteFile("/run/podtap", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove("/run/podtap") })
	s.call("ADD", c).fails(types.ErrIOFailure, "lock")
	s.call("CHECK", c).fails(types.ErrIOFailure, "lock")
	s.call("DEL", c).silent().says("level=ERROR", "not everything of the pod's taps could be removed", "lock")
	s.call("GC", c.with(conf{"cni.dev/valid-attachments": []any{}})).fails(types.ErrIOFailure, "collect stale taps", "lock")
	if err := os.Remove("/run/podtap"); err != nil {
		t.Fatal(err)
	}
	s.call("DEL", c).silent()
	untouched(t)
}

// Two verbs for one pod, as of a runtime that has given up one of them.
func TestVerbsForOnePodWaitForEachOther(t *testing.T) {
	s := newScene(t)
	c := s.configured(`[{"device":"near","veth":{}}]`).with(conf{"cni.dev/valid-attachments": []any{}})
	for _, verb := range []string{"ADD", "CHECK", "GC", "ADD", "DEL"} {
		unlock, err := mirror.LockPod(s.attachment().ID)
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan answer, 1)
		go func() { done <- s.call(verb, c) }()
		select {
		case a := <-done:
			done <- a
			t.Errorf("%s did not wait for the pod's lock", verb)
		case <-time.After(500 * time.Millisecond):
		}
		unlock()
		if a := <-done; a.failed != nil {
			t.Errorf("%s failed: %s", verb, a.failed.Msg)
		}
	}
}

func TestEachKindOfFailureHasItsCode(t *testing.T) {
	for _, c := range []struct {
		err           error
		authors, nets uint
	}{
		{mirror.ErrNoInterface, cniconf.CodeInterface, cniconf.CodeInterface},
		{mirror.ErrMTU, cniconf.CodeMTU, cniconf.CodeMTU},
		{mirror.ErrUnsupported, cniconf.CodeUnsupported, cniconf.CodeUnsupported},
		{mirror.ErrForbidden, cniconf.CodePolicy, cniconf.CodePolicy},
		{mirror.ErrBusy, types.ErrTryAgainLater, types.ErrTryAgainLater},
		{mirror.ErrConflict, cniconf.CodeAnnotation, types.ErrInvalidNetworkConfig},
		{errors.New("other"), types.ErrIOFailure, types.ErrIOFailure},
	} {
		err := fmt.Errorf("wrapped: %w", c.err)
		if a, n := codeOf(err, true), codeOf(err, false); a != c.authors || n != c.nets {
			t.Errorf("%v: codes %d and %d, want %d and %d", c.err, a, n, c.authors, c.nets)
		}
	}
	s := newScene(t)
	s.call("ADD", s.configured(`{"vxlan":{"vni":7,"remote":"198.18.0.255"}}`)).fails(cniconf.CodePolicy, "198.18.0.255", "broadcast")
}

// In a user namespace without root the kernel makes no network namespace, as it
// does not where it lacks what taps need.
func TestStatusSaysWhereTapsCannotWork(t *testing.T) {
	s := newScene(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self)
	c.Env = append(os.Environ(), s.attachment().environment("STATUS")...)
	c.Stdin = strings.NewReader(conf{"cniVersion": newest, "name": "net", "type": "podtap"}.text(t))
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUSER}
	out, err := c.Output()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		t.Skipf("no user namespace to be without root in: %v", err)
	}
	failed := &types.Error{}
	if err := json.Unmarshal(out, failed); err != nil {
		t.Fatalf("STATUS says %q: %v", out, err)
	}
	wantError(t, failed, cniconf.CodeUnavailable, "taps cannot work on this node", "not supported", "cannot make a network namespace")
}
