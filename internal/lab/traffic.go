package lab

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// patience bounds the wait for one packet.
const patience = 2 * time.Second

// Ping sends echo requests one after the other, each with its own payload, and
// returns how many were answered.
func (s *Space) Ping(to string, count int) int {
	s.t.Helper()
	address := netip.MustParseAddr(to)
	network, protocol := "ip4:icmp", 1
	var request, reply icmp.Type = ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply
	if address.Is6() {
		network, protocol = "ip6:ipv6-icmp", 58
		request, reply = ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply
	}
	answered := 0
	s.Do(func() error {
		conn, err := icmp.ListenPacket(network, "")
		if err != nil {
			return err
		}
		defer conn.Close()
		for i := 1; i <= count; i++ {
			m := icmp.Message{Type: request, Body: &icmp.Echo{ID: 0x7074, Seq: i, Data: fmt.Appendf(nil, "podtap lab %d", i)}}
			b, err := m.Marshal(nil)
			if err != nil {
				return err
			}
			if _, err := conn.WriteTo(b, &net.IPAddr{IP: address.AsSlice()}); err != nil {
				return err
			}
			if awaitReply(conn, protocol, reply, i) {
				answered++
			}
		}
		return nil
	})
	return answered
}

// awaitReply waits for the answer to one echo request.
func awaitReply(conn *icmp.PacketConn, protocol int, reply icmp.Type, sequence int) bool {
	b := make([]byte, 2048)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if conn.SetReadDeadline(deadline) != nil {
			return false
		}
		n, _, err := conn.ReadFrom(b)
		if err != nil {
			return false
		}
		m, err := icmp.ParseMessage(protocol, b[:n])
		if err != nil || m.Type != reply {
			continue
		}
		if echo, ok := m.Body.(*icmp.Echo); ok && echo.Seq == sequence && echo.ID == 0x7074 {
			return true
		}
	}
	return false
}

// UDP opens a UDP socket in the namespace, with room for a burst.
func (s *Space) UDP(address string) *net.UDPConn {
	s.t.Helper()
	var conn *net.UDPConn
	s.Do(func() error {
		c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(address)))
		conn = c
		return err
	})
	// As far as the kernel's limit lets us; the sender is paced anyway.
	_ = conn.SetReadBuffer(8 << 20)
	s.t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// Payload is the n-th datagram of a burst: its number, and bytes made from that.
func Payload(n, size int) []byte {
	b := make([]byte, size)
	binary.BigEndian.PutUint32(b, uint32(n))
	for i := 4; i < size; i++ {
		b[i] = byte(n*31 + i)
	}
	return b
}

// Burst sends count datagrams of Payload from one socket to the other and returns
// how many arrived. It is never more than a window ahead of the receiver, nor of
// captures that see every datagram: their buffers are an ordinary user's.
func Burst(t T, from, to *net.UDPConn, target string, count, size int, captures ...*Capture) int {
	t.Helper()
	// An ordinary user's socket takes about 200 KiB, and a packet in it takes up to
	// three times its size. What a capture has to hold may be two windows: it is waited
	// for at the end of one, when the next is on its way.
	window := max(1, min(32, 24<<10/size))
	address := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(target))
	seen := make([]int, len(captures))
	for i, c := range captures {
		seen[i] = len(c.Settle(0)) // what came before is no part of what is waited for
	}
	b := make([]byte, 65536)
	received, sent := 0, 0
	for received < count {
		for ; sent < count && sent < received+window; sent++ {
			if _, err := from.WriteTo(Payload(sent, size), address); err != nil {
				t.Fatalf("send datagram %d to %s: %v", sent, target, err)
			}
		}
		if err := to.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatalf("receive: %v", err)
		}
		if _, _, err := to.ReadFrom(b); err != nil {
			t.Logf("after %d of %d datagrams: %v", received, count, err)
			return received
		}
		received++
		for i, c := range captures {
			if received%window == 0 && !c.await(seen[i]+received) {
				t.Logf("after %d of %d datagrams a capture has %d frames", received, count, c.Len()-seen[i])
				return received
			}
		}
	}
	return received
}

// Send sends one datagram.
func Send(t T, from *net.UDPConn, to string, port int, payload []byte) {
	t.Helper()
	if _, err := from.WriteTo(payload, &net.UDPAddr{IP: net.ParseIP(to), Port: port}); err != nil {
		t.Fatalf("send a datagram to %s port %d: %v", to, port, err)
	}
}
