//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/podtap/podtap/api/node"
)

const (
	configurations = "/etc/cni/net.d"
	multusFile     = configurations + "/00-multus.conf"
	multusAccess   = configurations + "/multus.d/multus.kubeconfig"
	// multusLog is of the node alone.
	multusLog = "/var/log/multus.log"
)

// withoutMultus is what the nodes' folders of CNI had before, by node.
var withoutMultus = map[string]string{}

// built is a program that scripts/cluster has built.
func built(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(filepath.Dir(filepath.Dir(must(t, "kubeconfig"))), "bin", name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v; `scripts/cluster/cluster.sh build multus` builds it", err)
	}
	return path
}

// foldersOf has all of a node's folders of CNI: names, modes, and what is in the files.
func foldersOf(t *testing.T, node string) string {
	t.Helper()
	return on(t, node, "sh", "-c", `cd / && find etc/cni opt/cni -printf '%p %M %l\n' | sort && find etc/cni opt/cni -type f | sort | xargs sha256sum`)
}

// put writes a file of a node, whole, as installers do.
func put(t *testing.T, node, path, text string) {
	t.Helper()
	if _, err := try(text, "sh", node, "sh", "-c", fmt.Sprintf(`mkdir -p "$(dirname %[1]s)" && cat >%[1]s.new && mv %[1]s.new %[1]s`, path)); err != nil {
		t.Fatal(err)
	}
}

// primaryFile is the nodes' network configuration, primaryName its network's name.
var (
	primaryFile = configurations + "/10-" + cluster + ".conflist"
	primaryName = cluster + "net"
)

// primary is that configuration, to the byte.
func primary(t *testing.T, node string) string {
	t.Helper()
	text, err := try("", "sh", node, "cat", primaryFile)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// sample is one of the samples of deploy, for this cluster: in a namespace, with the
// collector that is here and an image that is here.
func sample(t *testing.T, name, namespace string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "deploy", "samples", name))
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer("namespace: default", "namespace: "+namespace,
		"image: busybox\n", "image: lab.local/netutil:1\n      imagePullPolicy: Never\n",
		"spec:\n  containers", "spec:\n  terminationGracePeriodSeconds: 0\n  nodeSelector: {kubernetes.io/hostname: n1}\n  containers",
		"198.18.0.9", apartAddress,
		`"clusterNetwork": "pods"`, fmt.Sprintf("%q: %q", "clusterNetwork", primaryName), configurations+"/10-pods.conflist", primaryFile).Replace(string(text))
}

// fixture is a file of the tests'.
func fixture(name string) string {
	return filepath.Join(root, "internal", "e2e", "testdata", "multus", name)
}

var multusNetworks int

// useMultus gives both nodes a configuration of Multus', and waits until their runtimes
// have loaded it and podtapd agrees with it.
func useMultus(t *testing.T, text string) {
	t.Helper()
	multusNetworks++
	name := fmt.Sprintf("multus-%d", multusNetworks) // tells which one is loaded
	text = strings.Replace(text, `"multus-cni-network",`, fmt.Sprintf("%q,\n  \"logFile\": %q, \"logLevel\": \"verbose\",", name, multusLog), 1)
	for _, node := range nodes {
		put(t, node, multusFile, text)
	}
	for _, node := range nodes {
		eventually(t, patience, "the runtime of "+node+" uses "+name, func() error {
			got, err := report(t, node)
			if err == nil && got.Runtime.Network != name {
				err = fmt.Errorf("it uses %q", got.Runtime.Network)
			}
			return err
		})
	}
	ready(t, patience)
}

// report is what podtapd of a node says of it.
func report(t *testing.T, on string) (r node.Report, err error) {
	t.Helper()
	answer, err := get(t, on, node.PathReport)
	if err == nil {
		_, body, _ := strings.Cut(answer, "\r\n\r\n")
		err = json.Unmarshal([]byte(body), &r)
	}
	return r, err
}

