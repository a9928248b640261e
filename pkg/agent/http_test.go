package agent

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/api/node"
	"github.com/podtap/podtap/pkg/cri"
)

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

type reply struct {
	code int
	body string
	err  error
}

// get asks on a connection of its own.
func get(t *testing.T, url string) reply { return getThrough(t, url, nil) }

func getThrough(t *testing.T, url string, dial func(context.Context, string, string) (net.Conn, error)) reply {
	t.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, DialContext: dial}}
	r, err := client.Get(url)
	if err != nil {
		return reply{err: err}
	}
	defer func() { _ = r.Body.Close() }()
	body, err := io.ReadAll(r.Body)
	return reply{r.StatusCode, string(body), err}
}

// apiOf is the address of an agent that serves for as long as the test runs.
func apiOf(t *testing.T, a *Agent) string {
	t.Helper()
	a.APIAddress = "127.0.0.1:971" // in a network namespace of the tests' own
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		_ = a.serveAPI(ctx, func(error) {})
		close(ended)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	eventually(t, "the API answers", func() bool { return get(t, "http://"+a.APIAddress+"/healthz").code == 200 })
	return "http://" + a.APIAddress
}

func TestTheTapsAreServedAsTheyAreRead(t *testing.T) {
	a := newAgent(t, func(c *Config) {
		c.Inventory = func() (node.Taps, error) {
			return node.Taps{Taps: []node.Tap{{Pod: "default/<web>", Device: "mirror"}}}, errors.New("one pod's namespace\nanother's")
		}
	})
	got := get(t, apiOf(t, a)+node.PathTaps)
	var taps node.Taps
	if err := json.Unmarshal([]byte(got.body), &taps); err != nil || got.code != 200 {
		t.Fatalf("%d, %v: %s", got.code, err, got.body)
	}
	if len(taps.Taps) != 1 || taps.Taps[0].Device != "mirror" || fmt.Sprint(taps.Errors) != "[one pod's namespace another's]" {
		t.Errorf("taps are %+v", taps)
	}
	if !strings.Contains(got.body, "<web>") || !strings.Contains(got.body, `"senders": []`) {
		t.Errorf("JSON is %s", got.body)
	}
}

func TestTheReportHasAllThatIsKnownOfTheNode(t *testing.T) {
	r := &runtimeStandIn{network: cri.Network{Name: "pods", Plugins: []string{"bridge", "podtap"}, Problem: "not yet"}}
	a := newAgent(t, func(c *Config) { c.Runtime = r })
	got := get(t, apiOf(t, a)+node.PathReport)
	var report node.Report
	if err := json.Unmarshal([]byte(got.body), &report); err != nil {
		t.Fatalf("%d, %v: %s", got.code, err, got.body)
	}
	if report.Node != "worker1" || report.Podtapd != "v0.0.1" || report.Arch != runtime.GOARCH || report.Install.State != node.StateReady || report.Plugin.Path == "" ||
		report.Kernel.Release != "6.18" || report.Pods == nil {
		t.Errorf("report is %+v", report)
	}
	if w := report.Runtime; w.Name != "containerd" || w.Version != "2.2.9" || w.Network != "pods" || fmt.Sprint(w.Chain) != "[bridge podtap]" || w.Problem != "not yet" {
		t.Errorf("the runtime is %+v", w)
	}
	r.fail(errors.New("it hangs"))
	eventually(t, "the report says what is wrong with the runtime", func() bool {
		return strings.Contains(get(t, "http://"+a.APIAddress+node.PathReport).body, `"problem": "it hangs"`)
	})
}

func TestReadyIsWhatTheInstallationIs(t *testing.T) {
	var install atomic.Pointer[node.Install]
	install.Store(&node.Install{State: node.StateConflict, Message: "somebody takes the entry out"})
	a := newAgent(t, func(c *Config) { c.Install = func() node.Install { return *install.Load() } })
	url := apiOf(t, a) + "/readyz"
	if got := get(t, url); got.code != 503 || !strings.Contains(got.body, "Conflict: somebody takes the entry out") {
		t.Errorf("%d %s", got.code, got.body)
	}
	install.Store(&node.Install{State: node.StateReady})
	if got := get(t, url); got.code != 200 {
		t.Errorf("%d %s", got.code, got.body)
	}
}

func TestAStuckLoopIsUnhealthy(t *testing.T) {
	a := newAgent(t, nil)
	url := apiOf(t, a) + "/healthz"
	a.health.beat("sweep")
	a.health.mu.Lock()
	a.health.last["sweep"] = time.Now().Add(-stuckAfter - time.Minute)
	a.health.mu.Unlock()
	if got := get(t, url); got.code != 503 || !strings.Contains(got.body, "stuck: sweep") {
		t.Errorf("%d %s", got.code, got.body)
	}
}

func TestOnlyReadingIsServed(t *testing.T) {
	url := apiOf(t, newAgent(t, nil))
	for _, path := range []string{"/healthz", node.PathTaps, node.PathReport, "/metrics"} {
		r, err := http.Post(url+path, "text/plain", strings.NewReader("x"))
		if err != nil {
			t.Fatal(err)
		}
		_ = r.Body.Close()
		if r.StatusCode != http.StatusMethodNotAllowed {
			t.Errorf("POST %s: %d", path, r.StatusCode)
		}
	}
}

