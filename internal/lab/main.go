package lab

import (
	"fmt"
	"os"
)

// Main is a TestMain: it runs a package's tests in the lab. Before it enters,
// while there is still a network, it calls build, if given, which returns what to
// add to the environment of the tests.
func Main(run func() int, build func() ([]string, error)) {
	if Inside() {
		if err := Prepare(); err != nil {
			fail(err)
		}
		os.Exit(run())
	}
	var environment []string
	if build != nil {
		var err error
		if environment, err = build(); err != nil {
			fail(err)
		}
	}
	code, err := Enter(environment...)
	if err != nil {
		fail(err)
	}
	os.Exit(code)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "lab:", err)
	os.Exit(1)
}