// testMultusInstall puts podtap on the nodes by its manifest, and then Multus, by hand as
// its quick start does. testMultusCopy and testMultusUninstall have them come in the other order.
func testMultusInstall(t *testing.T) {
	for _, name := range []string{"crd.yaml", "account.yaml"} {
		kubectl(t, "apply", "-f", fixture(name))
	}
	kubectl(t, "wait", "--for=condition=Established", "crd/network-attachment-definitions.k8s.cni.cncf.io", "--timeout=60s")
	access, err := os.ReadFile(kubeconfigOf(t, kubectl(t, "-n", "kube-system", "create", "token", "multus", "--duration=8h")))
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range nodes {
		pristine[node] = primary(t, node)
		withoutMultus[node] = foldersOf(t, node)
		if strings.Contains(withoutMultus[node], "multus") || strings.Contains(pristine[node], "podtap") {
			t.Fatalf("%s is no node without Multus and podtap:\n%s", node, withoutMultus[node])
		}
		on(t, node, "cp", built(t, "multus"), "/opt/cni/bin/multus")
		// Multus calls it by that name.
		on(t, node, "cp", built(t, "passthru-cni"), "/opt/cni/bin/passthru")
		put(t, node, multusAccess, string(access))
	}
	must(t, "kubectl", "apply", "-k", overlay)
	ready(t, patience)
	useMultus(t, sample(t, "multus-default.conf", ""))
	for _, node := range nodes {
		if got := on(t, node, "cat", primaryFile); strings.Count(got, `"type":"podtap"`) != 1 {
			t.Errorf("on %s the network is %s", node, got)
		}
		if got, err := report(t, node); err != nil || got.Install.File != filepath.Base(primaryFile) || got.Install.Network != primaryName {
			t.Errorf("on %s podtap is chained in %s, of the network %s; %v", node, got.Install.File, got.Install.Network, err)
		}
	}
}

// testMultusRemove takes Multus off again. containerd calls DEL by the network that it has
// loaded then: of pods that lived on while the tests gave Multus' another name, libcni and
// host-local still know. So do they of none after this.
func testMultusRemove(t *testing.T) {
	for _, node := range nodes {
		eventually(t, patience, node+" has no pods", func() error {
			if left := on(t, node, "ls", "/run/netns"); left != "" {
				return fmt.Errorf("there are %s", left)
			}
			return nil
		})
		on(t, node, "sh", "-c", "rm -rf /var/lib/cni/results/* /var/lib/cni/multus /var/lib/cni/networks/*")
		on(t, node, "rm", "-rf", multusFile, multusFile+"list", filepath.Dir(multusAccess), "/opt/cni/bin/multus", "/opt/cni/bin/passthru", "/etc/cni/multus",
			"/var/run/secrets", multusLog)
	}
	for _, name := range []string{"account.yaml", "crd.yaml"} {
		kubectl(t, "delete", "-f", fixture(name), "--ignore-not-found", "--timeout=60s")
	}
	for _, node := range nodes {
		if got := foldersOf(t, node); got != withoutMultus[node] {
			t.Errorf("%s has\n%s\nwant\n%s", node, got, withoutMultus[node])
		}
		pod{namespace: space(t), name: "plain", node: node, command: []string{"true"}}.start(t).ends(t, "Succeeded")
	}
}

// networkStatus is what Multus says of one of a pod's networks.
type networkStatus struct {
	Name, Interface, Mac string
	IPs                  []string
	Default              bool
}

// networks are those of a pod by name, as Multus says.
func networks(t *testing.T, p pod) map[string]networkStatus {
	t.Helper()
	var list []networkStatus
	if err := json.Unmarshal([]byte(p.get(t, `.metadata.annotations.k8s\.v1\.cni\.cncf\.io/network-status`)), &list); err != nil {
		t.Fatal(err)
	}
	all := map[string]networkStatus{}
	for _, s := range list {
		all[s.Name] = s
	}
	if len(all) != len(list) {
		t.Errorf("a network is there twice: %+v", list)
	}
	return all
}

// attached is a pod with attachments of Multus'.
func attached(p pod, networks string) string {
	metadata := fmt.Sprintf("  annotations:\n    k8s.v1.cni.cncf.io/networks: '%s'\n", networks)
	if p.annotation != "" {
		metadata += fmt.Sprintf("    podtap.io/taps: '%s'\n", p.annotation)
	}
	p.annotation = ""
	return strings.Replace(p.manifest(), "spec:\n", metadata+"spec:\n", 1)
}

// runs applies a pod's manifest, and waits until it runs.
func runs(t *testing.T, p pod, manifest string) pod {
	t.Helper()
	apply(t, manifest)
	eventually(t, patience, "the pod "+p.name+" runs", func() error {
		phase, err := try("", "kubectl", "-n", p.namespace, "get", "pod", p.name, "-o", "jsonpath={.status.phase}")
		if err == nil && phase != "Running" {
			err = fmt.Errorf("its phase is %s", phase)
		}
		return err
	})
	return p
}

// nothingLeft insists that a pod's deletion took all of its taps along, and that Multus
// has deleted its attachments.
func nothingLeft(t *testing.T, node string, attachments ...string) {
	t.Helper()
	eventually(t, patience, "nothing is left on "+node, func() error {
		got, err := try("", "sh", node, "sh", "-c", `{ ip -d link; for n in /run/netns/*; do ip -n "$(basename "$n")" -d link; done; } | grep 'alias podtap'; ls /var/lib/cni/multus/results; true`)
		if err != nil {
			return err
		}
		for _, name := range append(attachments, "alias podtap") {
			if strings.Contains(got, name) {
				return fmt.Errorf("there still is %s in\n%s", name, got)
			}
		}
		return nil
	})
}
