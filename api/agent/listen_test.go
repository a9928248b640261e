package agent

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// listenAt listens where the plugin asks, and answers for as long as the test runs.
func listenAt(t *testing.T, socket string) net.Listener {
	t.Helper()
	l, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, l, echo)
	return l
}

func TestTheSocketIsItsOwnersAlone(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "made", "agent.sock")
	old := unix.Umask(0)
	defer unix.Umask(old)
	listenAt(t, socket)
	for path, want := range map[string]fs.FileMode{socket: fs.ModeSocket | 0o600, filepath.Dir(socket): fs.ModeDir | 0o700} {
		info, err := os.Stat(path)
		if err != nil || info.Mode() != want {
			t.Errorf("%s has mode %v (%v), want %v", filepath.Base(path), info.Mode(), err, want)
		}
	}
	if _, err := Annotations(t.Context(), socket, question); err != nil {
		t.Error(err)
	}
}

// Whoever waits for the socket to appear must not find it open for a moment.
func TestTheSocketsModeIsRightWhenItGetsItsName(t *testing.T) {
	old := unix.Umask(0)
	defer unix.Umask(old)
	socket := filepath.Join(t.TempDir(), "agent.sock")
	l, err := (&net.ListenConfig{Control: private}).Listen(context.Background(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, error %v", info.Mode(), err)
	}
}

func TestTheSocketOfADeadAgentIsReplaced(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "agent.sock")
	dead, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	_ = dead.Close()
	if _, err := Annotations(t.Context(), socket, question); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("with a dead agent: %v", err)
	}
	// It was killed between making the socket and naming it.
	if err := os.WriteFile(socket+".new", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	listenAt(t, socket)
	if _, err := Annotations(t.Context(), socket, question); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(socket + ".new"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something is left: %v", err)
	}
}

// A plugin that asks while one agent follows another always finds a socket.
func TestThereIsASocketAtEveryMomentOfAReplacement(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "agent.sock")
	listenAt(t, socket)
	end, gone := make(chan struct{}), make(chan bool, 1)
	go func() {
		missing := false
		for {
			select {
			case <-end:
				gone <- missing
				return
			default:
			}
			if _, err := os.Lstat(socket); err != nil {
				missing = true
			}
		}
	}()
	for range 100 {
		l, err := Listen(socket)
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
	}
	close(end)
	if <-gone {
		t.Error("there was no socket for a moment")
	}
}

func TestWhatIsNoSocketIsNotReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "agent.sock")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if l, err := Listen(path); err == nil {
		_ = l.Close()
		t.Error("a file was replaced")
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "precious" {
		t.Errorf("the file has %q, error %v", text, err)
	}
}

// Another user gets no answer even where somebody has opened the socket's mode.
func TestAnotherUserIsHungUpOn(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	dir, err := os.MkdirTemp("", "agent-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "agent.sock")
	listenAt(t, socket)
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(socket, 0o666)); err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		// The thread ends with the goroutine, and nobody else gets another user's.
		runtime.LockOSThread()
		const nobody = 65534
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
			answered <- errors.Join(errSkip, errno)
			return
		}
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			defer func() { _ = unix.Close(fd) }()
			err = errors.Join(unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}),
				unix.Connect(fd, &unix.SockaddrUnix{Name: socket}))
		}
		if err == nil {
			_, _ = unix.Write(fd, []byte(`{"version":1,"name":"web-0"}`+"\n"))
			var n int
			if n, err = unix.Read(fd, make([]byte, 1)); n > 0 {
				err = errors.New("it was answered")
			} else if errors.Is(err, unix.ECONNRESET) {
				err = nil
			}
		}
		answered <- err
	}()
	select {
	case err := <-answered:
		if errors.Is(err, errSkip) {
			t.Skipf("no other user to become: %v", err)
		}
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("neither answered nor hung up")
	}
	if _, err := Annotations(t.Context(), socket, question); err != nil {
		t.Errorf("root, after another user: %v", err)
	}
}

var errSkip = errors.New("skip")
