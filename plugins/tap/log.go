package main

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/containernetworking/cni/pkg/skel"
	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/pkg/cniconf"
)

// maxLogFile is how large the log file may grow, in bytes, before it becomes the
// one rotation that is kept.
const maxLogFile = 10 << 20

// newLogger logs to standard error, and to a file where the configuration names
// one. Standard output belongs to the result.
func newLogger(conf cniconf.Log, network string, args *skel.CmdArgs) *slog.Logger {
	var level slog.Level
	// The configuration's levels are slog's; an empty one is info.
	_ = level.UnmarshalText([]byte(conf.Level))
	var out io.Writer = os.Stderr
	var failed error
	if conf.File != "" {
		var f *os.File
		if f, failed = openLogFile(conf.File); failed == nil {
			out = io.MultiWriter(os.Stderr, f)
		}
	}
	pod := cniconf.ParseArgs(args.Args)
	log := slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: level, ReplaceAttr: inUTC})).With(
		"network", network, "container", args.ContainerID, "ifname", args.IfName, "namespace", pod.Namespace, "pod", pod.Name)
	if failed != nil {
		log.Warn("no log file", "error", failed)
	}
	return log
}

// inUTC writes times in UTC: a node's own zone would have to be read from a file for
// one line.
func inUTC(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey {
		a.Value = slog.TimeValue(a.Value.Time().UTC())
	}
	return a
}

// openLogFile opens the log for appending. The process ends with one verb, and so
// does the file. Only a regular file will do: opening a pipe could wait for ever.
func openLogFile(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if info, err := os.Lstat(path); err == nil && info.Size() >= maxLogFile {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, err
		}
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err == nil {
		err = f.Chmod(0o600)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
