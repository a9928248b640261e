// Package agent is the small protocol by which the CNI plugin asks the node's
// agent for a pod's annotations where the runtime did not hand them over. Over a
// Unix socket that only root should be able to use, the plugin writes one line of JSON, a
// Request, and reads one line back, a Response; then both hang up. Both sides
// are here, so that they cannot disagree.
package agent

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

const (
	// Version is that of the protocol. An agent answers a version that it does
	// not know with an error that names those that it does.
	Version = 1
	// Timeout bounds one question from connect to answer: a pod's start waits for it.
	Timeout = 2 * time.Second
	// maxLine bounds a line in bytes; Kubernetes allows 256 KiB of annotations,
	// which JSON may escape to a few times that.
	maxLine = 2 << 20
	// answerTimeout is what the agent has for an answer, so that a late one can
	// still be told as that.
	answerTimeout = Timeout - 200*time.Millisecond
	acceptRetry   = 50 * time.Millisecond
)

// Request asks for the annotations of one pod. ContainerID and UID are those of
// the sandbox, with which the agent tells a pod from its namesake before it.
type Request struct {
	Version     int    `json:"version"`
	Namespace   string `json:"namespace"`
	Name        string `json:"name"`
	UID         string `json:"uid,omitempty"`
	ContainerID string `json:"containerID"`
}

// Response has the pod's annotations, or says why not.
type Response struct {
	Version     int               `json:"version"`
	Annotations map[string]string `json:"annotations"`
	Error       string            `json:"error,omitempty"`
}

// Annotations asks the agent at a socket. It returns within Timeout, or when ctx ends.
func Annotations(ctx context.Context, socket string, q Request) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, fmt.Errorf("ask the node agent: %w", err)
	}
	defer conn.Close()
	// A deadline in the past ends whatever waits for the connection.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	q.Version = Version
	if err := json.NewEncoder(conn).Encode(q); err != nil {
		return nil, fmt.Errorf("ask the node agent: %w", cmp.Or(ctx.Err(), err))
	}
	var r Response
	if err := readLine(conn, &r); err != nil {
		return nil, fmt.Errorf("answer of the node agent: %w", cmp.Or(ctx.Err(), err))
	}
	switch {
	case r.Error != "":
		return nil, fmt.Errorf("answer of the node agent: %.200q", r.Error)
	case r.Version != Version:
		return nil, fmt.Errorf("answer of the node agent: protocol version %d; this plugin speaks %d", r.Version, Version)
	}
	return r.Annotations, nil
}

func readLine(r io.Reader, into any) error {
	line, err := bufio.NewReader(io.LimitReader(r, maxLine)).ReadBytes('\n')
	switch {
	case errors.Is(err, io.EOF) && len(line) < maxLine:
		return errors.New("the connection ended before the line did")
	case errors.Is(err, io.EOF):
		return fmt.Errorf("no complete line within %d bytes", maxLine)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(line, into)
}

// Serve answers questions from a listener until it is closed. Each question has
// the protocol's Timeout; answer gets a context that ends a little before.
func Serve(l net.Listener, answer func(context.Context, Request) (map[string]string, error)) error {
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			// Out of descriptors, say: that passes, and giving up would not help.
			time.Sleep(acceptRetry)
			continue
		}
		go serveOne(conn, answer)
	}
}

func serveOne(conn net.Conn, answer func(context.Context, Request) (map[string]string, error)) {
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
	default:
		r.Annotations, err = answer(ctx, q)
	}
	if err != nil {
		r = Response{Version: Version, Error: err.Error()}
	}
	// A plugin that has hung up meanwhile needs no answer.
	_ = json.NewEncoder(conn).Encode(r)
}
