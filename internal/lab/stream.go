package lab

import (
	"io"
	"math/rand/v2"
	"net"
	"time"
)

// Stream sends size bytes, none like its neighbours, over TCP from one namespace to an address of another,
// which sends them back, and returns how many came back.
func Stream(t T, from, to *Space, address string, size int) int {
	t.Helper()
	const limit = 20 * time.Second
	var listener net.Listener
	to.Do(func() error {
		l, err := net.Listen("tcp", net.JoinHostPort(address, "7000"))
		listener = l
		return err
	})
	defer listener.Close()
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(limit))
		_, _ = io.Copy(conn, conn)
	}()
	var conn net.Conn
	from.Do(func() error {
		c, err := net.DialTimeout("tcp", listener.Addr().String(), limit)
		conn = c
		return err
	})
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(limit))
	go func() {
		b := make([]byte, size)
		_, _ = rand.NewChaCha8([32]byte{}).Read(b)
		_, _ = conn.Write(b) // at once, for the largest super-packets
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	n, err := io.Copy(io.Discard, conn)
	if err != nil {
		t.Logf("stream: %v", err)
	}
	return int(n)
}
