package mirror

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// worker is an OS thread that enters network namespaces, for what cannot be done
// with a socket: opening one, and sysctls. One thread for all of it, because to
// make one, and to move Go's scheduler, costs more than to enter a namespace.
type worker struct{ tasks chan task }

type task struct {
	in   *namespace
	do   func() error
	done chan error
}

func newWorker() *worker {
	w := &worker{tasks: make(chan task)}
	go w.run()
	return w
}

// run is bound to its thread for good, so the thread ends with it.
func (w *worker) run() {
	runtime.LockOSThread()
	var in *namespace
	for t := range w.tasks {
		var err error
		if t.in != in {
			in = nil
			if err = unix.Setns(int(t.in.space.Fd()), unix.CLONE_NEWNET); err == nil {
				in = t.in
			} else {
				err = fmt.Errorf("enter a network namespace: %w", err)
			}
		}
		if err == nil {
			err = t.do()
		}
		t.done <- err
	}
}

// do does something on the thread, in a namespace.
func (w *worker) do(in *namespace, f func() error) error {
	done := make(chan error, 1)
	w.tasks <- task{in, f, done}
	return <-done
}

// close ends the thread.
func (w *worker) close() { close(w.tasks) }
