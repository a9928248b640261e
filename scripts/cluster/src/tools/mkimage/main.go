// Command mkimage writes an image of one layer as a docker-archive, for
// `cluster.sh load` and `ctr images import`.
//
//	mkimage -o out.tar -tag lab.local/x:1 -entrypoint /x [-link /bin/sh=/bin/busybox]... HOSTPATH=/path/in/image...
//
// The archive depends on nothing but what goes into it (no times), so the same files
// are the same image.
package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"path"
	"runtime"
	"strings"
)

type links []string

func (l *links) String() string     { return strings.Join(*l, ",") }
func (l *links) Set(s string) error { *l = append(*l, s); return nil }

func main() {
	log.SetFlags(0)
	log.SetPrefix("mkimage: ")
	out := flag.String("o", "", "output file")
	tag := flag.String("tag", "", "image name")
	entry := flag.String("entrypoint", "", "program that runs if a pod names none")
	var ln links
	flag.Var(&ln, "link", "symlink NEW=TARGET (repeatable)")
	flag.Parse()
	if *out == "" || *tag == "" || *entry == "" {
		log.Fatal("-o, -tag and -entrypoint are needed")
	}
	rootfs, err := layer(flag.Args(), ln)
	if err == nil {
		err = archive(*out, *tag, *entry, rootfs)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// layer is the root filesystem: files (HOST=/IN/IMAGE), symlinks (NEW=TARGET) and
// the directories that a container expects.
func layer(files, ln []string) ([]byte, error) {
	l := &writer{made: map[string]bool{".": true, "/": true}}
	l.Writer = tar.NewWriter(&l.buf)
	for _, d := range []string{"/tmp", "/etc", "/proc", "/sys", "/dev", "/var/run"} {
		l.mkdirs(d)
	}
	l.file("/etc/passwd", 0o644, []byte("root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"))
	for _, f := range files {
		src, dst, ok := strings.Cut(f, "=")
		if !ok {
			return nil, fmt.Errorf("%q is not HOSTPATH=/path/in/image", f)
		}
		b, err := os.ReadFile(src)
		if err != nil {
			return nil, err
		}
		l.file(dst, 0o755, b)
	}
	for _, s := range ln {
		name, target, _ := strings.Cut(s, "=")
		l.mkdirs(path.Dir(name))
		l.add(&tar.Header{Name: name, Linkname: target, Typeflag: tar.TypeSymlink, Mode: 0o777}, nil)
	}
	return l.buf.Bytes(), errors.Join(l.err, l.Close())
}

// writer keeps the first error, and the directories that are there.
type writer struct {
	*tar.Writer
	buf  bytes.Buffer
	made map[string]bool
	err  error
}

func (w *writer) add(h *tar.Header, data []byte) {
	h.Name = strings.TrimPrefix(h.Name, "/")
	h.Size = int64(len(data))
	if w.err == nil {
		w.err = w.WriteHeader(h)
	}
	if w.err == nil {
		_, w.err = w.Write(data)
	}
}

func (w *writer) mkdirs(dir string) {
	if w.made[dir] {
		return
	}
	w.mkdirs(path.Dir(dir))
	w.made[dir] = true
	w.add(&tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: 0o755}, nil)
}

func (w *writer) file(name string, mode int64, data []byte) {
	w.mkdirs(path.Dir(name))
	w.add(&tar.Header{Name: name, Mode: mode, Typeflag: tar.TypeReg}, data)
}

func archive(out, tag, entry string, rootfs []byte) error {
	config, err := json.Marshal(map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Entrypoint": []string{entry}, "Env": []string{"PATH=/bin"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + sum(rootfs)}},
	})
	if err != nil {
		return err
	}
	name := sum(config) + ".json"
	manifest, err := json.Marshal([]any{map[string]any{"Config": name, "RepoTags": []string{tag}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return err
	}
	w := &writer{made: map[string]bool{".": true}}
	w.Writer = tar.NewWriter(&w.buf)
	w.file("layer.tar", 0o644, rootfs)
	w.file(name, 0o644, config)
	w.file("manifest.json", 0o644, manifest)
	if err := errors.Join(w.err, w.Close()); err != nil {
		return err
	}
	return os.WriteFile(out, w.buf.Bytes(), 0o644)
}

func sum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}
