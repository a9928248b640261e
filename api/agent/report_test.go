package agent

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var failure = Failure{Namespace: "web", Name: "web-0", UID: "1-2", ContainerID: "c1", Code: 100, Message: "tap 1 is refused", Started: true}

// report reports, on a busy machine after some attempts.
func report(t *testing.T, socket string, failures ...Failure) {
	t.Helper()
	var err error
	for range 20 {
		if err = Report(t.Context(), socket, failures...); err == nil {
			return
		}
	}
	t.Fatal(err)
}

func TestAReportReachesTheAgentWhole(t *testing.T) {
	l, socket := listen(t)
	told := make(chan Failure, 100)
	go func() {
		_ = Serve(l, func(context.Context, Request) (map[string]string, error) {
			t.Error("a report was taken for a question")
			return nil, nil
		}, func(f Failure) { told <- f })
	}()
	second := failure
	second.Message, second.Started = strings.Repeat("long ", 400), false
	report(t, socket, failure, second)
	got := map[Failure]bool{}
	for !got[failure] || !got[second] {
		select {
		case f := <-told:
			got[f] = true
		case <-time.After(10 * time.Second):
			t.Fatalf("the agent was only told %v", got)
		}
	}
	if len(got) != 2 {
		t.Errorf("the agent was told %v", got)
	}
}

// An agent that knows no failures sees a question for no pod. It must not look one up.
func TestAReportNamesNoPodToAnAgentThatKnowsNoFailures(t *testing.T) {
	lines := make(chan string, 100)
	socket := agentThat(t, func(conn net.Conn) {
		line, _ := bufio.NewReader(conn).ReadString('\n')
		lines <- line
	})
	report(t, socket, failure)
	want := `{"version":1,"namespace":"","name":"","containerID":"","failure":{"namespace":"web","name":"web-0","uid":"1-2",` +
		`"containerID":"c1","code":100,"message":"tap 1 is refused","started":true}}` + "\n"
	if line := <-lines; line != want {
		t.Errorf("report is %swant %s", line, want)
	}
}

func TestAnAgentThatWantsNoReportsGoesOn(t *testing.T) {
	socket := serve(t, func(ctx context.Context, q Request) (map[string]string, error) {
		if q.Failure != nil {
			t.Error("a report was taken for a question")
		}
		return echo(ctx, q)
	})
	if answer := say(t, socket, `{"version":1,"failure":{}}`+"\n"); answer != `{"version":1,"annotations":null}`+"\n" {
		t.Errorf("a report has the answer %s", answer)
	}
	report(t, socket, failure)
	if _, err := Annotations(t.Context(), socket, question); err != nil {
		t.Errorf("after a report: %v", err)
	}
}

func TestAReportDoesNotWaitForAnAnswer(t *testing.T) {
	_, socket := listen(t) // nobody accepts
	report(t, socket, failure)
}

func TestAReportThatNobodyTakesIsGivenUp(t *testing.T) {
	_, socket := listen(t)
	large := failure
	large.Message = strings.Repeat("x", 4<<20) // more than a socket holds
	begin := time.Now()
	err := Report(t.Context(), socket, large, large, large)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v, want that of the deadline", err)
	}
	if took := time.Since(begin); took < ReportTimeout || took > ReportTimeout+2*time.Second {
		t.Errorf("it took %v, want about %v for all together", took, ReportTimeout)
	}
	if err := Report(t.Context(), filepath.Join(t.TempDir(), "none.sock"), failure); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without an agent: %v", err)
	}
}

// Whoever connects and says nothing takes a place for as long as the protocol's
// Timeout; the rest wait for one.
func TestNoMoreAreServedAtOnceThanThereArePlaces(t *testing.T) {
	t.Parallel() // it waits for the whole Timeout
	working, most := make(chan int, 1), 0
	working <- 0
	release := make(chan struct{})
	socket := serve(t, func(context.Context, Request) (map[string]string, error) {
		n := <-working + 1
		most = max(most, n)
		working <- n
		<-release
		working <- <-working - 1
		return nil, nil
	})
	const askers = maxConnections + 20
	done := make(chan error, askers)
	for range askers {
		go func() {
			_, err := Annotations(t.Context(), socket, question)
			done <- err
		}()
	}
	deadline := time.Now().Add(Timeout)
	for n := 0; n < maxConnections && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		n = <-working
		working <- n
	}
	time.Sleep(100 * time.Millisecond) // for one more than there may be
	close(release)
	for range askers {
		if err := <-done; err != nil {
			t.Log(err) // on a busy machine some wait for longer than they may
		}
	}
	<-working
	if most > maxConnections {
		t.Errorf("%d were served at once, want %d at most", most, maxConnections)
	}
	t.Logf("%d of %d were served at once", most, askers)
}
