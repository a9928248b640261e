package cluster

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
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
		"cut short": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"taps":[`)) }, "unexpected EOF"},
		"a refusal": {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "only\nroot", http.StatusForbidden) }, "podtapd answers 403 Forbidden to /v1/taps: only root"},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://169.254.169.254/", http.StatusFound)
		}, "podtapd answers 302 Found"},
		"a hang up": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "ask podtapd for /v1/taps: "},
		"no end of it": {func(w http.ResponseWriter, _ *http.Request) {
			for range 80 {
				if _, err := w.Write(huge); err != nil {
					return
				}
				huge = []byte(strings.Repeat("x", 1<<20))
			}
		}, "it has more than 64 MiB"},
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

func TestAnEndOfTheProgramEndsTheQuestions(t *testing.T) {
	c := dialTo(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	if a := c.Ask(ctx, make([]Podtapd, 1))[0]; !errors.Is(a.Err, context.Canceled) {
		t.Errorf("%v", a.Err)
	}
}
