package install

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// A temporary file is beside the file that it becomes, because containerd does not
// see a file that is renamed into its folder from another one. No runtime reads a
// name that ends so.
const temporary = ".podtap-tmp"

// errChanged says that somebody else wrote a file while it was about to be replaced.
var errChanged = errors.New("somebody else has just written it")

// maxFile bounds what is read of a configuration, in bytes. Real ones have some KiB.
const maxFile = 1 << 20

// exchangeRounds bounds how often one replacement gives way to other writers.
const exchangeRounds = 8

// replace puts new bytes in the place of a file's old ones, in one step, with its
// mode and owner, and safe from a power cut. If the file is not what was read,
// because somebody wrote it meanwhile, theirs stays, and the error is errChanged.
func replace(path string, old, text []byte) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	temp, err := writeTemporary(path, text, info)
	if err != nil {
		return err
	}
	defer os.Remove(temp)
	if now, err := readFile(path); err != nil || !bytes.Equal(now, old) {
		return errors.Join(err, errChanged)
	}
	return exchange(path, temp, old, text)
}

// exchange puts a temporary file, which has text, into the place of a file that had
// old when somebody looked. Renaming would lose what was written since; an exchange
// loses nothing, because it brings out what was there.
func exchange(path, temp string, old, text []byte) error {
	put, expected := text, old
	for round := range exchangeRounds {
		if now, err := readFile(path); round > 0 && (err != nil || !bytes.Equal(now, expected)) {
			return errors.Join(err, errChanged) // newer still, and in its place
		}
		err := unix.Renameat2(unix.AT_FDCWD, temp, unix.AT_FDCWD, path, unix.RENAME_EXCHANGE)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) { // a file system that cannot
			err = os.Rename(temp, path)
			return errors.Join(err, syncFolder(path))
		}
		if err != nil {
			return fmt.Errorf("exchange %s: %w", path, err)
		}
		was, err := readFile(temp)
		if err != nil {
			// Whatever it is, it is somebody else's: back into its place.
			return errors.Join(err, unix.Renameat2(unix.AT_FDCWD, temp, unix.AT_FDCWD, path, unix.RENAME_EXCHANGE))
		}
		if bytes.Equal(was, expected) {
			if err := syncFolder(path); err != nil || bytes.Equal(put, text) {
				return err
			}
			return errChanged // and theirs is in its place again
		}
		put, expected = was, put // theirs goes back, if nothing else has come
	}
	return errChanged
}

// create makes a file that is not there yet, like another one, in one step.
func create(path string, text []byte, like fs.FileInfo) error {
	temp, err := writeTemporary(path, text, like)
	if err != nil {
		return err
	}
	defer os.Remove(temp)
	// A link does not replace what is there, as a rename would.
	if err := os.Link(temp, path); err != nil {
		return err
	}
	return syncFolder(path)
}

// writeTemporary writes a file beside path, with the mode and owner of another.
func writeTemporary(path string, text []byte, like fs.FileInfo) (name string, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*"+temporary)
	if err != nil {
		return "", err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(text); err != nil {
		return "", err
	}
	if err := f.Chmod(like.Mode().Perm()); err != nil {
		return "", err
	}
	if owner, ok := like.Sys().(*syscall.Stat_t); ok && (int(owner.Uid) != os.Geteuid() || int(owner.Gid) != os.Getegid()) {
		if err := f.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
			return "", fmt.Errorf("keep the owner of %s: %w; podtapd needs the capability CHOWN, where files are not root's", path, err)
		}
	}
	return f.Name(), f.Sync()
}

// syncFolder makes a rename in the folder of a file last.
func syncFolder(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// removeTemporaries removes what a podtapd that was killed has left in a folder.
func removeTemporaries(folder string) error {
	entries, err := os.ReadDir(folder)
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") && strings.HasSuffix(e.Name(), temporary) && e.Type().IsRegular() {
			err = errors.Join(err, os.Remove(filepath.Join(folder, e.Name())))
		}
	}
	return err
}

// readFile reads a file of others: it neither waits for a named pipe, nor fills the
// memory.
func readFile(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no regular file", path)
	case info.Size() > maxFile:
		return nil, fmt.Errorf("%s has %d bytes; more than %d are not read", path, info.Size(), maxFile)
	}
	return io.ReadAll(io.LimitReader(f, maxFile))
}
