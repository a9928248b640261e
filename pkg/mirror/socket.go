package mirror

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

const (
	// socketTimeout bounds the wait for the whole of one answer of the kernel's.
	socketTimeout = 10 * time.Second
	// answerSize is more than the kernel puts into one datagram: 32 KiB of a dump,
	// or one device, whose attributes have up to 64 KiB.
	answerSize = 128 << 10
	// dumpAttempts bounds the repetitions of a dump that changes elsewhere made
	// inconsistent.
	dumpAttempts = 10
	// fewAnswers is how many datagrams are always read, however busy the machine.
	fewAnswers = 16
)

// errDumpInterrupted says that what a dump told was changed meanwhile.
var errDumpInterrupted = errors.New("changed while it was read, again and again")

// errTooMuch says that there was more to read than anybody waits for. The rest of the
// answer is still to come: the socket can read no other list.
var errTooMuch = errors.New("there is too much to read of it")

// socket is a netlink socket. It belongs to the namespace that it was opened in
// for good. The library's takes fresh memory and a timer for every answer, which
// is a third of an ADD's time; its messages are used all the same.
type socket struct {
	fd     int
	seq    uint32
	answer []byte
	// until is when to give up what has more than a few answers; zero for never.
	until time.Time
	reads int // datagrams so far
	// before is called ahead of each request; an error is the request's. Tests fail
	// one with it.
	before func(kind int) error
}

// openSocket opens a socket in the network namespace of the calling thread.
func openSocket() (*socket, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	timeout := unix.NsecToTimeval(socketTimeout.Nanoseconds())
	err = errors.Join(
		unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &timeout))
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("netlink: %w", err)
	}
	// The kernel's own words for what it refused, without our words before them;
	// old kernels have none.
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_EXT_ACK, 1)
	_ = unix.SetsockoptInt(fd, unix.SOL_NETLINK, unix.NETLINK_CAP_ACK, 1)
	// Nobody is to foresee the numbers of our requests.
	return &socket{fd: fd, seq: rand.Uint32(), answer: make([]byte, answerSize)}, nil
}

func (s *socket) close() { _ = unix.Close(s.fd) }

// exchange sends one request and hands each message of the answer to visit,
// whose argument is valid during the call only.
func (s *socket) exchange(kind, flags int, visit func(message []byte) error, data ...nl.NetlinkRequestData) error {
	request := nl.NewNetlinkRequest(kind, flags)
	for _, d := range data {
		request.AddData(d)
	}
	if s.before != nil {
		if err := s.before(kind); err != nil {
			return err
		}
	}
	s.seq++
	request.Seq = s.seq
	if err := unix.Sendto(s.fd, request.Serialize(), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("netlink: send: %w", err)
	}
	interrupted := false
	var refused error // by visit; the answer is read to its end all the same
	for deadline := time.Now().Add(socketTimeout); ; {
		n, err := s.receive(deadline)
		if err != nil {
			return err
		}
		if s.tooMuch() {
			return errTooMuch
		}
		for rest := s.answer[:n]; len(rest) >= unix.SizeofNlMsghdr; {
			length := int(binary.NativeEndian.Uint32(rest))
			if length < unix.SizeofNlMsghdr || length > len(rest) {
				return errors.New("netlink: malformed answer")
			}
			head := header(rest[:unix.SizeofNlMsghdr])
			body := rest[unix.SizeofNlMsghdr:length]
			rest = rest[min((length+3)&^3, len(rest)):]
			if head.seq() != s.seq {
				continue // it comes too late, for a request that timed out
			}
			interrupted = interrupted || head.flags()&unix.NLM_F_DUMP_INTR != 0
			switch head.kind() {
			case unix.NLMSG_DONE, unix.NLMSG_ERROR:
				if err := answered(head, body); err != nil {
					return err
				}
				if interrupted {
					return errDumpInterrupted
				}
				return refused
			}
			if refused == nil {
				refused = visit(body)
			}
			if errors.Is(refused, errTooMuch) {
				return refused
			}
			if head.flags()&unix.NLM_F_MULTI == 0 {
				return refused
			}
		}
	}
}

