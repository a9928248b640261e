package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"
)

var question = Request{Namespace: "web", Name: "web-0", UID: "1-2", ContainerID: "c1"}

// listen opens a socket for as long as the test runs.
func listen(t *testing.T) (net.Listener, string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "agent.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, socket
}

// agentThat is a socket behind which each connection is handled, and then closed.
func agentThat(t *testing.T, handle func(net.Conn)) string {
	t.Helper()
	l, socket := listen(t)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				handle(conn)
			}()
		}
	}()
	return socket
}

// answers reads the question and says some words.
func answers(words string) func(net.Conn) {
	return func(conn net.Conn) {
		if _, err := bufio.NewReader(conn).ReadString('\n'); err == nil {
			_, _ = io.WriteString(conn, words)
		}
	}
}

// failsWith insists on an error with some words.
func failsWith(t *testing.T, what string, got map[string]string, err error, words ...string) {
	t.Helper()
	if err == nil || got != nil {
		t.Errorf("%s: annotations %v, error %v, want an error alone", what, got, err)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%s: message %q lacks %q", what, err, word)
		}
	}
}

func TestTheQuestionIsOneLineOfJSON(t *testing.T) {
	lines := make(chan string, 1)
	socket := agentThat(t, func(conn net.Conn) {
		line, _ := bufio.NewReader(conn).ReadString('\n')
		lines <- line
		_, _ = io.WriteString(conn, `{"version":1,"annotations":{"a":"b"}}`+"\n")
	})
	got, err := Annotations(t.Context(), socket, question)
	if err != nil || !reflect.DeepEqual(got, map[string]string{"a": "b"}) {
		t.Errorf("annotations %v, error %v", got, err)
	}
	want := `{"version":1,"namespace":"web","name":"web-0","uid":"1-2","containerID":"c1"}` + "\n"
	if line := <-lines; line != want {
		t.Errorf("question is %swant %s", line, want)
	}
}

func TestABadAnswerIsAnError(t *testing.T) {
	const hungUp = "the connection ended before the line did"
	incomplete := fmt.Sprintf("no complete line within %d bytes", maxLine)
	for _, c := range []struct{ what, answer, message string }{
		{"not JSON", "yes\n", "invalid character 'y'"},
		{"another shape", "[]\n", "array"},
		{"annotations that are none", `{"version":1,"annotations":["a"]}` + "\n", "annotations"},
		{"an empty line", "\n", "unexpected end of JSON input"},
		{"nothing", "", hungUp},
		{"half an answer", `{"version":1,"annot`, hungUp},
		{"an answer without its end", `{"version":1,"annotations":{}}`, hungUp},
		{"one byte less than too much", strings.Repeat(" ", maxLine-1), hungUp},
		{"a line without an end", strings.Repeat(" ", maxLine), incomplete},
		{"too much", `{"version":1,"annotations":{"a":"` + strings.Repeat("x", maxLine), incomplete},
		{"an older version", `{"version":0,"annotations":{"a":"b"}}` + "\n", "protocol version 0; this plugin speaks 1"},
		{"a newer version", `{"version":2,"annotations":{"a":"b"}}` + "\n", "protocol version 2; this plugin speaks 1"},
		{"no version", "null\n", "protocol version 0; this plugin speaks 1"},
		{"the agent's error", `{"version":1,"annotations":{"a":"b"},"error":"no such\npod"}` + "\n", `"no such\npod"`},
		// The reason counts, also where the version is not ours.
		{"a newer agent's error", `{"version":2,"error":"protocol version 1; this agent speaks 2"}` + "\n", "protocol version 1; this agent speaks 2"},
	} {
		got, err := Annotations(t.Context(), agentThat(t, answers(c.answer)), question)
		failsWith(t, c.what, got, err, "answer of the node agent: ", c.message)
	}
}

func TestTheAgentsErrorIsCut(t *testing.T) {
	socket := agentThat(t, answers(`{"version":1,"error":"`+strings.Repeat("x", 5000)+`"}`+"\n"))
	got, err := Annotations(t.Context(), socket, question)
	failsWith(t, "long error", got, err, strings.Repeat("x", 200)+`"`)
	if err != nil && len(err.Error()) > 300 {
		t.Errorf("message has %d bytes", len(err.Error()))
	}
}

func TestAnAgentThatHangsUpIsAnErrorAtOnce(t *testing.T) {
	start := time.Now()
	got, err := Annotations(t.Context(), agentThat(t, func(net.Conn) {}), question)
	failsWith(t, "hung up", got, err, "the node agent: ")
	if took := time.Since(start); took > Timeout/2 {
		t.Errorf("it took %v", took)
	}
}

func TestAnAgentThatNeverAnswersIsGivenUp(t *testing.T) {
	t.Parallel() // it waits for the whole Timeout
	start := time.Now()
	socket := agentThat(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	got, err := Annotations(t.Context(), socket, question)
	took := time.Since(start)
	failsWith(t, "silence", got, err, "answer of the node agent: context deadline exceeded")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v, want that of the context", err)
	}
	if took < Timeout-100*time.Millisecond || took > Timeout+time.Second {
		t.Errorf("it took %v, want about %v", took, Timeout)
	}
}

func TestWithoutAnAgentThereIsAnErrorAtOnce(t *testing.T) {
	got, err := Annotations(t.Context(), filepath.Join(t.TempDir(), "none.sock"), question)
	failsWith(t, "no socket", got, err, "ask the node agent: ", "none.sock")
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error is %v, want one of a missing file", err)
	}

	// An agent that was killed leaves its socket's file behind.
	l, socket := listen(t)
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	got, err = Annotations(t.Context(), socket, question)
	failsWith(t, "nobody listens", got, err, "ask the node agent: ")
	if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("error is %v, want connection refused", err)
	}
}

func TestTheCallersContextEndsTheQuestion(t *testing.T) {
	socket := agentThat(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })

	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	got, err := Annotations(cancelled, socket, question)
	failsWith(t, "cancelled", got, err, "ask the node agent: ")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v, want that of the context", err)
	}

	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	start := time.Now()
	got, err = Annotations(short, socket, question)
	failsWith(t, "short deadline", got, err, "answer of the node agent: context deadline exceeded")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v, want that of the context", err)
	}
	if took := time.Since(start); took > Timeout/2 {
		t.Errorf("it took %v of a deadline of 50ms", took)
	}
}

func TestCancellingEndsTheQuestionAtOnce(t *testing.T) {
	for what, begins := range map[string]string{"silence": "", "half an answer": `{"version":1,"annot`} {
		asked := make(chan struct{})
		socket := agentThat(t, func(conn net.Conn) {
			answers(begins)(conn)
			close(asked)
			_, _ = io.Copy(io.Discard, conn)
		})
		ctx, cancel := context.WithCancel(t.Context())
		cancelled := make(chan time.Time, 1)
		go func() {
			<-asked
			cancelled <- time.Now()
			cancel()
		}()
		got, err := Annotations(ctx, socket, question)
		took := time.Since(<-cancelled)
		failsWith(t, what, got, err, "answer of the node agent: context canceled")
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: error is %v, want that of the context", what, err)
		}
		if took >= time.Second {
			t.Errorf("%s: it went on for %v", what, took)
		}
	}
}
