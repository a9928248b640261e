// Package agent is the small protocol by which the CNI plugin asks the node's
// agent for a pod's annotations where the runtime did not hand them over, and tells
// it of taps that could not be made. Over a Unix socket that only root can use, the
// plugin writes one line of JSON, a Request, and reads one line back, a Response; then
// both hang up. Both sides are here, so that they cannot disagree.
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
)

// Request asks for the annotations of one pod. ContainerID and UID are those of
// the sandbox, with which the agent tells a pod from its namesake before it. With a
// Failure it asks nothing, and names no pod beside the failure's: an agent that does
// not know of failures looks for no pod, and answers with an error that nobody reads.
type Request struct {
	Version     int      `json:"version"`
	Namespace   string   `json:"namespace"`
	Name        string   `json:"name"`
	UID         string   `json:"uid,omitempty"`
	ContainerID string   `json:"containerID"`
	Failure     *Failure `json:"failure,omitempty"`
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
	q.Version = Version
	conn, stop, err := send(ctx, socket, q)
	if err != nil {
		return nil, fmt.Errorf("ask the node agent: %w", err)
	}
	defer stop()
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

// send connects and writes the request. The end of ctx ends whatever is done with the
// connection; stop closes it.
func send(ctx context.Context, socket string, q Request) (conn net.Conn, stop func(), err error) {
	conn, err = (&net.Dialer{}).DialContext(ctx, "unix", socket)
	if err != nil {
		return nil, nil, err
	}
	// A deadline in the past ends whatever waits for the connection.
	forget := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	stop = func() {
		forget()
		_ = conn.Close()
	}
	if err := json.NewEncoder(conn).Encode(q); err != nil {
		stop()
		return nil, nil, cmp.Or(ctx.Err(), err)
	}
	return conn, stop, nil
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
