package demo

import (
	"errors"
	"fmt"
	"os"
)

// session is the lab's T outside of a test: Fatalf ends the demo with an error,
// and what was built is taken down in the reverse order.
type session struct {
	cleanups []func()
	log      func(line string)
}

// failure is what Fatalf panics with; protect turns it into an error again.
type failure struct{ error }

func (s *session) Helper() {}

func (s *session) Fatalf(format string, args ...any) { panic(failure{fmt.Errorf(format, args...)}) }

func (s *session) Logf(format string, args ...any) { s.log(fmt.Sprintf(format, args...)) }

func (s *session) Cleanup(f func()) { s.cleanups = append(s.cleanups, f) }

// TempDir is in the lab's own /run, so that it goes with the process, however
// that ends.
func (s *session) TempDir() string {
	dir, err := os.MkdirTemp("/run", "podtap-demo-")
	if err != nil {
		s.Fatalf("make a temporary directory: %v", err)
	}
	s.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// run does something and then cleans up.
func (s *session) run(f func()) error {
	err := protect(f)
	for len(s.cleanups) > 0 {
		last := len(s.cleanups) - 1
		cleanup := s.cleanups[last]
		s.cleanups = s.cleanups[:last]
		err = errors.Join(err, protect(cleanup))
	}
	return err
}

// protect returns what Fatalf said. Any other panic goes on.
func protect(f func()) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case failure:
			err = r.error
		default:
			panic(r)
		}
	}()
	f()
	return nil
}
