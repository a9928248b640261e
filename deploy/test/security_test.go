package deploy_test

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"
)

// What there is, and nothing else; each with the type that it decodes into.
var kinds = map[string]any{
	"Namespace":                        &corev1.Namespace{},
	"ServiceAccount":                   &corev1.ServiceAccount{},
	"ConfigMap":                        &corev1.ConfigMap{},
	"ResourceQuota":                    &corev1.ResourceQuota{},
	"ClusterRole":                      &rbacv1.ClusterRole{},
	"ClusterRoleBinding":               &rbacv1.ClusterRoleBinding{},
	"Role":                             &rbacv1.Role{},
	"RoleBinding":                      &rbacv1.RoleBinding{},
	"DaemonSet":                        &appsv1.DaemonSet{},
	"Job":                              &batchv1.Job{},
	"ValidatingAdmissionPolicy":        &admissionv1.ValidatingAdmissionPolicy{},
	"ValidatingAdmissionPolicyBinding": &admissionv1.ValidatingAdmissionPolicyBinding{},
}

func everything(t *testing.T) objects {
	installed, hooks := helmObjects(t, values{"startupTaint": "podtap.io/not-ready", "metrics": values{"address": ":9711"}})
	maps.Copy(installed, hooks)
	return installed
}

func TestEveryObjectDecodesStrictly(t *testing.T) {
	for key, text := range everything(t) {
		kind, _, _ := strings.Cut(key, "/")
		into, ok := kinds[kind]
		if !ok {
			t.Errorf("%s: nobody expected one", key)
			continue
		}
		object := reflect.New(reflect.TypeOf(into).Elem()).Interface()
		if err := yaml.UnmarshalStrict([]byte(text), object); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
}

func TestTheDaemonSetHasOnlyThePrivilegesItNeeds(t *testing.T) {
	helm, _ := helmObjects(t, nil)
	pod := decode[appsv1.DaemonSet](t, helm, "DaemonSet/podtap-system/podtap").Spec.Template.Spec
	if pod.HostPID || pod.HostIPC || pod.ShareProcessNamespace != nil {
		t.Error("it shares more of the node than its network")
	}
	if len(pod.Containers) != 1 || len(pod.InitContainers) != 0 {
		t.Fatal("it has more than one container")
	}
	s := pod.Containers[0].SecurityContext
	if s.Privileged == nil || *s.Privileged {
		t.Error("it is privileged")
	}
	if s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem {
		t.Error("its root can be written")
	}
	if pod.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault || s.SeccompProfile != nil {
		t.Error("its seccomp profile is not the runtime's")
	}
	want := &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"NET_ADMIN", "SYS_ADMIN", "NET_BIND_SERVICE"}}
	if !reflect.DeepEqual(s.Capabilities, want) {
		t.Errorf("capabilities %+v", s.Capabilities)
	}
	own := slices.IndexFunc(pod.Containers[0].Env, func(e corev1.EnvVar) bool { return e.Name == "POD_UID" })
	if own < 0 || pod.Containers[0].Env[own].ValueFrom.FieldRef.FieldPath != "metadata.uid" {
		t.Error("it does not know its own pod, and so not whether the runtime is the kubelet's")
	}
	paths := []string{"/opt/cni/bin", "/etc/cni/net.d", "/run/podtap", "/run/netns", "/run/containerd"}
	if have := hostPaths(pod); !slices.Equal(have, paths) {
		t.Errorf("host paths %q", have)
	}
	writable := []string{"cni-bin", "cni-conf", "state"}
	for _, m := range pod.Containers[0].VolumeMounts {
		if m.ReadOnly == slices.Contains(writable, m.Name) {
			t.Errorf("volume %s: read-only is %v", m.Name, m.ReadOnly)
		}
		if m.SubPath != "" {
			t.Errorf("volume %s: a subPath does not follow changes", m.Name)
		}
	}
}

