package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// victimDir is the environment variable that makes the test binary a little
// program which changes one thing after the other below a directory.
const victimDir = "PODTAP_LAB_VICTIM"

func init() {
	if dir := os.Getenv(victimDir); dir != "" {
		if err := errors.Join(victim(dir), os.WriteFile("/dev/stdout", []byte("done"), 0)); err != nil {
			os.Exit(3)
		}
		os.Exit(0)
	}
}

// changes are how many the victim makes. Nothing can be made at missing.
const (
	changes = 12
	missing = "no/such/place"
)

// victim makes its changes from many threads, in order, and beside them what is
// none: reads, questions to the kernel, writes that fail or reach nobody else.
func victim(dir string) error {
	_, _ = os.Stdout.WriteString("hello\n")
	turn := make([]chan error, changes+1)
	for i := range turn {
		turn[i] = make(chan error, 1)
	}
	var busy sync.WaitGroup
	for i := range changes {
		busy.Go(func() {
			err := <-turn[i]
			time.Sleep(100 * time.Microsecond) // another thread goes on
			if _, failed := netlink.LinkList(); failed != nil {
				err = errors.Join(err, failed)
			}
			_ = os.Mkdir(filepath.Join(dir, missing), 0o700)
			turn[i+1] <- errors.Join(err, os.Mkdir(filepath.Join(dir, fmt.Sprintf("d%02d", i)), 0o700))
		})
	}
	turn[0] <- nil
	busy.Wait()
	return <-turn[changes]
}

func victimOf(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self)
	c.Env = append(os.Environ(), victimDir+"="+dir)
	return c
}

// traceable skips a test where no program can be traced.
func traceable(t *testing.T, err error) {
	t.Helper()
	if errors.Is(err, ErrNoTrace) {
		t.Skip(err)
	}
}

func names(t *testing.T, dir string) (out []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestAProgramIsKilledRightBeforeEachOfItsSteps(t *testing.T) {
	var want []string
	for n := 1; ; n++ {
		dir := t.TempDir()
		killed, step, err := KillAt(victimOf(t, dir), n)
		traceable(t, err)
		if err != nil {
			t.Fatalf("step %d: %v", n, err)
		}
		if got := names(t, dir); !reflect.DeepEqual(got, want) {
			t.Errorf("killed before step %d (%s): there is %q, want %q", n, step, got, want)
		}
		if !killed {
			if n != changes+3 { // the last steps open and write /dev/stdout
				t.Errorf("%d steps were seen, want %d", n-1, changes+2)
			}
			return
		}
		// The first attempt is killed, which would have failed.
		if n <= changes && step != "mkdir "+filepath.Join(dir, missing) {
			t.Errorf("step %d is %q", n, step)
		}
		if n <= changes {
			want = append(want, fmt.Sprintf("d%02d", n-1))
		}
	}
}

func TestMessagesToTheKernelAreNamedAndQuestionsAreNoSteps(t *testing.T) {
	link := nl.NewIfInfomsg(unix.AF_UNSPEC)
	link.Index = 7
	for _, c := range []struct {
		want string
		kind int
		data []nl.NetlinkRequestData
	}{
		{"RTM_NEWLINK of device 7, name tap0", unix.RTM_NEWLINK, []nl.NetlinkRequestData{link, nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated("tap0"))}},
		{"RTM_SETLINK of device 7, alias x y", unix.RTM_SETLINK, []nl.NetlinkRequestData{link, nl.NewRtAttr(unix.IFLA_IFALIAS, []byte("x y"))}},
		{"RTM_DELTFILTER of device 8", unix.RTM_DELTFILTER, []nl.NetlinkRequestData{&nl.TcMsg{Ifindex: 8}}},
		{"RTM_NEWQDISC of device 9", unix.RTM_NEWQDISC, []nl.NetlinkRequestData{&nl.TcMsg{Ifindex: 9}}},
		{"", unix.RTM_GETLINK, []nl.NetlinkRequestData{link}},
		{"", unix.RTM_GETTFILTER, []nl.NetlinkRequestData{&nl.TcMsg{Ifindex: 8}}},
	} {
		r := nl.NewNetlinkRequest(c.kind, unix.NLM_F_ACK)
		for _, d := range c.data {
			r.AddData(d)
		}
		b := r.Serialize()
		if got := routeMessage(b, uint64(len(b))); got != c.want {
			t.Errorf("type %d is %q, want %q", c.kind, got, c.want)
		}
	}
	// Where more comes after the question, that may be anything.
	b := nl.NewNetlinkRequest(unix.RTM_GETLINK, 0).Serialize()
	if got := routeMessage(append(b, b...), uint64(2*len(b))); got == "" {
		t.Error("two messages at once are taken for one question")
	}
}

func TestATracedProgramThatFailsOrHangsIsNotTakenForKilled(t *testing.T) {
	killed, _, err := KillAt(victimOf(t, "/no/such/place"), changes)
	traceable(t, err)
	exit := (*exec.ExitError)(nil)
	if killed || !errors.As(err, &exit) || exit.ExitCode() != 3 {
		t.Errorf("a program that fails: killed %t, %v", killed, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if killed, _, err := KillAt(exec.CommandContext(ctx, "sleep", "60"), 1); killed || err == nil {
		t.Errorf("a program that hangs: killed %t, %v", killed, err)
	}
	if killed, _, err := KillAt(exec.Command("/no/such/program"), 1); killed || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no program: killed %t, %v", killed, err)
	}
}

func TestTracingLeavesOtherChildrenAlone(t *testing.T) {
	forever, stop, err := os.Pipe() // nobody writes
	if err != nil {
		t.Fatal(err)
	}
	defer stop.Close()
	defer forever.Close()
	others := make([]*exec.Cmd, 8)
	for i := range others {
		others[i] = exec.Command("sh", "-c", "timeout 0.01 cat; exit 7")
		others[i].Stdin = forever
		others[i].SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		if err := others[i].Start(); err != nil {
			t.Fatal(err)
		}
	}
	traced := exec.Command("sh", "-c", "timeout 0.1 cat; exit 0")
	traced.Stdin = forever
	_, _, err = KillAt(traced, 1000)
	traceable(t, err)
	if err != nil {
		t.Error(err)
	}
	for _, c := range others {
		if _ = c.Wait(); c.ProcessState.ExitCode() != 7 {
			t.Errorf("another child ended with %v", c.ProcessState)
		}
	}
}
