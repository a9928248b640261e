package deploy_test

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/podtap/podtap/deploy/test/chart"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

const (
	chartDir  = "../helm/podtap"
	kustomize = "../kustomize"
)

// objects are Kubernetes objects as YAML with sorted fields and without comments, by
// kind, namespace and name.
type objects map[string]string

func rendered(t *testing.T, values map[string]any) map[string]string {
	t.Helper()
	files, err := chart.Render(chartDir, values)
	if err != nil {
		t.Fatal(err)
	}
	delete(files, "NOTES.txt")
	return files
}

// installed is what `helm install` makes, hooks is what Helm keeps for the uninstallation.
func helmObjects(t *testing.T, values map[string]any) (installed, hooks objects) {
	t.Helper()
	installed, hooks = objects{}, objects{}
	for name, text := range rendered(t, values) {
		if strings.HasPrefix(name, "uninstall/") {
			hooks.add(t, text)
		} else {
			installed.add(t, text)
		}
	}
	return installed, hooks
}

func kustomized(t *testing.T, dir string) objects {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatal(err)
	}
	text, err := resources.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	o := objects{}
	o.add(t, string(text))
	return o
}

// overlay is a kustomization of a user's, with these lines.
func overlay(t *testing.T, lines string) objects {
	t.Helper()
	dir, err := os.MkdirTemp(kustomize, "overlay-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(lines), 0o644); err != nil {
		t.Fatal(err)
	}
	return kustomized(t, dir)
}

func (o objects) add(t *testing.T, text string) {
	t.Helper()
	for _, document := range documents(text) {
		var object map[string]any
		if err := yaml.UnmarshalStrict([]byte(document), &object); err != nil {
			t.Fatalf("%v in:\n%s", err, document)
		}
		meta := object["metadata"].(map[string]any)
		namespace, _ := meta["namespace"].(string)
		key := strings.Join([]string{object["kind"].(string), namespace, meta["name"].(string)}, "/")
		if _, twice := o[key]; twice {
			t.Errorf("%s is there twice", key)
		}
		sorted, err := yaml.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		o[key] = string(sorted)
	}
}

func documents(text string) []string {
	var all []string
	for document := range strings.SplitSeq("\n"+text, "\n---\n") {
		if strings.TrimSpace(document) != "" {
			all = append(all, document)
		}
	}
	return all
}

// sameObjects compares object by object, and shows the first line that differs of each.
func sameObjects(t *testing.T, what string, got objects, than string, want objects) {
	t.Helper()
	keys := slices.Sorted(maps.Keys(want))
	for key := range got {
		if _, ok := want[key]; !ok {
			t.Errorf("%s has %s, %s has not", what, key, than)
		}
	}
	for _, key := range keys {
		have, ok := got[key]
		if !ok {
			t.Errorf("%s has %s, %s has not", than, key, what)
			continue
		}
		if a, b, differ := firstDifference(have, want[key]); differ {
			t.Errorf("%s: %s has\n\t%s\n%s has\n\t%s", key, what, a, than, b)
		}
	}
}

func firstDifference(a, b string) (lineA, lineB string, differ bool) {
	linesA, linesB := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range max(len(linesA), len(linesB)) {
		lineA, lineB = "(its end)", "(its end)"
		if i < len(linesA) {
			lineA = linesA[i]
		}
		if i < len(linesB) {
			lineB = linesB[i]
		}
		if lineA != lineB {
			return lineA, lineB, true
		}
	}
	return "", "", false
}

// decode reads the one object with this key, and refuses fields that its type lacks.
func decode[T any](t *testing.T, o objects, key string) T {
	t.Helper()
	var into T
	text, ok := o[key]
	if !ok {
		t.Fatalf("there is no %s", key)
	}
	if err := yaml.UnmarshalStrict([]byte(text), &into); err != nil {
		t.Fatalf("%s: %v", key, err)
	}
	return into
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimSpace(text)) + "\n"
}
