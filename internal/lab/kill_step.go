package lab

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"unsafe"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// steps tells which system calls of a process may change something outside of it.
type steps struct {
	pid   int
	pidfd int
}

func stepsOf(pid int) (steps, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return steps{}, fmt.Errorf("%w: no descriptor of the traced program: %w", ErrNoTrace, err)
	}
	return steps{pid, fd}, nil
}

func (s steps) close() { _ = unix.Close(s.pidfd) }

// pathCall is a system call whose argument number path is the path that it changes.
type pathCall struct {
	name string
	path int
}

var pathCalls = map[uint64]pathCall{
	unix.SYS_MKDIRAT: {"mkdir", 1}, unix.SYS_UNLINKAT: {"unlink", 1}, unix.SYS_LINKAT: {"link", 3}, unix.SYS_SYMLINKAT: {"symlink", 2},
	unix.SYS_RENAMEAT: {"rename", 1}, unix.SYS_RENAMEAT2: {"rename", 1}, unix.SYS_MOUNT: {"mount", 1}, unix.SYS_UMOUNT2: {"umount", 0},
}

// openCalls are those that open a file: which argument the path is. The flags come
// after it.
var openCalls = map[uint64]int{unix.SYS_OPENAT: 1}

// of describes a system call at its entry; it is "" where it changes nothing
// outside of the process. Counted are: what is sent on sockets, but for rtnetlink's
// questions; what is written to files, pipes and devices, standard input to
// standard error excepted; the making, deleting, linking and renaming of files,
// the creating or truncating open; flock, mount and what ethtool asks and says.
func (s steps) of(number uint64, a [6]uint64) string {
	if c, ok := pathCalls[number]; ok {
		return c.name + " " + s.text(a[c.path])
	}
	if path, ok := openCalls[number]; ok {
		return s.open(a[path], a[path+1])
	}
	switch number {
	case unix.SYS_SENDTO:
		return s.send(a[0], a[1], a[2])
	case unix.SYS_SENDMSG, unix.SYS_SENDMMSG: // a struct mmsghdr begins with a msghdr
		first := s.word(a[1] + uint64(unsafe.Offsetof(unix.Msghdr{}.Iov)))
		return s.send(a[0], s.word(first), s.word(first+8))
	case unix.SYS_WRITE, unix.SYS_PWRITE64, unix.SYS_WRITEV, unix.SYS_PWRITEV, unix.SYS_PWRITEV2, unix.SYS_FTRUNCATE:
		// Go's runtime wakes itself up through an eventfd, which is an anon_inode.
		if file := s.file(a[0]); a[0] > 2 && !strings.HasPrefix(file, "anon_inode:") {
			return "write " + file
		}
	case unix.SYS_FLOCK:
		return "flock " + s.file(a[0])
	case unix.SYS_IOCTL:
		if a[1] == unix.SIOCETHTOOL {
			return "ethtool"
		}
	}
	return ""
}

// open describes an open by its path and flags.
func (s steps) open(path, flags uint64) string {
	if flags&(unix.O_CREAT|unix.O_TRUNC) == 0 {
		return ""
	}
	name := s.text(path)
	if strings.HasPrefix(name, "/proc/") { // where nothing can be made, nor truncated
		return ""
	}
	return "open " + name
}

// send describes what is sent on a socket.
func (s steps) send(socket, at, length uint64) string {
	fd, err := unix.PidfdGetfd(s.pidfd, int(socket), 0)
	if err != nil {
		return "send"
	}
	defer unix.Close(fd)
	family, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	protocol, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if family != unix.AF_NETLINK || protocol != unix.NETLINK_ROUTE {
		return fmt.Sprintf("send, socket family %d", family)
	}
	b := make([]byte, min(length, 1<<12))
	return routeMessage(s.read(at, b), length)
}

// routeMessage describes a message to rtnetlink; a question is "".
func routeMessage(b []byte, sent uint64) string {
	const header = unix.NLMSG_HDRLEN
	if len(b) < header {
		return "send on netlink"
	}
	kind := binary.NativeEndian.Uint16(b[4:])
	if kind < unix.RTM_BASE {
		return fmt.Sprintf("send on netlink, type %d", kind)
	}
	// The numbers come in fours, in linux/rtnetlink.h.
	verb := [4]string{"NEW", "DEL", "GET", "SET"}[kind%4]
	if alone := uint64(binary.NativeEndian.Uint32(b)) == sent; verb == "GET" && alone {
		return ""
	}
	objects := []string{"LINK", "ADDR", "ROUTE", "NEIGH", "RULE", "QDISC", "TCLASS", "TFILTER"}
	object := fmt.Sprintf("type %d", kind)
	if i := int(kind-unix.RTM_BASE) / 4; i < len(objects) {
		object = objects[i]
	}
	out := "RTM_" + verb + object
	if len(b) >= header+8 { // the index comes second in all of them but routes and rules
		out += fmt.Sprintf(" of device %d", binary.NativeEndian.Uint32(b[header+4:]))
	}
	if object != "LINK" || len(b) < header+unix.SizeofIfInfomsg {
		return out
	}
	attributes, _ := nl.ParseRouteAttr(b[header+unix.SizeofIfInfomsg:])
	for _, a := range attributes {
		if what := map[uint16]string{unix.IFLA_IFNAME: "name", unix.IFLA_IFALIAS: "alias"}[a.Attr.Type]; what != "" {
			out += fmt.Sprintf(", %s %s", what, bytes.TrimRight(a.Value, "\x00"))
		}
	}
	return out
}

// file names what a descriptor is open on.
func (s steps) file(fd uint64) string {
	name, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", s.pid, int32(fd)))
	return name
}

// read fills b from the process's memory, and returns what could be read.
func (s steps) read(at uint64, b []byte) []byte {
	if at == 0 || len(b) == 0 {
		return nil
	}
	local := unix.Iovec{Base: &b[0]}
	local.SetLen(len(b))
	n, err := unix.ProcessVMReadv(s.pid, []unix.Iovec{local}, []unix.RemoteIovec{{Base: uintptr(at), Len: len(b)}}, 0)
	if err != nil {
		return nil
	}
	return b[:n]
}

// word reads a word of a 64-bit machine.
func (s steps) word(at uint64) uint64 {
	b := s.read(at, make([]byte, 8))
	if len(b) < 8 {
		return 0
	}
	return binary.NativeEndian.Uint64(b)
}

// text reads a path.
func (s steps) text(at uint64) string {
	b, _, _ := bytes.Cut(s.read(at, make([]byte, 256)), []byte{0})
	return string(b)
}
