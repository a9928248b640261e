package main

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

// counts is what a server has received. Bytes are payload.
type counts struct {
	TCPConnections int64 `json:"tcpConnections"`
	TCPBytes       int64 `json:"tcpBytes"`
	UDPDatagrams   int64 `json:"udpDatagrams"`
	UDPBytes       int64 `json:"udpBytes"`
}

type server struct {
	sink                                       bool
	connections, tcpBytes, datagrams, udpBytes atomic.Int64
}

func (s *server) counts() counts {
	return counts{s.connections.Load(), s.tcpBytes.Load(), s.datagrams.Load(), s.udpBytes.Load()}
}

// serve runs until SIGTERM or SIGINT. It listens on addr, and on the next TCP port
// for stats.
func serve(addr string, sink bool) (counts, error) {
	s := &server{sink: sink}
	next, err := statsAddress(addr)
	if err != nil {
		return counts{}, err
	}
	echo, err := net.Listen("tcp", addr)
	if err != nil {
		return counts{}, err
	}
	packets, err := net.ListenPacket("udp", addr)
	if err != nil {
		return counts{}, err
	}
	stats, err := net.Listen("tcp", next)
	if err != nil {
		return counts{}, err
	}
	failed := make(chan error, 3)
	go func() { failed <- accept(echo, s.stream) }()
	go func() { failed <- s.packets(packets) }()
	go func() {
		failed <- accept(stats, func(c net.Conn) { _ = json.NewEncoder(c).Encode(s.counts()) })
	}()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	select {
	case err = <-failed:
	case <-stop:
	}
	return s.counts(), err
}

// accept handles each connection, which it closes then.
func accept(l net.Listener, handle func(net.Conn)) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			handle(c)
		}()
	}
}

func (s *server) stream(c net.Conn) {
	s.connections.Add(1)
	b := make([]byte, 64<<10)
	for {
		n, err := c.Read(b)
		s.tcpBytes.Add(int64(n))
		if err == nil && !s.sink {
			_, err = c.Write(b[:n])
		}
		if err != nil {
			return
		}
	}
}

func (s *server) packets(c net.PacketConn) error {
	_ = c.(*net.UDPConn).SetReadBuffer(8 << 20) // a burst must not be lost here
	b := make([]byte, 64<<10)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return err
		}
		s.datagrams.Add(1)
		s.udpBytes.Add(int64(n))
		if !s.sink {
			_, _ = c.WriteTo(b[:n], from) // who asked sees what is missing
		}
	}
}

// stats asks the server at addr for its counts.
func stats(addr string, timeout time.Duration) (any, error) {
	next, err := statsAddress(addr)
	if err != nil {
		return nil, err
	}
	c, err := net.DialTimeout("tcp", next, timeout)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(c)
	if err == nil && !json.Valid(b) {
		err = errors.New("no netutil serves there")
	}
	return json.RawMessage(b), err
}

func statsAddress(addr string) (string, error) {
	host, p, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	port, err := strconv.Atoi(p)
	return net.JoinHostPort(host, strconv.Itoa(port+1)), err
}
