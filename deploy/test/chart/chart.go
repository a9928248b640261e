// Package chart renders podtap's Helm chart, and from it the files for kustomize, with
// their comments.
package chart

import (
	"fmt"
	"path"
	"regexp"
	"strings"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
)

// StartupTaint is the taint of the kustomize component.
const StartupTaint = "podtap.io/not-ready"

// White space at the end of a line, which indenting gives to empty ones.
var trailing = regexp.MustCompile(`(?m)[ \t]+$`)

// Render is the chart's templates with values over its defaults: the text of each by its
// path below templates/. Empty ones are left out.
func Render(dir string, values map[string]any) (map[string]string, error) {
	return RenderIn(dir, "default", values)
}

// RenderIn is Render for a release in another namespace than "default".
func RenderIn(dir, namespace string, values map[string]any) (map[string]string, error) {
	c, err := loader.Load(dir)
	if err != nil {
		return nil, fmt.Errorf("load the chart: %w", err)
	}
	release := chartutil.ReleaseOptions{Name: "podtap", Namespace: namespace, Revision: 1, IsInstall: true}
	// This checks the values against values.schema.json too.
	all, err := chartutil.ToRenderValues(c, values, release, chartutil.DefaultCapabilities)
	if err != nil {
		return nil, fmt.Errorf("values: %w", err)
	}
	// Strict: a value that does not exist is a typo in a template.
	texts, err := engine.Engine{Strict: true}.Render(c, all)
	if err != nil {
		return nil, fmt.Errorf("render the chart: %w", err)
	}
	files := map[string]string{}
	for name, text := range texts {
		text = strings.TrimSpace(trailing.ReplaceAllString(text, ""))
		name = strings.TrimPrefix(name, c.Name()+"/templates/")
		if text != "" && !strings.HasPrefix(path.Base(name), "_") {
			files[name] = text + "\n"
		}
	}
	return files, nil
}

const header = "# Rendered from deploy/helm/podtap by `make manifests`.\n\n"

// The annotations that only Helm understands, where an object has no others.
var hook = regexp.MustCompile(`(?m)^  annotations:\n(?:    helm\.sh/.*\n)+`)

// Manifests is what deploy/kustomize holds of the chart: the text of each file by its path
// there. Its kustomization.yaml files are written by hand.
func Manifests(dir string) (map[string]string, error) {
	base, err := Render(dir, nil)
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for name, text := range base {
		if path.Ext(name) != ".yaml" {
			continue
		}
		to := path.Join("base", name)
		if strings.HasPrefix(name, "uninstall/") {
			to = name
		}
		files[to] = header + hook.ReplaceAllString(text, "")
	}
	tainted, err := Render(dir, map[string]any{"startupTaint": StartupTaint})
	if err != nil {
		return nil, err
	}
	// The files that only the taint brings; what it changes in others, the component patches.
	for name, text := range tainted {
		if _, ok := base[name]; !ok {
			files[path.Join("startup-taint", name)] = header + text
		}
	}
	return files, nil
}