// tooMuch counts a datagram, and says whether to give up.
func (s *socket) tooMuch() bool {
	s.reads++
	return !s.until.IsZero() && s.reads > fewAnswers && time.Now().After(s.until)
}

// receive reads one datagram of the kernel's. In a pod's namespace others may
// write to the socket too; what they write is passed over.
func (s *socket) receive(deadline time.Time) (int, error) {
	for time.Now().Before(deadline) {
		n, from, err := unix.Recvfrom(s.fd, s.answer, unix.MSG_TRUNC)
		sender, ok := from.(*unix.SockaddrNetlink)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return 0, errNoAnswer
		case err != nil:
			return 0, fmt.Errorf("netlink: receive: %w", err)
		case !ok || sender.Pid != 0:
		case n > len(s.answer):
			return 0, fmt.Errorf("netlink: an answer of %d bytes is too long", n)
		default:
			return n, nil
		}
	}
	return 0, errNoAnswer
}

var errNoAnswer = fmt.Errorf("netlink: no answer within %v", socketTimeout)

// header is a struct nlmsghdr.
type header []byte

func (h header) kind() uint16  { return binary.NativeEndian.Uint16(h[4:]) }
func (h header) flags() uint16 { return binary.NativeEndian.Uint16(h[6:]) }
func (h header) seq() uint32   { return binary.NativeEndian.Uint32(h[8:]) }

// answered is the error of an answer's last message, nil for a success.
func answered(head header, body []byte) error {
	if len(body) < 4 {
		return nil
	}
	code := int32(binary.NativeEndian.Uint32(body))
	if code == 0 {
		return nil
	}
	err := error(unix.Errno(-code))
	if head.kind() != unix.NLMSG_ERROR || head.flags()&unix.NLM_F_ACK_TLVS == 0 || len(body) < 4+unix.SizeofNlMsghdr {
		return err
	}
	repeated := int(binary.NativeEndian.Uint32(body[4:])) // the request's length
	skip := 4 + unix.SizeofNlMsghdr
	if head.flags()&unix.NLM_F_CAPPED == 0 {
		skip = 4 + (repeated+3)&^3
	}
	if skip < 0 || skip > len(body) {
		return err
	}
	for kind, value := range attributes(body[skip:]) {
		if kind == nl.NLMSGERR_ATTR_MSG {
			err = fmt.Errorf("%w: %s", err, unix.ByteSliceToString(value))
		}
	}
	return err
}

// attributes goes through netlink attributes, up to the first malformed one.
func attributes(b []byte) func(yield func(kind uint16, value []byte) bool) {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.SizeofRtAttr {
			length := int(binary.NativeEndian.Uint16(b))
			if length < unix.SizeofRtAttr || length > len(b) {
				return
			}
			kind := binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
			if !yield(kind, b[unix.SizeofRtAttr:length]) {
				return
			}
			b = b[min((length+3)&^3, len(b)):]
		}
	}
}

// request makes a request whose answer is only whether it was done.
func (n *namespace) request(kind, flags int, data ...nl.NetlinkRequestData) error {
	return n.socket.exchange(kind, flags|unix.NLM_F_ACK, func([]byte) error { return nil }, data...)
}

// query reads something of the kernel, and turns each message of the answer into
// what parse makes of it; ok is false for what is to be left out.
func query[T any](n *namespace, kind, flags int, parse func(message []byte) (found T, ok bool, err error), data ...nl.NetlinkRequestData) ([]T, error) {
	for range dumpAttempts - 1 {
		found, err := queryOnce(n, kind, flags, parse, data...)
		if !errors.Is(err, errDumpInterrupted) {
			return found, err
		}
	}
	return queryOnce(n, kind, flags, parse, data...)
}

func queryOnce[T any](n *namespace, kind, flags int, parse func([]byte) (T, bool, error), data ...nl.NetlinkRequestData) ([]T, error) {
	var out []T
	err := n.socket.exchange(kind, flags, func(message []byte) error {
		found, ok, err := parse(message)
		if ok {
			out = append(out, found)
		}
		return err
	}, data...)
	return out, err
}
