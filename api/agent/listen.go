package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// Listen listens at a path, where only root and the agent's own user may connect. The
// folder is made where it is missing, for root alone. A socket that is there already
// is replaced in one step, without a moment in which there is none: the caller makes
// sure that no other agent is at work.
func Listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("listen for the plugin: %w", err)
	}
	if there, err := os.Lstat(path); err == nil && there.Mode().Type() != fs.ModeSocket {
		return nil, fmt.Errorf("listen for the plugin: %s is there, and is not a socket; take it away, or choose another agentSocket", path)
	}
	// Of an agent that was killed between the next steps.
	passing := path + ".new"
	if err := os.Remove(passing); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("listen for the plugin: %w", err)
	}
	l, err := (&net.ListenConfig{Control: private}).Listen(context.Background(), "unix", passing)
	if err != nil {
		return nil, fmt.Errorf("listen for the plugin: %w", err)
	}
	// It would delete the name that it was made with. The socket's own stays when we
	// end: the next agent replaces it, and a plugin learns at once that nobody listens.
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := os.Rename(passing, path); err != nil {
		_ = l.Close()
		_ = os.Remove(passing)
		return nil, fmt.Errorf("listen for the plugin: %w", err)
	}
	return &listener{l}, nil
}

// private gives a socket its mode before it has a name: Linux makes the file with the
// socket's own mode, less the umask, so nobody can connect in between.
func private(_, _ string, c syscall.RawConn) error {
	var failed error
	err := c.Control(func(fd uintptr) { failed = unix.Fchmod(int(fd), 0o600) })
	return errors.Join(err, failed)
}

// listener hangs up on whoever is neither root nor the agent's own user, in case that
// somebody opens the socket's mode.
type listener struct{ net.Listener }

// Accept waits for the next connection of somebody who may ask.
func (l *listener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if trusted(conn) {
			return conn, nil
		}
		_ = conn.Close()
	}
}

func trusted(conn net.Conn) bool {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return false
	}
	var peer *unix.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) { peer, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	return err == nil && failed == nil && (peer.Uid == 0 || int(peer.Uid) == os.Geteuid())
}
