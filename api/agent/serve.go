package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"
)

const (
	// answerTimeout is what the agent has for an answer, so that a late one can
	// still be told as that.
	answerTimeout = Timeout - 200*time.Millisecond
	acceptRetry   = 50 * time.Millisecond
	// maxConnections is how many plugins are served at once. The next ones wait in
	// the listener's queue; a runtime starts a few dozen pods at a time.
	maxConnections = 64
)

// Serve answers questions from a listener until it is closed, and hands failures to
// failed, which may be nil. Each connection has the protocol's Timeout; answer gets a
// context that ends a little before. Both are called at the same time for several pods.
func Serve(l net.Listener, answer func(context.Context, Request) (map[string]string, error), failed func(Failure)) error {
	free := make(chan struct{}, maxConnections)
	for {
		free <- struct{}{}
		conn, err := l.Accept()
		if err == nil {
			go func() {
				defer func() { <-free }()
				serveOne(conn, answer, failed)
			}()
			continue
		}
		<-free
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		// Out of descriptors, say: that passes, and giving up would not help.
		time.Sleep(acceptRetry)
	}
}

func serveOne(conn net.Conn, answer func(context.Context, Request) (map[string]string, error), failed func(Failure)) {
	defer conn.Close()
	if conn.SetDeadline(time.Now().Add(Timeout)) != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), answerTimeout)
	defer cancel()
	var q Request
	r := Response{Version: Version}
	err := readLine(conn, &q)
	switch {
	case err != nil:
		err = fmt.Errorf("question not understood: %w", err)
	case q.Version != Version:
		err = fmt.Errorf("protocol version %d; this agent speaks %d", q.Version, Version)
	case q.Failure != nil:
		if failed != nil {
			failed(*q.Failure)
		}
	default:
		r.Annotations, err = answer(ctx, q)
	}
	if err != nil {
		r = Response{Version: Version, Error: err.Error()}
	}
	// A plugin that has hung up meanwhile needs no answer.
	_ = json.NewEncoder(conn).Encode(r)
}
