package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// serve answers on a socket for as long as the test runs.
func serve(t *testing.T, answer func(context.Context, Request) (map[string]string, error)) string {
	t.Helper()
	l, socket := listen(t)
	serveOn(t, l, answer)
	return socket
}

// serveOn answers on a listener for as long as the test runs.
func serveOn(t *testing.T, l net.Listener, answer func(context.Context, Request) (map[string]string, error)) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- Serve(l, answer, nil) }()
	t.Cleanup(func() {
		l.Close()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Serve: %v", err)
			}
		case <-time.After(Timeout):
			t.Error("Serve goes on without its listener")
		}
	})
}

// echo answers with the question.
func echo(_ context.Context, q Request) (map[string]string, error) {
	return map[string]string{"namespace": q.Namespace, "name": q.Name, "uid": q.UID, "container": q.ContainerID}, nil
}

// say sends words to a socket, hangs up its writing half and returns the answer.
func say(t *testing.T, socket, words string) string {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, words); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(Timeout)); err != nil {
		t.Fatal(err)
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		t.Errorf("no answer to %.40q: %v", words, err)
	}
	return answer
}

func TestTheAgentAnswersTheQuestionThatWasAsked(t *testing.T) {
	got, err := Annotations(t.Context(), serve(t, echo), question)
	want := map[string]string{"namespace": "web", "name": "web-0", "uid": "1-2", "container": "c1"}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("annotations %v, error %v, want %v", got, err, want)
	}
}

func TestAPodWithoutAnnotationsIsNoError(t *testing.T) {
	for _, none := range []map[string]string{nil, {}} {
		got, err := Annotations(t.Context(), serve(t, func(context.Context, Request) (map[string]string, error) { return none, nil }), question)
		if err != nil || len(got) != 0 {
			t.Errorf("annotations %v, error %v", got, err)
		}
	}
}

func TestAllThatKubernetesAllowsFitsIntoAnAnswer(t *testing.T) {
	// 256 KiB, of a character that JSON escapes to six.
	want := map[string]string{"a": strings.Repeat("<", 256<<10-1)}
	got, err := Annotations(t.Context(), serve(t, func(context.Context, Request) (map[string]string, error) { return want, nil }), question)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%d bytes came through, error %v", len(got["a"]), err)
	}
}

func TestWhyTheAgentCannotTellReachesThePlugin(t *testing.T) {
	socket := serve(t, func(context.Context, Request) (map[string]string, error) {
		return map[string]string{"a": "b"}, errors.New("pod web/web-0 is another one, UID 3-4")
	})
	got, err := Annotations(t.Context(), socket, question)
	failsWith(t, "error", got, err, "answer of the node agent: ", "pod web/web-0 is another one, UID 3-4")
	// Beside an error nothing is told: it may be another pod's.
	if answer := say(t, socket, `{"version":1}`+"\n"); !strings.Contains(answer, `"annotations":null`) {
		t.Errorf("answer is %s, want no annotations in it", answer)
	}
}

func TestAnAnswerHasALittleLessThanTheProtocolsTimeout(t *testing.T) {
	left := make(chan time.Duration, 1)
	socket := serve(t, func(ctx context.Context, _ Request) (map[string]string, error) {
		deadline, _ := ctx.Deadline()
		left <- time.Until(deadline)
		return nil, nil
	})
	if _, err := Annotations(t.Context(), socket, question); err != nil {
		t.Fatal(err)
	}
	if d := <-left; d <= Timeout/2 || d > Timeout-200*time.Millisecond {
		t.Errorf("the answer has %v, want 200ms less than %v", d, Timeout)
	}
}

func TestThatTheAnswerIsLateReachesThePlugin(t *testing.T) {
	t.Parallel() // it waits for nearly the whole Timeout
	socket := serve(t, func(ctx context.Context, _ Request) (map[string]string, error) {
		<-ctx.Done()
		return nil, fmt.Errorf("the API server does not answer: %w", ctx.Err())
	})
	got, err := Annotations(t.Context(), socket, question)
	failsWith(t, "late", got, err, `answer of the node agent: "the API server does not answer: context deadline exceeded"`)
	if errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the question ran out of time itself: %v", err)
	}
}

