package deploy_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/podtap/podtap/deploy/test/chart"
)

func TestTheCommittedManifestsAreWhatTheChartRenders(t *testing.T) {
	files, err := chart.Manifests(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		have, err := os.ReadFile(filepath.Join(kustomize, name))
		if err != nil {
			t.Errorf("%v; run `make manifests`", err)
		} else if a, b, differ := firstDifference(string(have), want); differ {
			t.Errorf("%s has\n\t%s\nthe chart renders\n\t%s\nRun `make manifests`", name, a, b)
		}
	}
	err = filepath.WalkDir(kustomize, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "kustomization.yaml" {
			return err
		}
		name, _ = filepath.Rel(kustomize, name)
		if _, ok := files[name]; !ok {
			t.Errorf("%s is in deploy/kustomize, the chart does not render it", name)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestHelmAndKustomizeInstallTheSameObjects(t *testing.T) {
	helm, _ := helmObjects(t, nil)
	sameObjects(t, "kustomize/base", kustomized(t, kustomize+"/base"), "the chart", helm)
}

func TestTheStartupTaintIsTheSameByHelmAndByKustomize(t *testing.T) {
	helm, _ := helmObjects(t, map[string]any{"startupTaint": chart.StartupTaint})
	got := overlay(t, "resources: [../base]\ncomponents: [../startup-taint]\n")
	sameObjects(t, "base with startup-taint", got, "the chart with startupTaint", helm)
}

// As the comment in base says.
func TestAnOverlayCanLeaveTheAdmissionPolicyOut(t *testing.T) {
	helm, _ := helmObjects(t, values{"admissionPolicy": values{"enabled": false}})
	lines := "resources: [../base]\npatches:\n"
	for _, kind := range []string{"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"} {
		lines += `  - target: {kind: ` + kind + `}
    patch: '{"$patch": "delete", "kind": "any", "metadata": {"name": "any"}}'
`
	}
	sameObjects(t, "base without the policy", overlay(t, lines), "the chart without it", helm)
}

func TestHelmAndKustomizeUninstallByTheSameObjects(t *testing.T) {
	_, hooks := helmObjects(t, nil)
	annotation := regexp.MustCompile(`(?m)^  annotations:\n(    helm\.sh/.*\n)+`)
	for key, text := range hooks {
		if n := strings.Count(text, "helm.sh/hook: pre-delete"); n != 1 {
			t.Errorf("%s is not a pre-delete hook", key)
		}
		if !strings.Contains(text, "helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded") {
			t.Errorf("%s would be left, or be in the way of the next try", key)
		}
		hooks[key] = annotation.ReplaceAllString(text, "")
	}
	sameObjects(t, "kustomize/uninstall", kustomized(t, kustomize+"/uninstall"), "the chart's hooks", hooks)
}

func TestTheUninstallJobRunsAfterItsPermissionsAreThere(t *testing.T) {
	_, hooks := helmObjects(t, nil)
	weight := regexp.MustCompile(`helm\.sh/hook-weight: "(-?\d+)"`)
	for key, text := range hooks {
		w := weight.FindStringSubmatch(text)
		if w == nil {
			t.Errorf("%s has no weight", key)
		} else if isJob := strings.HasPrefix(key, "Job/"); isJob != (w[1] == "0") {
			t.Errorf("%s has weight %s; the Job's is 0, others come before", key, w[1])
		}
	}
}

func TestNoManifestNamesARegistry(t *testing.T) {
	for name, text := range rendered(t, nil) {
		for _, image := range regexp.MustCompile(`(?m)^\s*image: (.*)$`).FindAllStringSubmatch(text, -1) {
			if strings.Contains(image[1], "/") {
				t.Errorf("%s: image %s", name, image[1])
			}
		}
	}
}
