package deploy_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/podtap/podtap/deploy/test/chart"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
)

type values = map[string]any

func TestTheChartRefusesValuesWithAMistake(t *testing.T) {
	for name, c := range map[string]struct {
		values values
		says   string
	}{
		"an unknown key":              {values{"startupTain": "x"}, "startupTain"},
		"an unknown key further down": {values{"image": values{"registry": "x"}}, "registry"},
		"a number for a path":         {values{"cniBinDir": 5}, "cniBinDir"},
		"a relative path":             {values{"cniConfDir": "etc/cni"}, "cniConfDir"},
		"a socket with a scheme":      {values{"runtimeSocket": "unix:///run/x.sock"}, "runtimeSocket"},
		"a text for a switch":         {values{"admissionPolicy": values{"enabled": "yes"}}, "enabled"},
		"a taint with an effect":      {values{"startupTaint": "podtap.io/not-ready:NoSchedule"}, "startupTaint"},
		"metrics without a port":      {values{"metrics": values{"address": "0.0.0.0"}}, "address"},
		"a timeout without a unit":    {values{"uninstall": values{"timeout": "10"}}, "timeout"},
		"every capability":            {values{"extraCapabilities": []any{"ALL"}}, "extraCapabilities"},
		"a log level of its own":      {values{"logLevel": "loud"}, "logLevel"},
		"no node updated at a time":   {values{"maxUnavailable": 0}, "maxUnavailable"},
		"settings that are no YAML":   {values{"config": "policy: ["}, "config is not YAML"},
		"an unknown setting":          {values{"config": "polcy: {}"}, "known are failurePolicy, log, policy, taps"},
		"an object as the settings":   {values{"config": values{"policy": nil}}, "config"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := chart.Render(chartDir, c.values)
			if err == nil {
				t.Fatal("it rendered")
			}
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("the error does not say %q: %v", c.says, err)
			}
		})
	}
}

func TestEachValueComesToItsPlace(t *testing.T) {
	helm, hooks := helmObjects(t, values{
		"image":             values{"repository": "example.test/podtap", "tag": "1.2.3", "pullPolicy": "Never"},
		"imagePullSecrets":  []any{values{"name": "secret"}},
		"config":            "failurePolicy: Ignore\n",
		"cniBinDir":         "/opt/bin",
		"cniConfDir":        "/etc/net.d",
		"runtimeSocket":     "/run/crio/crio.sock",
		"metrics":           values{"address": ":9711"},
		"logLevel":          "debug",
		"resources":         values{"limits": values{"memory": "1Gi"}},
		"nodeSelector":      values{"tap": "yes"},
		"tolerations":       []any{},
		"maxUnavailable":    3,
		"extraCapabilities": []any{"DAC_OVERRIDE"},
		"uninstall":         values{"timeout": "9m"},
	})
	daemonSet := decode[appsv1.DaemonSet](t, helm, "DaemonSet/podtap-system/podtap")
	pod := daemonSet.Spec.Template.Spec
	c := pod.Containers[0]
	equal := func(what string, have, want any) {
		t.Helper()
		if have != want {
			t.Errorf("%s is %v, not %v", what, have, want)
		}
	}
	equal("the image", c.Image, "example.test/podtap:1.2.3")
	equal("the pull policy", c.ImagePullPolicy, corev1.PullNever)
	equal("the pull secret", pod.ImagePullSecrets[0].Name, "secret")
	equal("the node selector", pod.NodeSelector["tap"], "yes")
	equal("the operating system", pod.NodeSelector["kubernetes.io/os"], "linux")
	equal("the number of tolerations", len(pod.Tolerations), 0)
	equal("maxUnavailable", daemonSet.Spec.UpdateStrategy.RollingUpdate.MaxUnavailable.IntValue(), 3)
	equal("the memory limit", c.Resources.Limits.Memory().String(), "1Gi")
	equal("the metrics port", c.Ports[0].ContainerPort, int32(9711))
	equal("the scrape annotation", daemonSet.Spec.Template.Annotations["prometheus.io/port"], "9711")
	for _, want := range []string{"--runtime-endpoint=unix:///run/crio/crio.sock", "--metrics-address=:9711", "--log-level=debug"} {
		if !slices.Contains(c.Args, want) {
			t.Errorf("no %s in %q", want, c.Args)
		}
	}
	if !slices.Contains(c.SecurityContext.Capabilities.Add, "DAC_OVERRIDE") {
		t.Error("the capability is not there")
	}
	paths := hostPaths(pod)
	for _, want := range []string{"/opt/bin", "/etc/net.d", "/run/crio"} {
		if !slices.Contains(paths, want) {
			t.Errorf("no %s in %q", want, paths)
		}
	}
	equal("the settings", decode[corev1.ConfigMap](t, helm, "ConfigMap/podtap-system/podtap").Data["config.yaml"], "failurePolicy: Ignore\n")
	job := hooks["Job/podtap-system/podtap-uninstall"]
	for _, want := range []string{"--timeout=9m", "image: example.test/podtap:1.2.3"} {
		if !strings.Contains(job, want) {
			t.Errorf("the Job has no %s", want)
		}
	}
}

func TestWithoutARuntimeSocketNothingOfTheRuntimeIsMounted(t *testing.T) {
	helm, _ := helmObjects(t, values{"runtimeSocket": ""})
	pod := decode[appsv1.DaemonSet](t, helm, "DaemonSet/podtap-system/podtap").Spec.Template.Spec
	if paths := hostPaths(pod); len(paths) != 4 {
		t.Errorf("host paths %q", paths)
	}
	if !slices.Contains(pod.Containers[0].Args, "--runtime-endpoint=") {
		t.Errorf("arguments %q; the flag's default is containerd's socket", pod.Containers[0].Args)
	}
}

func TestSwitchesLeaveOutWhatTheySay(t *testing.T) {
	helm, hooks := helmObjects(t, values{
		"createNamespace": false,
		"admissionPolicy": values{"enabled": false},
		"uninstall":       values{"enabled": false},
		"startupTaint":    "example.test/wait",
	})
	for key := range helm {
		if strings.HasPrefix(key, "Namespace/") || strings.HasPrefix(key, "ValidatingAdmission") {
			t.Errorf("%s is there", key)
		}
	}
	if len(hooks) > 0 {
		t.Errorf("there are hooks: %q", slices.Collect(maps.Keys(hooks)))
	}
	role := decode[rbacv1.ClusterRole](t, helm, "ClusterRole//podtap")
	if len(role.Rules) != 3 {
		t.Errorf("%d rules", len(role.Rules))
	}
}

// Helm makes the namespace of the release itself, and then refuses to make it again.
func TestAReleaseInItsOwnNamespaceDoesNotMakeIt(t *testing.T) {
	files, err := chart.RenderIn(chartDir, "podtap-system", nil)
	if err != nil {
		t.Fatal(err)
	}
	if text, ok := files["namespace.yaml"]; ok {
		t.Errorf("it has\n%s", text)
	}
	if !strings.Contains(files["NOTES.txt"], "pod-security.kubernetes.io/enforce=privileged") {
		t.Error("the notes do not say that the namespace needs a label")
	}
}
