// Command image packs built programs into a container image, as an archive that
// `ctr -n k8s.io images import` and `docker load` take. It needs no daemon and no
// registry; the same programs give the same bytes.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

func main() {
	var o options
	created := flag.Int64("created", 0, "time of every file and of the image, in seconds since 1970; the commit's")
	out := flag.String("o", "podtap-image.tar", "the archive to write")
	flag.StringVar(&o.arch, "arch", "", "architecture of the programs, as Go calls it")
	flag.StringVar(&o.version, "version", "", "of the programs, and the image's tag")
	flag.StringVar(&o.revision, "revision", "", "the commit that they were built from")
	flag.StringVar(&o.license, "license", "", "the license's file")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: image -arch ARCH -version VERSION [FLAGS] PROGRAM...; the first is the entrypoint")
		flag.PrintDefaults()
	}
	flag.Parse()
	o.programs, o.created = flag.Args(), time.Unix(*created, 0).UTC()
	if err := run(o, *out); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(o options, out string) error {
	if o.arch == "" || o.version == "" || len(o.programs) == 0 {
		return errors.New("it needs -arch, -version and the programs")
	}
	// The manifests' name: no registry.
	tag, err := name.NewTag("podtap:" + o.version)
	if err != nil {
		return fmt.Errorf("version %q: %w", o.version, err)
	}
	image, err := build(o)
	if err != nil {
		return err
	}
	// Whole or not at all: somebody may be importing the last one.
	temporary := out + ".tmp"
	defer os.Remove(temporary)
	if err := tarball.WriteToFile(temporary, tag, image); err != nil {
		return fmt.Errorf("write %s: %w", temporary, err)
	}
	return os.Rename(temporary, out)
}
