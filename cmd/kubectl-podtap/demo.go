package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/internal/demo"
	"github.com/podtap/podtap/internal/lab"
)

const aboutDemo = `Show a tapped pod on two nodes that are made of network namespaces.

The demo runs the real plugins through libcni, as a container runtime does: it
adds a pod with a tap and one without, sends packets between them, compares each
packet on the pod's interface with the copy that a collector received, and checks
that deleting the pods leaves nothing.

It needs no cluster, and no root where ordinary users may have user namespaces.
It runs in namespaces of its own, which end with it: nothing of the machine is
touched. The exit code is 0 only if every count is right.`

func demoCommand() *cobra.Command {
	var binDir string
	c := &cobra.Command{
		Use:   "demo",
		Short: "Show a tapped pod on two nodes that are made of network namespaces",
		Long:  aboutDemo,
		Example: "  make demo                                    builds what it takes, and runs it\n" +
			"  kubectl podtap demo --bin-dir /opt/cni/bin   with the plugins of this node",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return runDemo(binDir) },
	}
	c.Flags().StringVar(&binDir, "bin-dir", "", "`folder` of podtap, bridge and host-local (default: that of this program)")
	return c
}

// runDemo enters the lab, where the program runs again and plays the demo.
func runDemo(binDir string) error {
	if binDir == "" {
		program, err := os.Executable()
		if err != nil {
			return fmt.Errorf("find this program's directory: %w; name one with --bin-dir", err)
		}
		binDir = filepath.Dir(program)
	}
	binDir, err := filepath.Abs(binDir)
	if err != nil {
		return fmt.Errorf("--bin-dir: %w", err)
	}
	if err := demo.FindPlugins(binDir); err != nil {
		return err
	}
	if !lab.Inside() {
		code, err := lab.Enter()
		if err == nil && code != 0 {
			err = exitCode(code)
		}
		return err
	}
	if err := lab.Prepare(); err != nil {
		return fmt.Errorf("prepare the demo's namespaces: %w", err)
	}
	return demo.Run(os.Stdout, demo.Options{BinDir: binDir, Color: showsColor(os.Stdout)})
}

// showsColor says whether a file is a terminal whose user wants colours; see
// https://no-color.org.
func showsColor(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}
