package lab

import (
	"encoding/binary"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Frame is a captured Ethernet frame.
type Frame struct {
	Data     []byte
	Outgoing bool   // the namespace sent it
	VNI      uint32 // of the VXLAN packet that it came in, if any
}

// Capture gathers frames in the background until it is stopped.
type Capture struct {
	mu     sync.Mutex
	frames []Frame
	stop   func()
	once   sync.Once
	done   chan struct{}
}

// Frames returns what has been captured so far.
func (c *Capture) Frames() []Frame {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]Frame(nil), c.frames...)
}

// Len is how many frames have been captured so far.
func (c *Capture) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.frames)
}

// await waits until there are count frames, for the patience of one packet.
func (c *Capture) await(count int) bool {
	for deadline := time.Now().Add(patience); c.Len() < count; time.Sleep(100 * time.Microsecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// Settle waits until there are at least count frames, for some seconds at most,
// and then until nothing has come for a while. It returns all frames.
func (c *Capture) Settle(count int) []Frame {
	const quiet, most = 150 * time.Millisecond, 10 * time.Second
	begin, last, seen := time.Now(), time.Now(), -1
	for time.Since(begin) < most {
		n := c.Len()
		if n != seen {
			seen, last = n, time.Now()
		}
		if n >= count && time.Since(last) > quiet {
			break
		}
		if n < count && time.Since(last) > most/2 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return c.Frames()
}

// Stop ends the capture.
func (c *Capture) Stop() {
	c.once.Do(func() {
		c.stop()
		<-c.done
	})
}

func (c *Capture) add(f Frame) {
	c.mu.Lock()
	c.frames = append(c.frames, f)
	c.mu.Unlock()
}

// Capture listens with a packet socket on a device, as tcpdump does.
func (s *Space) Capture(device string) *Capture {
	s.t.Helper()
	index := s.Link(device).Attrs().Index
	var fd int
	s.Do(func() error {
		var err error
		protocol := int(binary.NativeEndian.Uint16([]byte{0, unix.ETH_P_ALL}))
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
		timeout := unix.NsecToTimeval((50 * time.Millisecond).Nanoseconds())
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: uint16(protocol), Ifindex: index})
	})
	stop := make(chan struct{})
	c := &Capture{done: make(chan struct{}), stop: func() { close(stop) }}
	go func() {
		defer close(c.done)
		defer unix.Close(fd)
		b := make([]byte, 1<<17)
		for {
			select {
			case <-stop:
				return
			default:
			}
			n, from, err := unix.Recvfrom(fd, b, 0)
			if err != nil {
				continue // the time-out, which lets us look at stop
			}
			at, _ := from.(*unix.SockaddrLinklayer)
			c.add(Frame{Data: append([]byte(nil), b[:n]...), Outgoing: at != nil && at.Pkttype == unix.PACKET_OUTGOING})
		}
	}()
	s.t.Cleanup(c.Stop)
	return c
}

// Collect listens on a UDP port as a VXLAN collector without a device does: the
// kernel has put fragments together, and each frame is the inner one.
func (s *Space) Collect(address string) *Capture {
	s.t.Helper()
	// A CPU that has to wait between two fragments, while another sends many, is no disorder.
	s.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/ipfrag_max_dist", []byte("0"), 0) })
	conn := s.UDP(address)
	if raw, err := conn.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20)
		})
	}
	c := &Capture{done: make(chan struct{}), stop: func() { _ = conn.Close() }}
	go func() {
		defer close(c.done)
		b := make([]byte, 1<<17)
		for {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			c.add(inner(b[:n]))
		}
	}()
	s.t.Cleanup(c.Stop)
	return c
}

// inner takes a VXLAN packet's frame out of a datagram.
func inner(b []byte) Frame {
	if len(b) < 8 {
		return Frame{}
	}
	return Frame{Data: append([]byte(nil), b[8:]...), VNI: binary.BigEndian.Uint32(b[4:8]) >> 8}
}

// SourceMAC is that of a frame.
func (f Frame) SourceMAC() net.HardwareAddr {
	if len(f.Data) < 12 {
		return nil
	}
	return f.Data[6:12]
}
