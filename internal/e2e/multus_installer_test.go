//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/podtap/podtap/api/node"
)

// untouched remembers Multus' files; the function insists that nobody has written them.
func untouched(t *testing.T) (still func(what string)) {
	t.Helper()
	state := func() (all string) {
		t.Helper()
		for _, node := range nodes {
			all += on(t, node, "sh", "-c", "stat -c '%n %i %a %Y %Z' "+multusFile+" && sha256sum "+multusFile) + "\n"
		}
		return all
	}
	before := state()
	return func(what string) {
		t.Helper()
		if now := state(); now != before {
			t.Errorf("%s: Multus' files are\n%s\nwere\n%s", what, now, before)
		}
	}
}

// once insists that podtap is in the network's file one time, and in no other.
func once(t *testing.T) {
	t.Helper()
	for _, node := range nodes {
		if got := on(t, node, "sh", "-c", "grep -o '\"type\": *\"podtap\"' "+configurations+"/*.conf* | sort | uniq -c"); len(strings.Split(got, "\n")) != 1 ||
			!strings.HasPrefix(strings.TrimSpace(got), "1 "+primaryFile) {
			t.Errorf("on %s podtap is in\n%s", node, got)
		}
	}
}

func testMultusFile(t *testing.T) {
	t.Run("which names the network, and waits for its file", func(t *testing.T) {
		still := untouched(t)
		for _, node := range nodes {
			put(t, node, primaryFile, pristine[node]) // as its owner does when he restarts
		}
		eventually(t, patience, "podtap is chained again", func() error {
			for _, node := range nodes {
				if got, err := try("", "sh", node, "cat", primaryFile); err != nil || !strings.Contains(got, `"type":"podtap"`) {
					return fmt.Errorf("on %s: %v %s", node, err, got)
				}
			}
			return nil
		})
		ready(t, patience)
		still("after the owner has written the network's file")
		once(t)
	})
	t.Run("which has the path of the network's file", func(t *testing.T) {
		// As the thick plugin's daemon writes it, who sees the folder elsewhere.
		useMultus(t, strings.Replace(sample(t, "multus-default.conf", ""), fmt.Sprintf("%q,", primaryName), fmt.Sprintf("%q,", primaryFile), 1))
		still := untouched(t)
		signal("KILL")()
		ready(t, patience)
		still("after podtapd has started again")
		once(t)
	})
	t.Run("which calls another network", func(t *testing.T) {
		still := on(t, "n1", "cat", primaryFile)
		put(t, "n1", multusFile, strings.Replace(sample(t, "multus-default.conf", ""), fmt.Sprintf("%q,", primaryName), `"elsewhere",`, 1))
		unready(t, "n1", node.StateUnsupported, `calls the network "elsewhere"`)
		event(t, "default", "Node", "n1", "PodtapUnsupported", `calls the network "elsewhere"`)
		if got := on(t, "n1", "cat", primaryFile); got != still {
			t.Errorf("the network's file is %s", got)
		}
	})
	useMultus(t, sample(t, "multus-default.conf", ""))
	once(t)
}

// unready waits until podtapd of a node says why pods do not go through podtap.
func unready(t *testing.T, on string, state node.State, words string) {
	t.Helper()
	eventually(t, patience, fmt.Sprintf("podtapd of %s says %s: %s", on, state, words), func() error {
		got, err := report(t, on)
		if err != nil || got.Install.State != state || !strings.Contains(got.Install.Message, words) {
			return fmt.Errorf("it says %s: %s %v", got.Install.State, got.Install.Message, err)
		}
		if answer, err := get(t, on, "/readyz"); err != nil || !strings.Contains(answer, " 503 ") {
			return fmt.Errorf("its probe: %v %s", err, answer)
		}
		return nil
	})
}

