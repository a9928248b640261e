// Command manifests writes the files of deploy/kustomize that come from the Helm chart.
//
//	go run ./manifests ..
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/podtap/podtap/deploy/test/chart"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: manifests DEPLOY, the folder that has helm/ and kustomize/")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "manifests:", err)
		os.Exit(1)
	}
}

func write(deploy string) error {
	files, err := chart.Manifests(filepath.Join(deploy, "helm/podtap"))
	if err != nil {
		return err
	}
	kustomize := filepath.Join(deploy, "kustomize")
	// What the chart does not have any more goes.
	old, err := filepath.Glob(filepath.Join(kustomize, "*", "*.yaml"))
	if err != nil {
		return err
	}
	for _, name := range old {
		if filepath.Base(name) == "kustomization.yaml" {
			continue
		}
		if err := os.Remove(name); err != nil {
			return err
		}
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(kustomize, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
