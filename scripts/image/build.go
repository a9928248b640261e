package main

import (
	"archive/tar"
	"bytes"
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

type options struct {
	programs                         []string // the first is the entrypoint
	arch, version, revision, license string
	created                          time.Time
}

// file is one in the image's root. All belong to root.
type file struct {
	name string
	mode int64
	data []byte
}

func build(o options) (v1.Image, error) {
	files, err := read(o)
	if err != nil {
		return nil, err
	}
	content, err := archive(files, o.created)
	if err != nil {
		return nil, err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	})
	if err != nil {
		return nil, fmt.Errorf("make the layer: %w", err)
	}
	created := v1.Time{Time: o.created}
	image, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{
		OS:           "linux",
		Architecture: o.arch,
		Created:      created,
		RootFS:       v1.RootFS{Type: "layers"},
		Config: v1.Config{
			Entrypoint: []string{"/" + filepath.Base(o.programs[0])},
			// So that `kubectl exec` finds the programs without their folder.
			Env:    []string{"PATH=/"},
			Labels: labels(o),
		},
	})
	if err != nil {
		return nil, fmt.Errorf("make the image: %w", err)
	}
	return mutate.Append(image, mutate.Addendum{
		Layer:   layer,
		History: v1.History{Created: created, CreatedBy: "podtap scripts/image"},
	})
}

func labels(o options) map[string]string {
	all := map[string]string{
		"org.opencontainers.image.title":       "podtap",
		"org.opencontainers.image.description": "See the packets of a Kubernetes pod",
		"org.opencontainers.image.source":      "https://github.com/podtap/podtap",
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.version":     o.version,
		"org.opencontainers.image.created":     o.created.Format(time.RFC3339),
	}
	if o.revision != "" {
		all["org.opencontainers.image.revision"] = o.revision
	}
	return all
}

func read(o options) ([]file, error) {
	var files []file
	add := func(path string, mode int64) error {
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		files = append(files, file{filepath.Base(path), mode, data})
		return nil
	}
	for _, path := range o.programs {
		if err := add(path, 0o755); err != nil {
			return nil, err
		}
	}
	if o.license != "" {
		if err := add(o.license, 0o644); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(files, func(a, b file) int { return cmp.Compare(a.name, b.name) })
	for i := 1; i < len(files); i++ {
		if files[i].name == files[i-1].name {
			return nil, fmt.Errorf("two files are called %s", files[i].name)
		}
	}
	return files, nil
}

// archive is the layer's content. It says nothing of the machine that it was made on.
func archive(files []file, modified time.Time) ([]byte, error) {
	var content bytes.Buffer
	w := tar.NewWriter(&content)
	for _, f := range files {
		header := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode, Size: int64(len(f.data)), ModTime: modified, Format: tar.FormatUSTAR}
		if err := w.WriteHeader(header); err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return content.Bytes(), nil
}
