package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/podtap/podtap/api/node"
)

func TestOnlyRootsConnectionsAreKept(t *testing.T) {
	url := apiOf(t, newAgent(t, nil))
	for path, kept := range map[string]bool{node.PathTaps: true, node.PathReport: true, "/metrics": true, "/healthz": false, "/readyz": false, "/else": false} {
		dials := 0
		client := http.Client{Timeout: patience, Transport: &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			dials++
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}}}
		for range 3 {
			r, err := client.Get(url + path)
			if err != nil {
				t.Fatal(err)
			}
			if r.Close == kept {
				t.Errorf("%s: to be closed: %t", path, r.Close)
			}
			drain(r)
		}
		if kept != (dials == 1) {
			t.Errorf("%s: 3 requests took %d connections", path, dials)
		}
		client.CloseIdleConnections()
	}
	r, err := (&http.Client{Timeout: patience, Transport: &http.Transport{DialContext: as(65534)}}).Get(url + node.PathTaps)
	if err != nil {
		t.Fatal(err)
	}
	if drain(r); r.StatusCode == http.StatusForbidden && !r.Close {
		t.Error("the connection of somebody who is refused is kept")
	}
}

func drain(r *http.Response) {
	var text strings.Builder
	_ = r.Write(&text)
	_ = r.Body.Close()
}

// More than there may be connections, of somebody who sends nothing on them.
func TestWhoeverHoldsConnectionsHoldsUpNobodyForLong(t *testing.T) {
	a := newAgent(t, nil)
	apiOf(t, a)
	for range maxConnections + 10 {
		c, err := net.Dial("tcp", a.APIAddress)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
	}
	begin := time.Now()
	eventually(t, "the API answers", func() bool { return get(t, "http://"+a.APIAddress+"/healthz").code == 200 })
	if took := time.Since(begin); took > 4*time.Second {
		t.Errorf("the API answers after %v", took)
	}
}

// What takes longer to read than a request may take to come is answered all the same.
func TestAnAnswerMayTakeLongerThanItsRequest(t *testing.T) {
	a := newAgent(t, func(c *Config) {
		c.Inventory = func() (node.Taps, error) {
			time.Sleep(requestTimeout + time.Second)
			return node.Taps{}, nil
		}
	})
	if got := get(t, apiOf(t, a)+node.PathTaps); got.code != 200 {
		t.Errorf("%d %s %v", got.code, got.body, got.err)
	}
}

func TestAnAgentWhoseAddressIsAnothersEndsWithAnError(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	a := newAgent(t, func(c *Config) { c.APIAddress, c.AgentSocket = l.Addr().String(), sockets(t)+"/agent.sock" })
	if a.bindWithin != time.Minute {
		t.Errorf("it tries for %v", a.bindWithin)
	}
	a.bindWithin = 50 * time.Millisecond
	ended := make(chan error, 1)
	go func() { ended <- a.Run(t.Context()) }()
	select {
	case err := <-ended:
		if !errors.Is(err, errBind) || !strings.Contains(fmt.Sprint(err), a.APIAddress) {
			t.Errorf("error is %v", err)
		}
	case <-time.After(leave + patience):
		t.Fatal("Run goes on")
	}
}

// An earlier podtapd may be about to end.
func TestAnAgentWaitsForItsAddress(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := newAgent(t, func(c *Config) { c.APIAddress = l.Addr().String() })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- a.serveAPI(ctx, func(err error) { t.Errorf("it gives up: %v", err) }) }()
	time.Sleep(200 * time.Millisecond)
	_ = l.Close()
	eventually(t, "the API answers", func() bool { return get(t, "http://"+a.APIAddress+"/healthz").code == 200 })
	cancel()
	<-ended
}
