package drivers

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/internal/lab"
)

func TestMain(m *testing.M) {
	if os.Getenv(place) != "" {
		if err := serve(os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	lab.Main(func() int {
		// Of go-cni nobody can ask for another place of libcni's cache. The mount is
		// the lab's own.
		if err := unix.Mount("tmpfs", "/var/lib", "tmpfs", 0, "mode=755"); err != nil {
			fmt.Fprintln(os.Stderr, "mount /var/lib:", err)
			return 1
		}
		return m.Run()
	}, true)
}

// patience bounds what a runtime does in one go.
const patience = 30 * time.Second

// runtime is a process on a node.
type runtime struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdin  io.Closer
	ask    *json.Encoder
	answer *json.Decoder
	stderr *output
	ended  bool
}

// output is what a process says on standard error.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(b)
}

// tail is the end of it.
func (o *output) tail() string {
	const most = 4 << 10
	o.mu.Lock()
	defer o.mu.Unlock()
	b := o.b.Bytes()
	return string(b[max(0, len(b)-most):])
}

// startRuntime starts one in the node's network namespace, where its plugins are then, and
// in new namespaces of these kinds.
func startRuntime(t *testing.T, node *lab.Space, name, confDir, binDir string, kinds uintptr) *runtime {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// ocicni wants a program of this name. It would run it where libcni's cache has
	// lost a result.
	path := t.TempDir()
	if err := os.WriteFile(filepath.Join(path, "nsenter"), []byte("#!/bin/false\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	r := &runtime{t: t, cmd: exec.Command(self), stderr: &output{}}
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: kinds}
	r.cmd.Env = append(os.Environ(), place+"="+name+" "+confDir+" "+binDir, "PATH="+os.Getenv("PATH")+":"+path)
	// The runtime's end is waited for until the last of its plugins has ended, too: they
	// have its standard error.
	r.cmd.Stderr, r.cmd.WaitDelay = r.stderr, patience
	in, err := r.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := r.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	r.stdin, r.ask, r.answer = in, json.NewEncoder(in), json.NewDecoder(out)
	node.Do(r.cmd.Start)
	t.Cleanup(func() {
		r.stop()
		if t.Failed() {
			t.Logf("%s said, last of all:\n%s", name, r.stderr.tail())
		}
	})
	return r
}

// do has the runtime do something, and returns what comes of it.
func (r *runtime) do(q request) (outcome, *failure) {
	r.t.Helper()
	defer time.AfterFunc(patience, func() { _ = r.cmd.Process.Kill() }).Stop()
	r.begin(q)
	var a reply
	if err := r.answer.Decode(&a); err != nil {
		r.t.Fatalf("the runtime does not answer to %s within %v: %v", q.Verb, patience, err)
	}
	return a.Outcome, a.Failure
}

// begin has the runtime begin something of which nobody will hear.
func (r *runtime) begin(q request) {
	r.t.Helper()
	if err := r.ask.Encode(q); err != nil {
		r.t.Fatalf("ask the runtime for %s: %v", q.Verb, err)
	}
}

// stop lets the runtime end by itself.
func (r *runtime) stop() { r.end(r.stdin.Close) }

// kill ends it at once.
func (r *runtime) kill() { r.end(r.cmd.Process.Kill) }

func (r *runtime) end(how func() error) {
	if r.ended {
		return
	}
	r.ended = true
	_ = how()
	defer time.AfterFunc(patience, func() { _ = r.cmd.Process.Kill() }).Stop()
	_ = r.cmd.Wait()
}
