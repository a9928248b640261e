package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/podtap/podtap/api/node"
	"github.com/podtap/podtap/internal/lab"
)

func TestMain(m *testing.M) { lab.Main(m.Run, false) }

func execute(t *testing.T, args ...string) (string, error) {
	t.Helper()
	c := root()
	var out bytes.Buffer
	c.SetOut(&out)
	c.SetErr(&out)
	c.SetArgs(args)
	err := c.ExecuteContext(t.Context())
	return out.String(), err
}

func TestMistakesOnTheCommandLineAreSaid(t *testing.T) {
	t.Setenv("NODE_NAME", "")
	t.Setenv("POD_NAMESPACE", "")
	for _, c := range []struct{ args, want string }{
		{"run", "the node's name is unknown: set NODE_NAME, or --node-name"},
		{"run --node-name=n --log-level=loud", `--log-level "loud" is unknown; known are debug, info, warn and error`},
		{"run --node-name=n --runtime-endpoint=tcp://198.18.0.1:1", "--runtime-endpoint: "},
		{"run now", "unknown command"},
		{"uninstall --cluster", "set POD_NAMESPACE, or --namespace"},
		{"uninstall --cluster --stay", "--cluster and --stay exclude each other"},
	} {
		out, err := execute(t, strings.Fields(c.args)...)
		if err == nil || !strings.Contains(err.Error()+out, c.want) {
			t.Errorf("%s: %v %s, want %q", c.args, err, out, c.want)
		}
	}
}

func TestAKernelThatFailsIsAskedAgain(t *testing.T) {
	asked, problem, now := 0, "no memory", time.Now()
	ask := remembered(func() node.Kernel {
		asked++
		return node.Kernel{Problem: problem}
	}, func() time.Time { return now })
	for i, c := range []struct {
		after   time.Duration
		problem string
		asked   int
	}{{0, "no memory", 1}, {59 * time.Second, "no memory", 1}, {time.Minute, "", 2}, {time.Hour, "", 2}} {
		now = now.Add(c.after)
		if k := ask(); k.Problem != c.problem || asked != c.asked {
			t.Errorf("question %d: %+v, the kernel was asked %d times", i, k, asked)
		}
		problem = ""
	}
}

// The kubelet shows what podtapd ends with, and would not what it goes on without.
func TestPodtapdEndsWhereItsAddressIsWrong(t *testing.T) {
	host := lab.NewNetwork(t, "", 1500).Host("node")
	dir := t.TempDir()
	for _, name := range []string{"bin", "net.d"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	f := &nodeFlags{nodeName: "n", binDir: filepath.Join(dir, "bin"), confDir: filepath.Join(dir, "net.d"), plugin: filepath.Join(dir, "podtap"),
		settings: filepath.Join(dir, "config.yaml"), agentSocket: filepath.Join(dir, "agent.sock"), apiAddress: "nowhere", kubeconfig: filepath.Join(dir, "none")}
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Second)
	defer cancel()
	host.Do(func() error {
		err := run(ctx, f, slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), "podtapd cannot have its API's address") {
			t.Errorf("it ends with %v", err)
		}
		return nil
	})
}

// The DaemonSet's arguments are those of run; uninstalling it puts another word first.
func TestUninstallTakesTheFlagsOfRun(t *testing.T) {
	uninstall := uninstallCommand().Flags()
	runCommand().Flags().VisitAll(func(f *pflag.Flag) {
		if uninstall.Lookup(f.Name) == nil {
			t.Errorf("uninstall has no --%s", f.Name)
		}
	})
}

func TestUninstallAndStaySaysWhenItIsDone(t *testing.T) {
	host := lab.NewNetwork(t, "", 1500).Host("node")
	dir := t.TempDir()
	conf := filepath.Join(dir, "net.d", "10-pods.conflist")
	for path, text := range map[string]string{
		filepath.Join(dir, "bin", "podtap"): "the plugin",
		conf:                                `{"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"bridge"},{"type":"podtap"}]}`,
	} {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	f := &nodeFlags{binDir: filepath.Join(dir, "bin"), confDir: filepath.Join(dir, "net.d"), apiAddress: address, agentSocket: filepath.Join(dir, "agent.sock")}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		host.Do(func() error {
			done <- uninstallAndStay(ctx, f, filepath.Join(dir, "cache"), slog.New(slog.DiscardHandler))
			return nil
		})
	}()
	get := func(path string) (int, string) {
		r, err := http.Get("http://" + address + path)
		if err != nil {
			return 0, err.Error()
		}
		defer r.Body.Close()
		text, _ := io.ReadAll(r.Body)
		return r.StatusCode, string(text)
	}
	var code int
	var text string
	for end := time.Now().Add(30 * time.Second); code != http.StatusOK && time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		code, text = get("/readyz")
		if code != http.StatusOK && code != http.StatusServiceUnavailable && code != 0 {
			break
		}
	}
	if code != http.StatusOK {
		t.Fatalf("/readyz says %d %s", code, text)
	}
	if code, _ := get("/healthz"); code != http.StatusOK {
		t.Errorf("/healthz says %d", code)
	}
	if text, err := os.ReadFile(conf); err != nil || strings.Contains(string(text), "podtap") {
		t.Errorf("the configuration is %s, %v", text, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "bin", "podtap")); !os.IsNotExist(err) {
		t.Errorf("the plugin is still there: %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
