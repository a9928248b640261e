package main

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// A runtime that is restarted in the middle of ADD leaves the plugin with pipes
// that nobody reads. ADD has failed then, and the runtime may never call DEL for a
// pod that it has not heard of.
func TestAnAddWhoseResultNobodyReadsLeavesNothing(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, logLost := range map[string]bool{"standard output is closed": false, "standard output and error are closed": true} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			untouched := s.untouched()
			nobody, write, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := nobody.Close(); err != nil {
				t.Fatal(err)
			}
			defer write.Close()
			c := exec.Command(self)
			c.Env = append(os.Environ(), s.attachment().environment("ADD")...)
			c.Stdin, c.Stdout = strings.NewReader(s.configured(everySink).text(t)), write
			if logLost {
				c.Stderr = write
			}
			var failed error
			s.node.Do(func() error {
				failed = c.Run()
				return nil
			})
			if failed == nil {
				t.Error("ADD succeeded, and nobody has its result")
			}
			untouched(t)
		})
	}
}
