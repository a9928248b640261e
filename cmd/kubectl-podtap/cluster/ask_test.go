package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/podtap/podtap/api/node"
)

// dialTo is a cluster whose nodes are all the same server.
func dialTo(t *testing.T, h http.HandlerFunc) *Cluster {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return &Cluster{Namespace: DefaultNamespace, Timeout: 20 * time.Second, Dial: func(ctx context.Context, _ Podtapd) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", server.Listener.Addr().String())
	}}
}

func TestNoMoreNodesThanTheLimitAreAskedAtOnce(t *testing.T) {
	var now, most atomic.Int32
	c := dialTo(t, func(w http.ResponseWriter, _ *http.Request) {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		time.Sleep(20 * time.Millisecond)
		now.Add(-1)
		_, _ = w.Write([]byte("{}"))
	})
	for _, a := range c.Ask(t.Context(), make([]Podtapd, 40)) {
		if a.Err != nil {
			t.Error(a.Err)
		}
	}
	if most.Load() != atOnce {
		t.Errorf("%d were asked at once, want %d", most.Load(), atOnce)
	}
}

func TestAWrongAnswerIsAnError(t *testing.T) {
	huge := []byte(`{"errors":["` + strings.Repeat("x", 1<<20))
	for name, c := range map[string]struct {
		serve http.HandlerFunc
		says  string
	}{
		"not JSON":  {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }, "read podtapd's answer to /v1/taps: invalid character"},
		"cut short": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"taps":[`)) }, "unexpected end of JSON input"},
		"a refusal": {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "only\nroot", http.StatusForbidden) }, "podtapd answers 403 Forbidden to /v1/taps: only root"},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://169.254.169.254/", http.StatusFound)
		}, "podtapd answers 302 Found"},
		"a hang up": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "ask podtapd for /v1/taps: "},
		"no end of it": {func(w http.ResponseWriter, _ *http.Request) {
			for range 10 {
				if _, err := w.Write(huge); err != nil {
					return
				}
				huge = []byte(strings.Repeat("x", 1<<20))
			}
		}, "it has more than 8 MiB"},
		"no report": {func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == node.PathReport {
				http.NotFound(w, r)
				return
			}
			_, _ = w.Write([]byte(`{"taps":[{"pod":"a/b"}],"later":1}`))
		}, "podtapd answers 404 Not Found to /v1/report"},
	} {
		a := dialTo(t, c.serve).Ask(t.Context(), []Podtapd{{Node: "w", Pod: "p"}})[0]
		if a.Err == nil || !strings.Contains(a.Err.Error(), c.says) {
			t.Errorf("%s: %v, want %q", name, a.Err, c.says)
		}
		if told := a.Taps != nil; told != (name == "no report") {
			t.Errorf("%s: taps %+v", name, a.Taps)
		}
	}
}

// allocated is how much memory something takes, in bytes, that it may have given back.
func allocated(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// A few bytes of JSON can be hundreds in memory.
func TestAnAnswerOfManySmallThingsIsRefused(t *testing.T) {
	const n = 1_000_000
	for name, text := range map[string]string{
		"objects":            `{"taps":[` + strings.Repeat("{},", n) + `{}]}`,
		"nothings":           `{"taps":[` + strings.Repeat("null,", n) + `{}]}`,
		"of a wrong kind":    `{"taps":[` + strings.Repeat("1,", n) + `1]}`,
		"in several lists":   `{"taps":[{"directions":[` + strings.Repeat("1,", n/2) + `1]},{"directions":[` + strings.Repeat("1,", n/2) + `1]}]}`,
		"lists of nothing":   `{"taps":[` + strings.Repeat("[],", n) + `{}]}`,
		"behind odd strings": `{"later":"\"]}[\\","taps":[` + strings.Repeat("1,", n) + `1]}`,
		"objects in a map":   `{"taps":[{"directions":[{"dropped":{` + strings.Repeat(`"a":{},`, n) + `"a":{}}}]}]}`,
	} {
		var err error
		took := allocated(func() { err = decode(strings.NewReader(text), new(node.Taps)) })
		if err == nil || !strings.Contains(err.Error(), "more than 100000 objects") {
			t.Errorf("%s: %v", name, err)
		}
		if took > 64<<20 {
			t.Errorf("%s: it takes %d MiB", name, took>>20)
		}
	}
}

// As many taps as a large node can have, and commas in texts.
func TestALargeAnswerIsRead(t *testing.T) {
	amount := node.Amount{Packets: 1 << 40, Bytes: new(uint64)}
	var taps node.Taps
	for i := range 4000 {
		is := node.Tap{Pod: "default/" + strings.Repeat("n", 20) + fmt.Sprint(i), ContainerID: strings.Repeat("c", 64), Device: "mirror"}
		for range 2 {
			is.Directions = append(is.Directions, node.Counters{Matched: amount, Copied: amount, Dropped: map[string]node.Amount{"mirror": amount}})
		}
		taps.Taps = append(taps.Taps, is)
	}
	taps.Errors = []string{strings.Repeat(`,[{"\`, 1000)}
	text, err := json.MarshalIndent(taps, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	var got node.Taps
	if err := decode(bytes.NewReader(text), &got); err != nil || len(got.Taps) != len(taps.Taps) {
		t.Errorf("of %d taps in %d KiB there are %d: %v", len(taps.Taps), len(text)>>10, len(got.Taps), err)
	}
}

func TestBothQuestionsGoOverOneConnection(t *testing.T) {
	dials := 0
	c := dialTo(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("{}\n")) })
	dial := c.Dial
	c.Dial = func(ctx context.Context, p Podtapd) (net.Conn, error) {
		dials++
		return dial(ctx, p)
	}
	if a := c.Ask(t.Context(), make([]Podtapd, 1))[0]; a.Err != nil || a.Report == nil || dials != 1 {
		t.Errorf("%+v, over %d connections", a, dials)
	}
}

func TestAnEndOfTheProgramEndsTheQuestions(t *testing.T) {
	c := dialTo(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if a := c.Ask(ctx, make([]Podtapd, 1))[0]; !errors.Is(a.Err, context.Canceled) {
		t.Errorf("%v", a.Err)
	}
}
