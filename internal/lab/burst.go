package lab

import (
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Flow sends datagrams of Payload from one socket to the other as fast as they are
// received, until there are count of them or a function says that it is enough, and
// returns how many were sent and how many arrived. Unlike Burst it waits for no capture.
func Flow(t T, from, to *net.UDPConn, target string, count, size int, enough func() bool) (sent, arrived int) {
	t.Helper()
	const window = 32 // that an ordinary user's socket holds, as in Burst
	address := netip.MustParseAddrPort(target)
	if err := to.SetReadDeadline(time.Time{}); err != nil {
		t.Fatalf("receive: %v", err)
	}
	var received atomic.Int64
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 65536)
		for {
			if _, _, err := to.ReadFromUDPAddrPort(b); err != nil {
				return
			}
			received.Add(1)
		}
	}()
	for sent < count && !enough() {
		if !awaitAtLeast(&received, sent-window+1) {
			break // one was lost
		}
		if _, err := from.WriteToUDPAddrPort(Payload(sent, size), address); err != nil {
			t.Fatalf("send datagram %d to %s: %v", sent, target, err)
		}
		sent++
	}
	awaitAtLeast(&received, sent)
	_ = to.SetReadDeadline(time.Now())
	<-done
	_ = to.SetReadDeadline(time.Time{})
	return sent, int(received.Load())
}

// awaitAtLeast waits until a number is so large, for the patience of one packet.
func awaitAtLeast(n *atomic.Int64, least int) bool {
	for deadline := time.Now().Add(patience); n.Load() < int64(least); runtime.Gosched() {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// BurstOfSegments sends count datagrams of Payload, so many at once for the kernel to
// segment, as QUIC's senders do (UDP GSO). It returns how many arrived, and waits for
// captures that see every datagram, as Burst does.
func BurstOfSegments(t T, from, to *net.UDPConn, target string, count, size, atOnce int, captures ...*Capture) int {
	t.Helper()
	segment(t, from, size)
	defer segment(t, from, 0)
	address := netip.MustParseAddrPort(target)
	seen := make([]int, len(captures))
	for i, c := range captures {
		seen[i] = len(c.Settle(0))
	}
	b := make([]byte, 65536)
	received := 0
	for sent := 0; sent < count; {
		var whole []byte
		for ; sent < count && len(whole) < atOnce*size; sent++ {
			whole = append(whole, Payload(sent, size)...)
		}
		if _, err := from.WriteToUDPAddrPort(whole, address); err != nil {
			t.Fatalf("send %d bytes to %s in segments of %d: %v", len(whole), target, size, err)
		}
		for ; received < sent; received++ {
			if err := to.SetReadDeadline(time.Now().Add(patience)); err != nil {
				t.Fatalf("receive: %v", err)
			}
			if n, _, err := to.ReadFromUDPAddrPort(b); err != nil || n != size {
				t.Logf("after %d of %d datagrams: %d bytes, %v", received, count, n, err)
				return received
			}
		}
		for i, c := range captures {
			if !c.await(seen[i] + received) {
				t.Logf("after %d of %d datagrams a capture has %d frames", received, count, c.Len()-seen[i])
				return received
			}
		}
	}
	return received
}

// segment has the kernel make datagrams of a size out of what a socket sends at once; 0 is
// one datagram, whatever its size.
func segment(t T, c *net.UDPConn, size int) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err == nil {
		var failed error
		err = raw.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, size) })
		if err == nil {
			err = failed
		}
	}
	if err != nil {
		t.Fatalf("segment to %d bytes: %v", size, err)
	}
}
