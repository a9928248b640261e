package lab

import (
	"fmt"
	"os"
)

// Main is a TestMain: it runs a package's tests in the lab. Where they need
// plugins, it builds those first, while there is still a network to fetch modules
// from. If PODTAP_LAB_PLUGINS is set, it is where they have been built already, for
// a machine without Go.
func Main(run func() int, plugins bool) {
	if Inside() {
		if err := Prepare(); err != nil {
			fail(err)
		}
		os.Exit(run())
	}
	var environment []string
	dir, err := os.MkdirTemp("", "podtap-lab-")
	if err != nil {
		fail(err)
	}
	if plugins && Plugins() == "" {
		environment = append(environment, pluginDir+"="+dir)
		err = buildPlugins(dir)
	}
	code := 1
	if err == nil {
		code, err = Enter(environment...)
	}
	_ = os.RemoveAll(dir)
	if err != nil {
		fail(err)
	}
	os.Exit(code)
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "lab:", err)
	os.Exit(1)
}
