package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"
)

// sent is what a client counted. Bytes are payload.
type sent struct {
	Proto         string `json:"proto"`
	Local         string `json:"local"`
	Remote        string `json:"remote"`
	Sent          int64  `json:"sent,omitempty"` // datagrams; TCP has none
	SentBytes     int64  `json:"sentBytes"`
	Received      int64  `json:"received,omitempty"`
	ReceivedBytes int64  `json:"receivedBytes"`
}

type udp struct {
	n, size        int
	interval, echo time.Duration
	df             bool
}

// send sends n datagrams, each with its number in the first 8 bytes if they are
// there. The socket is not connected: an ICMP error of one datagram would else fail
// the next.
func (u udp) send(addr string) (sent, error) {
	to, err := net.ResolveUDPAddr("udp", addr)
	if err != nil {
		return sent{}, err
	}
	network := "udp6"
	if to.IP.To4() != nil {
		network = "udp4"
	}
	c, err := net.ListenUDP(network, nil)
	if err != nil {
		return sent{}, err
	}
	defer c.Close()
	_ = c.SetReadBuffer(8 << 20)
	r := sent{Proto: "udp", Local: c.LocalAddr().String(), Remote: to.String()}
	if u.df {
		if err := forbidFragments(c, network); err != nil {
			return r, err
		}
	}
	answers := make(chan sent, 1)
	if u.echo > 0 {
		go func() { answers <- u.receive(c) }()
	}
	b := make([]byte, u.size)
	for i := range u.n {
		if u.size >= 8 {
			binary.BigEndian.PutUint64(b, uint64(i))
		}
		if _, err := c.WriteTo(b, to); err != nil {
			return r, fmt.Errorf("datagram %d of %d: %w", i+1, u.n, err)
		}
		r.Sent++
		r.SentBytes += int64(u.size)
		if i+1 < u.n {
			time.Sleep(u.interval)
		}
	}
	if u.echo == 0 {
		return r, nil
	}
	_ = c.SetReadDeadline(time.Now().Add(u.echo))
	a := <-answers
	r.Received, r.ReceivedBytes = a.Received, a.ReceivedBytes
	if int(r.Received) < u.n {
		err = fmt.Errorf("%d of %d answers came in %v", r.Received, u.n, u.echo)
	}
	return r, err
}

// receive counts up to n answers, until the deadline or the end of the socket.
func (u udp) receive(c *net.UDPConn) (r sent) {
	b := make([]byte, 64<<10)
	for int(r.Received) < u.n {
		n, _, err := c.ReadFrom(b)
		if err != nil {
			break
		}
		r.Received++
		r.ReceivedBytes += int64(n)
	}
	return r
}

func forbidFragments(c *net.UDPConn, network string) error {
	level, option, value := syscall.IPPROTO_IP, syscall.IP_MTU_DISCOVER, syscall.IP_PMTUDISC_DO
	if network == "udp6" {
		level, option, value = syscall.IPPROTO_IPV6, syscall.IPV6_MTU_DISCOVER, syscall.IPV6_PMTUDISC_DO
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	if e := raw.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), level, option, value) }); e != nil {
		return e
	}
	return err
}

// tcp sends n bytes over one connection and wants the same back.
func tcp(addr string, n int64, timeout time.Duration) (sent, error) {
	c, err := net.DialTimeout("tcp", addr, timeout)
	if err != nil {
		return sent{}, err
	}
	defer c.Close()
	r := sent{Proto: "tcp", Local: c.LocalAddr().String(), Remote: c.RemoteAddr().String()}
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return r, err
	}
	done := make(chan error, 1)
	go func() { done <- echoed(c, n, &r) }()
	b := make([]byte, 64<<10)
	for r.SentBytes < n {
		m := fill(b[:min(int64(len(b)), n-r.SentBytes)], r.SentBytes)
		if _, err := c.Write(m); err != nil {
			return r, err
		}
		r.SentBytes += int64(len(m))
	}
	// Both ends' FIN come before this process's end, which may be that of its pod's network.
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return r, err
	}
	if err := <-done; err != nil {
		return r, err
	}
	if _, err := c.Read(b[:1]); !errors.Is(err, io.EOF) {
		return r, fmt.Errorf("the server does not close after %d bytes: %v", n, err)
	}
	return r, nil
}

// echoed reads n bytes and compares them with what was sent.
func echoed(c net.Conn, n int64, r *sent) error {
	b, want := make([]byte, 64<<10), make([]byte, 64<<10)
	for r.ReceivedBytes < n {
		m, err := c.Read(b)
		if err != nil {
			return fmt.Errorf("%d of %d bytes came back: %w", r.ReceivedBytes, n, err)
		}
		if string(b[:m]) != string(fill(want[:m], r.ReceivedBytes)) {
			return errors.New("other bytes came back than were sent")
		}
		r.ReceivedBytes += int64(m)
	}
	return nil
}

// fill writes what a stream has from offset on: no power of two long, so that a lost
// or repeated block shows.
func fill(b []byte, offset int64) []byte {
	for i := range b {
		b[i] = byte((offset + int64(i)) % 251)
	}
	return b
}