func TestTheUninstallJobHasNoPrivileges(t *testing.T) {
	_, hooks := helmObjects(t, nil)
	pod := decode[batchv1.Job](t, hooks, "Job/podtap-system/podtap-uninstall").Spec.Template.Spec
	s := pod.Containers[0].SecurityContext
	if *s.AllowPrivilegeEscalation || s.Capabilities.Add != nil || !*pod.SecurityContext.RunAsNonRoot || len(pod.Volumes) > 0 {
		t.Errorf("it has more than it needs: %+v", s)
	}
}

func TestAccountsHaveExactlyTheseRights(t *testing.T) {
	all := everything(t)
	helm, _ := helmObjects(t, nil)
	base := `[{"apiGroups":[""],"resources":["pods"],"verbs":["get"]},
		{"apiGroups":[""],"resources":["events"],"verbs":["create","patch"]}`
	for _, c := range []struct {
		name string
		have []rbacv1.PolicyRule
		want string
	}{
		{"podtap", decode[rbacv1.ClusterRole](t, helm, "ClusterRole//podtap").Rules, base + "]"},
		{"podtap with the startup taint", decode[rbacv1.ClusterRole](t, all, "ClusterRole//podtap").Rules,
			base + `,{"apiGroups":[""],"resources":["nodes"],"verbs":["get","patch"]}]`},
		{"podtap-uninstall in its namespace", decode[rbacv1.Role](t, all, "Role/podtap-system/podtap-uninstall").Rules,
			`[{"apiGroups":["apps"],"resources":["daemonsets"],"resourceNames":["podtap"],"verbs":["get","patch","delete"]},
			{"apiGroups":[""],"resources":["pods"],"verbs":["list"]}]`},
	} {
		var want []rbacv1.PolicyRule
		if err := json.Unmarshal([]byte(c.want), &want); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(c.have, want) {
			t.Errorf("%s may do\n%+v, not\n%+v", c.name, c.have, want)
		}
	}
	for key := range all {
		if strings.Contains(key, "Role/") && !strings.HasSuffix(key, "/podtap") && !strings.HasSuffix(key, "/podtap-uninstall") {
			t.Errorf("nobody expected %s", key)
		}
	}
}

// A reader of the manifests is to see what each right is for.
func TestEveryRightSaysWhatItIsFor(t *testing.T) {
	files := map[string]string{}
	for _, pattern := range []string{chartDir + "/templates/*.yaml", chartDir + "/templates/*/*.yaml", kustomize + "/*/*.yaml"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			t.Fatalf("%s: %v", pattern, err)
		}
		for _, name := range names {
			files[name] = readFile(t, name)
		}
	}
	list := regexp.MustCompile(`^\s*(verbs|add):(.*)$`)
	count := map[string]int{}
	for name, text := range files {
		lines := strings.Split(text, "\n")
		for i, line := range lines {
			if strings.TrimSpace(line) == "hostPath:" {
				count["hostPath"]++
				if !strings.HasPrefix(strings.TrimSpace(lines[i-1]), "#") {
					t.Errorf("%s:%d: this hostPath has no comment above it", name, i+1)
				}
			}
			m := list.FindStringSubmatch(line)
			if m == nil {
				continue
			}
			if m[2] != "" {
				t.Errorf("%s:%d: write one a line, with a comment", name, i+1)
			}
			for j := i + 1; j < len(lines); j++ {
				item := strings.TrimSpace(lines[j])
				if strings.HasPrefix(item, "{{") {
					continue
				}
				if !strings.HasPrefix(item, "- ") || strings.HasPrefix(item, "- apiGroups") || strings.HasPrefix(item, "- name") {
					break
				}
				count[m[1]]++
				if !strings.Contains(item, " # ") {
					t.Errorf("%s:%d: %q has no comment beside it", name, j+1, item)
				}
			}
		}
	}
	// Of the chart and of its copy: 5 host paths; 4 capabilities, one of them of the values.
	if count["hostPath"] != 10 || count["add"] != 7 || count["verbs"] != 18 {
		t.Errorf("this test does not see them all: %v", count)
	}
}

func hostPaths(pod corev1.PodSpec) []string {
	var paths []string
	for _, v := range pod.Volumes {
		if v.HostPath != nil {
			paths = append(paths, v.HostPath.Path)
		}
	}
	return paths
}
