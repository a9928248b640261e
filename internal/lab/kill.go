package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrNoTrace says that this machine does not let one program trace another.
var ErrNoTrace = errors.New("programs cannot be traced here")

// killDeadline bounds a traced program's life.
const killDeadline = 30 * time.Second

// KillAt runs a program and kills it with SIGKILL right before its n-th step,
// counted from 1, so that n-1 steps have been done and no more. A step is a system
// call that succeeds and that may change something outside of the program: see
// steps.of. If there are fewer steps, the program ends by itself: killed is false,
// and err what c.Wait says of it.
//
// step describes the step that was not done. Programs that the program starts in
// turn are not traced. The error wraps ErrNoTrace where tracing is impossible.
func KillAt(c *exec.Cmd, n int) (killed bool, step string, err error) {
	// Only the thread that a program is traced by may ask anything of it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if c.SysProcAttr == nil {
		c.SysProcAttr = &syscall.SysProcAttr{}
	}
	c.SysProcAttr.Ptrace = true
	// A process group of its own tells its threads from all other children.
	c.SysProcAttr.Setpgid = true
	if err := c.Start(); errors.Is(err, unix.EPERM) {
		return false, "", fmt.Errorf("%w: %w", ErrNoTrace, err)
	} else if err != nil {
		return false, "", err
	}
	var late atomic.Bool
	defer time.AfterFunc(killDeadline, func() { late.Store(true); _ = c.Process.Kill() }).Stop()
	t := &tracer{process: c, pid: c.Process.Pid, last: n, threads: map[int]*thread{}}
	if err := t.run(); err != nil {
		_ = c.Process.Kill()
		t.reap()
		_ = c.Wait()
		return false, "", err
	}
	err = c.Wait()
	switch {
	case late.Load():
		return false, "", fmt.Errorf("the traced program was killed after %v: %w", killDeadline, err)
	case t.killed:
		return true, t.step, nil
	}
	return false, "", err
}

// tracer follows all threads of a program from one system call to the next.
type tracer struct {
	process *exec.Cmd
	pid     int
	steps   steps
	last    int // the step that is not to be done
	done    int // how many have been, or are being
	threads map[int]*thread
	killed  bool
	step    string
}

// thread is one that is known.
type thread struct {
	stepping bool // it is within a step
}

func (t *tracer) run() error {
	var status unix.WaitStatus
	if _, err := unix.Wait4(t.pid, &status, unix.WALL, nil); err != nil {
		return fmt.Errorf("wait for the traced program: %w", err)
	}
	// The thread's end is the program's, too: nobody would wake it up again.
	const options = unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_EXITKILL
	if err := unix.PtraceSetOptions(t.pid, options); err != nil {
		return fmt.Errorf("%w: %w", ErrNoTrace, err)
	}
	var err error
	if t.steps, err = stepsOf(t.pid); err != nil {
		return err
	}
	defer t.steps.close()
	t.threads[t.pid] = &thread{}
	for tid, sig := t.pid, 0; ; {
		// ESRCH: it has been killed meanwhile, and what comes next tells so.
		if err := unix.PtraceSyscall(tid, sig); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("let the traced program go on: %w", err)
		}
		ended := false
		if tid, status, ended, err = t.next(); err != nil || ended {
			return err
		}
		if sig, err = t.stopped(tid, status); err != nil {
			return err
		}
	}
}

// next waits until some thread stops. ended says that all have ended; the program
// is then left for c.Wait to reap.
func (t *tracer) next() (tid int, status unix.WaitStatus, ended bool, err error) {
	for {
		var info unix.Siginfo
		err = unix.Waitid(unix.P_PGID, t.pid, &info, unix.WEXITED|unix.WSTOPPED|unix.WNOWAIT|unix.WALL|unix.WNOTHREAD, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 0, 0, false, fmt.Errorf("wait for the traced program: %w", err)
		}
		const pidAt = 16 // offset of si_pid on 64-bit machines
		tid = int(binary.NativeEndian.Uint32((*[unsafe.Sizeof(info)]byte)(unsafe.Pointer(&info))[pidAt:]))
		const exited, dumped = 1, 3 // CLD_EXITED, CLD_DUMPED; between them is CLD_KILLED
		gone := info.Code >= exited && info.Code <= dumped
		if gone && tid == t.pid {
			return tid, 0, true, nil
		}
		if _, err = unix.Wait4(tid, &status, unix.WALL|unix.WNOHANG, nil); err != nil {
			return 0, 0, false, fmt.Errorf("wait for the traced thread %d: %w", tid, err)
		}
		if status.Stopped() {
			return tid, status, false, nil
		}
		delete(t.threads, tid)
	}
}

// reap waits until a killed program's threads have ended.
func (t *tracer) reap() {
	for ended, err := false, error(nil); err == nil && !ended; {
		_, _, ended, err = t.next()
	}
}

// stopped looks at why a thread has stopped, and returns the signal that it is to
// get when it goes on.
func (t *tracer) stopped(tid int, status unix.WaitStatus) (int, error) {
	at, known := t.threads[tid]
	if !known {
		at = &thread{}
		t.threads[tid] = at
	}
	const systemCall = unix.SIGTRAP | 0x80 // PTRACE_O_TRACESYSGOOD
	switch sig := status.StopSignal(); {
	case sig == systemCall:
		return 0, t.systemCall(tid, at)
	case sig == unix.SIGTRAP && status.TrapCause() > 0: // a clone, or an exec
		return 0, nil
	case sig == unix.SIGSTOP && !known: // how a new thread begins
		return 0, nil
	default:
		return int(sig), nil
	}
}

// call is struct ptrace_syscall_info of linux/ptrace.h, which is the same on every
// architecture, for a system call's entry. At its exit number is the return value.
type call struct {
	op        uint8
	_         [3]byte
	_         uint32
	_, _      uint64
	number    uint64
	arguments [6]uint64
}

// systemCall counts the steps and kills the program before the last one. A signal
// that is fatal at a system call's entry keeps the kernel from doing it.
func (t *tracer) systemCall(tid int, at *thread) error {
	var c call
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_GET_SYSCALL_INFO, uintptr(tid), unsafe.Sizeof(c), uintptr(unsafe.Pointer(&c)), 0, 0)
	switch {
	case errno == unix.ESRCH: // killed meanwhile
		return nil
	case errno != 0:
		return fmt.Errorf("%w: the kernel does not tell of system calls; Linux 5.3 does: %w", ErrNoTrace, errno)
	case c.op == unix.PTRACE_SYSCALL_INFO_EXIT:
		// What fails has changed nothing, and may be tried again: a restarted call,
		// a lock that is held. Counted, it would make the numbers differ from one
		// run to the next.
		if at.stepping && int64(c.number) < 0 {
			t.done--
		}
		at.stepping = false
	case c.op == unix.PTRACE_SYSCALL_INFO_ENTRY && !t.killed:
		step := t.steps.of(c.number, c.arguments)
		if step == "" {
			return nil
		}
		if t.done+1 == t.last {
			t.killed, t.step = true, step
			return t.process.Process.Kill()
		}
		t.done++
		at.stepping = true
	}
	return nil
}
