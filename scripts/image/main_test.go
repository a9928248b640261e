package main

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

const root = "../.."

// programs are stand-ins for the built ones.
func programs(t *testing.T) options {
	t.Helper()
	dir := t.TempDir()
	o := options{arch: "amd64", version: chartVersion(t), revision: "0123abcd", created: time.Unix(1_700_000_000, 0).UTC(), license: root + "/LICENSE"}
	for _, name := range []string{"podtapd", "podtap", "kubectl-podtap"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("this is "+name), 0o700); err != nil {
			t.Fatal(err)
		}
		o.programs = append(o.programs, path)
	}
	return o
}

func chartVersion(t *testing.T) string {
	t.Helper()
	return find(t, "deploy/helm/podtap/Chart.yaml", `(?m)^appVersion: (.*)$`)
}

func find(t *testing.T, file, expression string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(expression).FindSubmatch(text)
	if m == nil {
		t.Fatalf("%s has nothing like %s", file, expression)
	}
	return string(m[1])
}

func written(t *testing.T, o options) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "image.tar")
	if err := run(o, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestTheSameProgramsGiveTheSameBytes(t *testing.T) {
	var sums [][32]byte
	for range 2 {
		// Other folders, other times, other modes.
		o := programs(t)
		now := time.Now().Add(time.Duration(len(sums)) * time.Hour)
		if err := os.Chtimes(o.programs[0], now, now); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(o.programs[0], 0o777); err != nil {
			t.Fatal(err)
		}
		bytes, err := os.ReadFile(written(t, o))
		if err != nil {
			t.Fatal(err)
		}
		sums = append(sums, sha256.Sum256(bytes))
	}
	if sums[0] != sums[1] {
		t.Error("they differ")
	}
}

func TestTheImageIsTheOneThatTheManifestsName(t *testing.T) {
	out := written(t, programs(t))
	manifest, err := tarball.LoadManifest(func() (io.ReadCloser, error) { return os.Open(out) })
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest) != 1 {
		t.Fatalf("%d images", len(manifest))
	}
	for _, file := range []string{"base/daemonset.yaml", "uninstall/job.yaml"} {
		want := find(t, "deploy/kustomize/"+file, `(?m)^\s*image: (.*)$`)
		if !slices.Equal(manifest[0].RepoTags, []string{want}) {
			t.Errorf("the archive has %q, %s asks for %s", manifest[0].RepoTags, file, want)
		}
	}
	if version := find(t, "Dockerfile", `(?m)^ARG VERSION=(.*)$`); version != chartVersion(t) {
		t.Errorf("the Dockerfile's version is %s", version)
	}
}

func TestTheImageHoldsTheProgramsAndNothingOfTheBuilder(t *testing.T) {
	o := programs(t)
	tag, err := name.NewTag("podtap:" + o.version)
	if err != nil {
		t.Fatal(err)
	}
	image, err := tarball.ImageFromPath(written(t, o), &tag)
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.OS != "linux" || config.Architecture != "amd64" || !slices.Equal(config.Config.Entrypoint, []string{"/podtapd"}) {
		t.Errorf("the configuration is %+v", config)
	}
	for label, want := range map[string]string{"version": o.version, "revision": o.revision, "created": "2023-11-14T22:13:20Z"} {
		if have := config.Config.Labels["org.opencontainers.image."+label]; have != want {
			t.Errorf("%s is %q", label, have)
		}
	}
	layers, err := image.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	content, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer content.Close()
	var names []string
	for r := tar.NewReader(content); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		mode := int64(0o755)
		if h.Name == "LICENSE" {
			mode = 0o644
		}
		if h.Mode != mode || h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Gname != "" || !h.ModTime.Equal(o.created) {
			t.Errorf("%+v", h)
		}
	}
	if want := []string{"LICENSE", "kubectl-podtap", "podtap", "podtapd"}; !slices.Equal(names, want) {
		t.Errorf("it holds %q", names)
	}
}

func TestWhatIsMissingIsSaid(t *testing.T) {
	for says, change := range map[string]func(*options){
		"-version":        func(o *options) { o.version = "" },
		"version \"a b\"": func(o *options) { o.version = "a b" },
		"no such file":    func(o *options) { o.programs[1] += "-not" },
		"two files":       func(o *options) { o.programs[1] = o.programs[0] },
	} {
		o := programs(t)
		change(&o)
		out := filepath.Join(t.TempDir(), "image.tar")
		if err := run(o, out); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("the error is %v, without %q", err, says)
		}
		if _, err := os.Stat(out); err == nil {
			t.Error("an archive was written")
		}
	}
}