// testMultusRestarts ends podtapd in each way. An attachment asks nobody; annotations
// behind Multus are podtapd's to tell.
func testMultusRestarts(t *testing.T) {
	still := untouched(t)
	signal("KILL")()
	ready(t, patience)
	still("after SIGKILL")
	kubectl(t, "-n", system, "rollout", "restart", "daemonset/podtap")
	kubectl(t, "-n", system, "rollout", "status", "daemonset/podtap", "--timeout=120s")
	ready(t, patience)
	still("after a rollout")
	once(t)

	ns := space(t)
	to := server(t, ns, "n2").ip(t)
	attachment, annotation := collect(t, apart, 100), collect(t, apart, 162)
	runs(t, pod{namespace: ns, name: "tapped"}, sample(t, "multus-attachment.yaml", ns))
	kubectl(t, "-n", system, "patch", "daemonset", "podtap", "-p", `{"spec":{"template":{"spec":{"nodeSelector":{"no-such":"node"}}}}}`)
	kubectl(t, "-n", system, "wait", "--for=delete", "pod", "-l", "app.kubernetes.io/name=podtap", "--timeout=60s")
	still("without podtapd")
	once(t)
	p := pod{namespace: ns, name: "without", node: "n1", annotation: `{vxlan: {vni: 162, remote: 198.18.0.100}}`, init: udpTo(to, echoes), command: []string{"sleep", "600"}}
	runs(t, p, attached(p, "mirror"))
	attachment.counts("from the attachment's tap each datagram", addr(t, p), echoes, echoes)
	if got := annotation.sum("udp", func(flow) bool { return true }).packets; got != 0 {
		t.Errorf("%d copies by an annotation that nobody could tell of", got)
	}
	kubectl(t, "-n", system, "patch", "daemonset", "podtap", "--type=json", "-p", `[{"op":"remove","path":"/spec/template/spec/nodeSelector/no-such"}]`)
	ready(t, patience)
	still("with podtapd again")
	event(t, ns, "Pod", p.name, "TapMissing", "recreate the pod")
	p.name = "with"
	p.start(t)
	annotation.counts("from the annotation's tap each datagram", addr(t, p), echoes, echoes)
}

// takenOff has podtap uninstalled from both nodes, as the documentation says.
func takenOff(t *testing.T) (log string) {
	t.Helper()
	must(t, "kubectl", "apply", "-k", uninstaller)
	_, err := try("", "kubectl", "-n", system, "wait", "--for=condition=complete", "--timeout=150s", "job/podtap-uninstall")
	log, _ = try("", "kubectl", "-n", system, "logs", "job/podtap-uninstall")
	if err != nil {
		t.Errorf("%v\n%s", err, log)
	}
	must(t, "kubectl", "delete", "-k", uninstaller, "--timeout=60s")
	must(t, "kubectl", "delete", "-k", filepath.Join(root, "deploy", "kustomize", "base"), "--ignore-not-found", "--timeout=120s")
	for _, node := range nodes {
		if got := primary(t, node); got != pristine[node] {
			t.Errorf("on %s the network is\n%s\nwant\n%s", node, got, pristine[node])
		}
	}
	return log
}

func testMultusUninstall(t *testing.T) {
	ns := space(t)
	p := runs(t, pod{namespace: ns, name: "tapped", node: "n1"}, sample(t, "multus-attachment.yaml", ns))
	still := untouched(t)
	takenOff(t)
	still("after uninstalling")
	on(t, "n1", "test", "-x", "/opt/cni/bin/podtap")
	if got := on(t, "n2", "ls", "/opt/cni/bin"); strings.Contains(got, "podtap") {
		t.Errorf("on n2, where no such pod lives, there still is the plugin: %s", got)
	}
	if got := p.get(t, ".status.phase"); got != "Running" {
		t.Errorf("the pod is %s", got)
	}
	// It goes, by the plugin, and leaves nothing; then the plugin goes, too.
	sandboxes := func() string { return on(t, "n1", "sh", "-c", "ls /run/netns") }
	had := sandboxes()
	p.delete(t)
	eventually(t, patience, "its sandbox is gone", func() error {
		if got := sandboxes(); got == had {
			return fmt.Errorf("there are %s", got)
		}
		return nil
	})
	nothingLeft(t, "n1", "mirror-")
	installed(t)
	still("after installing again")
	uninstalled(t)
	still("after uninstalling again")
}