// as dials as another user: a TCP socket is of the user who made it.
func as(uid int) func(context.Context, string, string) (net.Conn, error) {
	return func(_ context.Context, _, address string) (net.Conn, error) {
		to := netip.MustParseAddrPort(address)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		before, err := unix.SetfsuidRetUid(uid)
		if err != nil {
			return nil, err
		}
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		_, back := unix.SetfsuidRetUid(before)
		if err := errors.Join(err, back); err != nil {
			return nil, err
		}
		f := os.NewFile(uintptr(fd), "socket")
		defer func() { _ = f.Close() }()
		if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil {
			return nil, err
		}
		return net.FileConn(f)
	}
}

func TestWhatIsToldOfPodsIsForRootAlone(t *testing.T) {
	const nobody = 65534
	url := apiOf(t, newAgent(t, nil))
	runtime.LockOSThread()
	_, _ = unix.SetfsuidRetUid(nobody)
	is, _ := unix.SetfsuidRetUid(0)
	runtime.UnlockOSThread()
	if is != nobody {
		t.Skip("an ordinary user's namespace has no other user to be")
	}
	for path, want := range map[string]int{node.PathTaps: 403, node.PathReport: 403, "/metrics": 403, "/healthz": 200, "/readyz": 200} {
		if got := getThrough(t, url+path, as(nobody)); got.code != want || want == 403 && !strings.Contains(got.body, "is for root on this node: the connection is user 65534's") {
			t.Errorf("%s for another user: %d %s %v", path, got.code, got.body, got.err)
		}
		if got := getThrough(t, url+path, as(0)); got.code != 200 {
			t.Errorf("%s for root: %d %s %v", path, got.code, got.body, got.err)
		}
	}
}

// connect makes a connection and returns both its ends, the server's first.
func connect(t *testing.T, listen, dial string) (net.Conn, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", listen)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	client, err := net.Dial("tcp", net.JoinHostPort(dial, port))
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = client.Close()
		_ = server.Close()
	})
	return server, client
}

func addresses(t *testing.T, c net.Conn) (local, remote netip.AddrPort) {
	t.Helper()
	return netip.MustParseAddrPort(c.LocalAddr().String()), netip.MustParseAddrPort(c.RemoteAddr().String())
}

func TestAConnectionsUserIsFoundInEachFamily(t *testing.T) {
	for _, c := range []struct{ listen, dial string }{{"127.0.0.1:0", "127.0.0.1"}, {"[::1]:0", "::1"}, {"[::]:0", "127.0.0.1"}, {"[::]:0", "::1"}} {
		server, client := connect(t, c.listen, c.dial)
		local, remote := addresses(t, server)
		if uid, err := peerUID(local, remote); err != nil || uid != os.Geteuid() {
			t.Errorf("from %s to %s: user %d, error %v", c.dial, c.listen, uid, err)
		}
		mapped := func(a netip.AddrPort) netip.AddrPort {
			return netip.AddrPortFrom(netip.AddrFrom16(a.Addr().As16()), a.Port())
		}
		if uid, err := peerUID(mapped(local), mapped(remote)); err != nil || uid != os.Geteuid() {
			t.Errorf("from %s to %s, IPv4 within IPv6: user %d, error %v", c.dial, c.listen, uid, err)
		}
		// What its process has closed is nobody's, though the kernel shows root.
		_ = client.Close()
		if uid, err := peerUID(local, remote); err == nil {
			t.Errorf("from %s to %s, closed: user %d", c.dial, c.listen, uid)
		}
		if uid, err := peerUID(local, netip.MustParseAddrPort("198.18.0.1:1")); err == nil {
			t.Errorf("a connection from elsewhere is user %d's", uid)
		}
	}
}

func TestSocketsThatAreNoProcessesAnyMoreAreNobodys(t *testing.T) {
	at, to := netip.MustParseAddrPort("127.0.0.1:53924"), netip.MustParseAddrPort("127.0.0.1:971")
	if binary.NativeEndian.Uint16([]byte{1, 0}) != 1 {
		t.Skip("the lines are those of a little-endian machine")
	}
	const line = "   0: 0100007F:D2A4 0100007F:03CB %s 00000000:00000000 00:00000000 00000000  %d        0 %d 1 0000000000000000 20 4 30 10 -1\n"
	for what, c := range map[string]struct {
		text string
		uid  int // -1: nobody
	}{
		"connected":          {fmt.Sprintf(line, "01", 1000, 4242), 1000},
		"half closed":        {fmt.Sprintf(line, "05", 1000, 4242), 1000},
		"waiting":            {fmt.Sprintf(line, "06", 0, 0), -1},
		"without a process":  {fmt.Sprintf(line, "01", 0, 0), -1},
		"the other end":      {strings.NewReplacer("D2A4", "03CB", "03CB", "D2A4").Replace(fmt.Sprintf(line, "01", 1000, 4242)), -1},
		"cut off":            {"   0: 0100007F:D2A4 0100007F:03CB 01\n", -1},
		"no address":         {"   0: x:D2A4 0100007F:03CB 01 0:0 0:0 0  0        0 1 1\n", -1},
		"after many of them": {strings.Repeat(fmt.Sprintf(line, "06", 0, 0), 100) + fmt.Sprintf(line, "01", 7, 1), 7},
	} {
		uid, found, err := findPeer(strings.NewReader(c.text), at, to)
		if err != nil || found != (c.uid >= 0) || found && uid != c.uid {
			t.Errorf("%s: user %d, %t, error %v, want %d", what, uid, found, err, c.uid)
		}
	}
}