func TestAQuestionInAnotherVersionIsToldWhichIsSpoken(t *testing.T) {
	socket := serve(t, func(context.Context, Request) (map[string]string, error) {
		t.Error("a question in another version was answered")
		return nil, nil
	})
	for words, want := range map[string]string{
		`{"version":2,"namespace":"web","name":"web-0"}` + "\n": `"error":"protocol version 2; this agent speaks 1"`,
		`{"namespace":"web","name":"web-0"}` + "\n":             `"error":"protocol version 0; this agent speaks 1"`,
		"null\n": `"error":"protocol version 0; this agent speaks 1"`,
	} {
		if answer := say(t, socket, words); !strings.HasPrefix(answer, `{"version":1,`) || !strings.Contains(answer, want) {
			t.Errorf("answer to %s is %s, want %s", words, answer, want)
		}
	}
}

func TestGarbageDoesNotStopTheAgent(t *testing.T) {
	socket := serve(t, echo)
	for _, words := range []string{"", "\n", "hello\n", "[]\n", `{"version":1`, `{"version":"1"}` + "\n", "\x00\xff\n", "GET / HTTP/1.1\r\n\r\n", strings.Repeat("[", 20000) + "\n"} {
		if answer := say(t, socket, words); !strings.Contains(answer, `"error":"question not understood: `) {
			t.Errorf("answer to %.40q is %s", words, answer)
		}
	}
	if _, err := Annotations(t.Context(), socket, question); err != nil {
		t.Errorf("after the garbage: %v", err)
	}
}

func TestAQuestionOverTheLimitIsNotReadToItsEnd(t *testing.T) {
	socket := serve(t, echo)
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	chunk := []byte(strings.Repeat("x", 64<<10))
	sent := 0
	for err == nil && sent < 8*maxLine {
		if err = conn.SetWriteDeadline(time.Now().Add(Timeout)); err == nil {
			var n int
			n, err = conn.Write(chunk)
			sent += n
		}
	}
	if err == nil {
		t.Errorf("all of %d bytes were taken", sent)
	}
	if _, err := Annotations(t.Context(), socket, question); err != nil {
		t.Errorf("after the long question: %v", err)
	}
}

func TestOneWhoSaysNothingDoesNotHoldUpTheOthers(t *testing.T) {
	socket := serve(t, echo)
	for range 5 {
		silent, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		defer silent.Close()
	}
	start := time.Now()
	if _, err := Annotations(t.Context(), socket, question); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > Timeout/2 {
		t.Errorf("the answer took %v", took)
	}
}

func TestServingEndsWithItsListener(t *testing.T) {
	l, socket := listen(t)
	done := make(chan error, 1)
	go func() { done <- Serve(l, echo, nil) }()
	if _, err := Annotations(t.Context(), socket, question); err != nil {
		t.Fatal(err)
	}
	l.Close()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("Serve: %v", err)
		}
	case <-time.After(Timeout):
		t.Error("Serve goes on")
	}
}

// flaky is a listener whose first Accepts fail.
type flaky struct {
	net.Listener
	fails  int64
	called atomic.Int64
}

func (l *flaky) Accept() (net.Conn, error) {
	if l.called.Add(1) <= l.fails {
		return nil, &net.OpError{Op: "accept", Net: "unix", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return l.Listener.Accept()
}

func TestServingSurvivesThatItCannotAccept(t *testing.T) {
	l, socket := listen(t)
	f := &flaky{Listener: l, fails: 3}
	start := time.Now()
	serveOn(t, f, echo)
	got, err := Annotations(t.Context(), socket, question)
	if err != nil || got["name"] != "web-0" {
		t.Errorf("annotations %v, error %v", got, err)
	}
	// Out of descriptors, it must not use up the processor too.
	if took := time.Since(start); took < 3*acceptRetry {
		t.Errorf("after %v it had already tried %d times", took, f.called.Load())
	}
}

func TestServingEndsWithAListenerThatNeverAccepted(t *testing.T) {
	l, _ := listen(t)
	f := &flaky{Listener: l, fails: 1}
	l.Close()
	done := make(chan error, 1)
	go func() { done <- Serve(f, echo, nil) }()
	select {
	case err := <-done:
		if err != nil || f.called.Load() != 2 {
			t.Errorf("Serve: %v after %d tries, want none after 2", err, f.called.Load())
		}
	case <-time.After(Timeout):
		t.Error("Serve goes on")
	}
}