// thin starts Multus' own installer on n1, which writes a file with a copy of the network's
// configuration; follow has it look each second whether that is the newest.
func thin(t *testing.T, follow bool) (file string, stop func()) {
	t.Helper()
	const account = "/var/run/secrets/kubernetes.io/serviceaccount"
	put(t, "n1", account+"/token", kubectl(t, "-n", "kube-system", "create", "token", "multus", "--duration=8h"))
	put(t, "n1", account+"/ca.crt", "its certificate is in "+multusAccess)
	// What it writes of the API server's address, today's Go refuses: so Multus goes by ours.
	access := configurations + "/multus.d/tests.kubeconfig"
	on(t, "n1", "cp", "--no-clobber", multusAccess, access)
	on(t, "n1", "rm", "-f", multusFile)
	args := []string{"sh", "n1", "env", "KUBERNETES_SERVICE_HOST=198.18.96.1", "KUBERNETES_SERVICE_PORT=443", built(t, "thin_entrypoint"),
		"--cni-conf-dir=" + configurations, "--multus-autoconfig-dir=" + configurations, "--multus-cni-conf-dir=/etc/cni/multus/net.d",
		"--cni-bin-dir=/opt/cni/bin", "--multus-bin-file=" + built(t, "multus"), "--multus-kubeconfig-file-host=" + access, "--multus-log-file=" + multusLog}
	if follow {
		args = append(args, "--cleanup-config-on-exit") // it follows only then
	}
	process := background(t, args...)
	t.Cleanup(func() { _, _ = try("", "sh", "n1", "pkill", "-KILL", "-x", "thin_entrypoint") })
	// It is a .conflist where the network is of CNI 1.0.0, and else a .conf.
	eventually(t, patience, "Multus' configuration is there", func() error {
		out, err := try("", "sh", "n1", "sh", "-c", "find "+configurations+" -name '00-multus.conf*' ! -name '*.new' -size +0")
		if file = strings.TrimSpace(out); err == nil && file == "" {
			err = errors.New("there is none")
		}
		return err
	})
	return file, func() { endThin(process) }
}

// endThin has it end by itself; with --cleanup-config-on-exit it removes what it wrote.
func endThin(process *exec.Cmd) {
	_, _ = try("", "sh", "n1", "pkill", "-TERM", "-x", "thin_entrypoint")
	_ = process.Wait()
}

// testMultusCopy has Multus go by a copy of the network's configuration, made before
// podtap came, and then by one that follows.
func testMultusCopy(t *testing.T) {
	ns := space(t)
	to := server(t, ns, "n2").ip(t)
	tapped := pod{namespace: ns, name: "tapped", node: "n1", annotation: `{vxlan: {vni: 163, remote: 198.18.0.100}}`, init: udpTo(to, echoes), command: []string{"sleep", "600"}}

	file, stop := thin(t, false)
	entries := func() int {
		t.Helper()
		return strings.Count(on(t, "n1", "cat", file), `"type":"podtap"`)
	}
	must(t, "kubectl", "apply", "-k", overlay)
	unready(t, "n1", node.StateFailing, fmt.Sprintf("Multus (%s) goes by a copy of ", filepath.Base(file))+filepath.Base(primaryFile)+", without podtap's entry; start Multus again")
	event(t, "default", "Node", "n1", "PodtapFailing", "goes by a copy of")
	if entries() != 0 {
		t.Errorf("the copy has podtap %d times", entries())
	}
	at := collect(t, apart, 163)
	tapped.start(t)
	event(t, ns, "Pod", tapped.name, "NotChained", "podtap")
	if got := at.sum("udp", func(flow) bool { return true }).packets; got != 0 {
		t.Errorf("%d copies, although nobody called podtap", got)
	}
	tapped.delete(t)
	stop()

	_, stop = thin(t, true)
	ready(t, patience)
	if entries() != 1 {
		t.Errorf("the copy has podtap %d times", entries())
	}
	tapped.start(t)
	at.counts("each datagram, once", addr(t, tapped), echoes, echoes)

	// It follows the settings, and so does podtapd.
	kubectl(t, "-n", system, "patch", "configmap", "podtap", "-p", `{"data":{"config.yaml":"failurePolicy: Ignore\n"}}`)
	eventually(t, patience, "the copy has the new settings", func() error {
		if got, err := try("", "sh", "n1", "cat", file); err != nil || !strings.Contains(got, `"failurePolicy":"Ignore"`) {
			return fmt.Errorf("%v %s", err, got)
		}
		return nil
	})
	ready(t, patience)
	if entries() != 1 {
		t.Errorf("the copy has podtap %d times", entries())
	}

	tapped.delete(t)
	nothingLeft(t, "n1")
	uninstalled(t)
	if entries() != 0 {
		t.Errorf("the copy still has podtap %d times", entries())
	}
	tapped.annotation = ""
	tapped.start(t).delete(t)
	nothingLeft(t, "n1", primaryName+"-")
	stop()
}
