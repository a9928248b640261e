package mirror

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Fifty at once for one pod: each gets its turn, and the file goes with the last.
func TestALockLeavesNoFile(t *testing.T) {
	var wait sync.WaitGroup
	for range 50 {
		wait.Go(func() {
			unlock, err := LockPod("c1")
			if err != nil {
				t.Error(err)
				return
			}
			time.Sleep(time.Millisecond)
			unlock()
		})
	}
	wait.Wait()
	if entries, err := os.ReadDir(lockDir); err != nil || len(entries) > 0 {
		t.Errorf("left: %v (%v)", entries, err)
	}
}

func TestWhoeverWaitsTooLongForALockIsToldWhichItIs(t *testing.T) {
	unlock, err := LockPod("c1")
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	_, err = lock(podLock(podHash("c1")), "the container c1", 50*time.Millisecond)
	if !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), lockDir+"/pod-") {
		t.Errorf("a held lock: %v", err)
	}
	other, err := LockPod("c2")
	if err != nil {
		t.Fatalf("another pod's lock: %v", err)
	}
	other()
}

// holdLock is the environment variable that makes this program take a lock and
// hold it until it is killed, instead of running tests.
const holdLock = "PODTAP_TEST_HOLD_LOCK"

// An init, because TestMain would enter another lab first.
func init() {
	name := os.Getenv(holdLock)
	if name == "" {
		return
	}
	if _, err := lock(name, "the test", 5*time.Second); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("held")
	time.Sleep(time.Minute)
	os.Exit(1)
}

// holdElsewhere has another process hold a lock, until kill is called.
func holdElsewhere(t *testing.T, name string) (pid int, kill func()) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self)
	c.Env = append(os.Environ(), holdLock+"="+name)
	out, err := c.StdoutPipe()
	if err == nil {
		err = c.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	kill = sync.OnceFunc(func() { _, _ = c.Process.Kill(), c.Wait() })
	t.Cleanup(kill)
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "held\n" {
		t.Fatalf("the other process says %q (%v)", line, err)
	}
	return c.Process.Pid, kill
}

// busy wants a lock that a process holds, and fails where it gets it, where it is
// not told whose it is, or where it has to wait for another time than it asked.
func busy(t *testing.T, name string, pid int) {
	t.Helper()
	const wait, late = 100 * time.Millisecond, 5 * time.Second
	program, err := readFile("/proc/self/comm")
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	_, err = lock(name, "the test", wait)
	if took := time.Since(begin); took < wait || took > late {
		t.Errorf("after %v: it was to wait for %v", took, wait)
	}
	want := fmt.Sprintf("process %d (%s) has held it for %v", pid, program, wait)
	if !errors.Is(err, ErrBusy) || !strings.Contains(err.Error(), want) {
		t.Errorf("the error %v lacks %q", err, want)
	}
}

func TestALocksErrorNamesItsHolder(t *testing.T) {
	t.Run("another process", func(t *testing.T) {
		pid, _ := holdElsewhere(t, "held")
		busy(t, "held", pid)
	})
	t.Run("this process", func(t *testing.T) {
		unlock, err := lock("held", "the test", time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer unlock()
		busy(t, "held", os.Getpid())
	})
}

// The file stays, as after a crash, and hinders nobody.
func TestTheLockOfAKilledProcessIsFreeAtOnce(t *testing.T) {
	_, kill := holdElsewhere(t, "killed")
	kill()
	if _, err := os.Stat(filepath.Join(lockDir, "killed")); err != nil {
		t.Fatalf("the killed process left no file: %v", err)
	}
	unlock, err := lock("killed", "the test", 0)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	if _, err := os.Stat(filepath.Join(lockDir, "killed")); !os.IsNotExist(err) {
		t.Errorf("the file is left: %v", err)
	}
}

// Who waits for a process that is then killed does not wait to the end.
func TestWaitingForALockEndsWithItsHolder(t *testing.T) {
	_, kill := holdElsewhere(t, "waited for")
	time.AfterFunc(100*time.Millisecond, kill)
	begin := time.Now()
	unlock, err := lock("waited for", "the test", lockWait)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
	if took := time.Since(begin); took > lockWait/2 {
		t.Errorf("it took %v to get the lock of a process that was killed after 100ms", took)
	}
}
