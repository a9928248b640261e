// Package samples_test proves that podtap takes the samples, and the settings that it is
// installed with.
package samples_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"go.yaml.in/yaml/v3"

	"github.com/podtap/podtap/pkg/cniconf"
	"github.com/podtap/podtap/pkg/policy"
	"github.com/podtap/podtap/pkg/tap"
)

// documents are the file's YAML documents.
func documents(t *testing.T, name string) []map[string]any {
	t.Helper()
	d := yaml.NewDecoder(strings.NewReader(read(t, name)))
	var all []map[string]any
	for {
		var one map[string]any
		err := d.Decode(&one)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		all = append(all, one)
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// at is the value at a path of an object's fields.
func at[T any](t *testing.T, object any, fields ...string) T {
	t.Helper()
	for _, field := range fields {
		m, ok := object.(map[string]any)
		if !ok || m[field] == nil {
			t.Fatalf("no %s of %s", field, strings.Join(fields, "."))
		}
		object = m[field]
	}
	value, ok := object.(T)
	if !ok {
		t.Fatalf("%s is %T", strings.Join(fields, "."), object)
	}
	return value
}

// settings is a network configuration with these settings, as podtapd writes it.
func settings(t *testing.T, text string) *cniconf.Config {
	t.Helper()
	var entry map[string]any
	if err := yaml.Unmarshal([]byte(text), &entry); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	entry["cniVersion"], entry["name"], entry["type"] = "1.0.0", "pods", "podtap"
	// Something that CNI knows and settings have not would be passed over unseen.
	for name := range entry {
		switch name {
		case "cniVersion", "name", "type", "policy", "failurePolicy", "taps", "log":
		default:
			t.Errorf("%s is no setting", name)
		}
	}
	stdin, err := json.Marshal(entry)
	if err != nil {
		t.Fatal(err)
	}
	c, err := cniconf.Parse(stdin)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.NetworkTaps(); err != nil {
		t.Fatal(err)
	}
	return c
}

func taps(t *testing.T, annotation string) []tap.Tap {
	t.Helper()
	all, err := cniconf.AnnotationTaps(map[string]string{cniconf.AnnotationKey: annotation})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("there is no tap")
	}
	return all
}

func allowed(t *testing.T, p policy.Policy, annotation, namespace string) {
	t.Helper()
	for i, one := range taps(t, annotation) {
		if err := p.Allow(one, i, namespace); err != nil {
			t.Error(err)
		}
	}
}

func refused(t *testing.T, p policy.Policy, annotation, namespace string) {
	t.Helper()
	for i, one := range taps(t, annotation) {
		if p.Allow(one, i, namespace) == nil {
			t.Errorf("%s is allowed in %s", annotation, namespace)
		}
	}
}

// uncommented is what stands in comments, from a line that begins so up to an empty one
// or one that is no comment; as a YAML document of its own.
func uncommented(t *testing.T, text, begin string) string {
	t.Helper()
	var out strings.Builder
	comment := regexp.MustCompile(`^\s*# (.*)$`)
	for line := range strings.Lines(text) {
		m := comment.FindStringSubmatch(strings.TrimRight(line, "\n"))
		switch {
		case m != nil && (out.Len() > 0 || strings.HasPrefix(m[1], begin)):
			out.WriteString(m[1] + "\n")
		case out.Len() > 0:
			return out.String()
		}
	}
	if out.Len() == 0 {
		t.Fatalf("no comment begins with %q", begin)
	}
	return out.String()
}

func TestTheInstalledSettingsAreTheClosedPolicy(t *testing.T) {
	object := documents(t, "../kustomize/base/configmap.yaml")[0]
	text := at[string](t, object, "data", "config.yaml")
	c := settings(t, text)
	// Written out, so that a reader sees it; what it leaves out is the same either way.
	written := policy.Policy{MaxTaps: policy.Closed().MaxTaps, Rules: []policy.Rule{{Sinks: []tap.Sink{tap.SinkVeth}}}}
	if !reflect.DeepEqual(c.Policy, written) {
		t.Errorf("the policy is %+v", c.Policy)
	}
	if c.FailurePolicy != cniconf.Fail || c.Log != (cniconf.Log{Level: "info"}) {
		t.Errorf("the settings are %+v", c)
	}
	if taps, _ := c.NetworkTaps(); len(taps) > 0 {
		t.Errorf("every pod is tapped: %+v", taps)
	}
	t.Run("and the examples beside them are right", func(t *testing.T) {
		p := settings(t, uncommented(t, text, "policy:")).Policy
		allowed(t, p, "vxlan: {vni: 100, remote: 'fd00::9'}", "prod-a")
		refused(t, p, "vxlan: {vni: 100, remote: 198.18.0.9}", "default")
		allowed(t, p, "veth: {}", "default")
		if taps, _ := settings(t, uncommented(t, text, "taps:")).NetworkTaps(); len(taps) != 1 {
			t.Errorf("%d taps", len(taps))
		}
	})
}

func TestTheDeploymentIsTappedUnderTheClosedPolicy(t *testing.T) {
	const name = "annotated-deployment.yaml"
	pod := at[map[string]any](t, documents(t, name)[0], "spec", "template", "metadata", "annotations")
	annotation := pod[cniconf.AnnotationKey].(string)
	allowed(t, policy.Closed(), annotation, "default")

	t.Run("and to the collector under the policy beside it", func(t *testing.T) {
		text := read(t, name)
		var other map[string]string
		if err := yaml.Unmarshal([]byte(uncommented(t, text, cniconf.AnnotationKey)), &other); err != nil {
			t.Fatal(err)
		}
		annotation := other[cniconf.AnnotationKey]
		var rules []any
		if err := yaml.Unmarshal([]byte(uncommented(t, text, "- namespaces")), &rules); err != nil {
			t.Fatal(err)
		}
		document, err := json.Marshal(map[string]any{"policy": map[string]any{"rules": rules}})
		if err != nil {
			t.Fatal(err)
		}
		allowed(t, settings(t, string(document)).Policy, annotation, "default")
		refused(t, policy.Closed(), annotation, "default")
	})
}

func TestThePolicyExampleAllowsWhatItSays(t *testing.T) {
	p := settings(t, read(t, "config-policy-example.yaml")).Policy
	allowed(t, p, "veth: {}", "default")
	allowed(t, p, "vxlan: {vni: 150, remote: 'fd00:9::1'}", "prod-a")
	refused(t, p, "vxlan: {vni: 200, remote: 'fd00:9::1'}", "prod-a")
	refused(t, p, "vxlan: {vni: 150, remote: 198.18.0.9}", "default")
	allowed(t, p, "wire: {addresses: [198.19.0.2/24], hostAddresses: [198.19.0.1/24]}", "lab")
	refused(t, p, "wire: {addresses: [198.18.7.2/24]}", "lab")
}

func TestTheConflistIsOne(t *testing.T) {
	list, err := libcni.ConfListFromBytes([]byte(read(t, "conflist.json")))
	if err != nil {
		t.Fatal(err)
	}
	last := list.Plugins[len(list.Plugins)-1]
	if last.Network.Type != "podtap" || !last.Network.Capabilities[cniconf.Capability] {
		t.Errorf("the last plugin is %+v", last.Network)
	}
	c, err := cniconf.Parse(last.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	allowed(t, c.Policy, "vxlan: {vni: 1, remote: 198.18.0.9}", "prod-a")
	refused(t, c.Policy, "vxlan: {vni: 1, remote: 198.18.0.9}", "default")
}
