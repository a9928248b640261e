package drivers

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/cniconf"
	"github.com/podtap/podtap/pkg/mirror"
)

const (
	// cache is where libcni keeps what it knows of pods between ADD and DEL.
	cache = "/var/lib/cni"
	// vni is the collector's.
	vni = 100
)

// runtimes are those whose drivers are tested.
var runtimes = []string{"containerd", "CRI-O"}

// both runs a test with each runtime.
func both(t *testing.T, test func(t *testing.T, name string)) {
	for _, name := range runtimes {
		t.Run(name, func(t *testing.T) { test(t, name) })
	}
}

// node is a machine with a runtime, and a collector beside it.
type node struct {
	t                       *testing.T
	name                    string // of the runtime
	host, collector         *lab.Host
	binDir, confDir, leases string
	runtime                 *runtime
	// copies are what comes to the collector.
	copies *lab.Capture
	// idle is what the node has when nobody needs anything.
	idle snapshot
}

// newNode makes a node with a network, where nothing has happened yet but that bridge
// has made what it keeps.
func newNode(t *testing.T, name string, c network) *node {
	t.Helper()
	n := bareNode(t, name)
	n.links("podtap")
	n.configure(c)
	n.begin()
	return n
}

// bareNode makes a node without podtap and without a configuration. Its runtime has not started.
func bareNode(t *testing.T, name string) *node {
	t.Helper()
	if err := os.RemoveAll(cache); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	n := &node{t: t, name: name, binDir: filepath.Join(dir, "bin"), confDir: filepath.Join(dir, "net.d"), leases: filepath.Join(dir, "leases")}
	for _, d := range []string{n.binDir, n.confDir} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	n.boot("")
	n.links("bridge", "host-local", "loopback")
	return n
}

// boot makes the machine, whose kernel knows nothing yet. The prefix tells it from the
// one that there was before.
func (n *node) boot(prefix string) {
	n.t.Helper()
	underlay := lab.NewNetwork(n.t, prefix, 1500)
	n.host, n.collector = underlay.Host("node"), underlay.Host("collector")
	n.copies = n.collector.Collect(n.collector.IPv4() + ":4789")
}

// begin starts the runtime, and lets a pod come and go.
func (n *node) begin() {
	n.t.Helper()
	n.restart()
	p, space := n.sandbox("first", "")
	n.add(p)
	n.remove(p)
	space.Destroy()
	n.idle = snap(n.t, n.host.Space)
}

// restart starts the runtime, where one runs after its sudden end.
func (n *node) restart() {
	n.t.Helper()
	if n.runtime != nil {
		n.runtime.kill()
	}
	n.runtime = startRuntime(n.t, n.host.Space, n.name, n.confDir, n.binDir, 0)
}

// links puts plugins into the runtime's folder.
func (n *node) links(names ...string) {
	n.t.Helper()
	for _, name := range names {
		if err := os.Symlink(filepath.Join(lab.Plugins(), name), filepath.Join(n.binDir, name)); err != nil {
			n.t.Fatal(err)
		}
	}
}

func (n *node) eventually(what string, is func() bool) {
	n.t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			n.t.Fatalf("it did not come true within %v: %s", patience, what)
		}
	}
}

// sandbox makes the namespace of a pod whose annotation asks for taps.
func (n *node) sandbox(name, taps string) (pod, *lab.Space) {
	n.t.Helper()
	space := lab.NewSpace(n.t, "cni-"+name)
	id := sha256.Sum256([]byte(name))
	p := pod{ID: hex.EncodeToString(id[:]), UID: "uid-of-" + name, Namespace: "default", Name: name, NetNS: space.Path()}
	if taps != "" {
		p.Annotations = map[string]string{cniconf.AnnotationKey: taps, "another": "value"}
	}
	return p, space
}

// far is an annotation's tap to the collector.
func (n *node) far() string {
	return fmt.Sprintf(`{vxlan: {vni: %d, remote: %s}, device: far}`, vni, n.collector.IPv4())
}

// two are taps to a device of the node and to the collector.
func (n *node) two() string { return "[{veth: {}, device: near}, " + n.far() + "]" }

// alone are taps one of which goes by a relay that no other pod uses, and one by a
// device that is in the pod alone.
func (n *node) alone() string {
	return fmt.Sprintf(`[{veth: {}, device: near}, %s, {vxlan: {vni: %d, remote: %s}, device: own},
		{vxlan: {vni: %d, remote: %s, placement: pod, oversize: fragment}, device: inside}]`,
		n.far(), vni+1, n.collector.IPv4(), vni+2, n.collector.IPv4())
}

func (n *node) add(p pod) outcome {
	n.t.Helper()
	o, err := n.runtime.do(request{Verb: "add", Pod: p})
	if err != nil {
		n.t.Fatalf("ADD of %s: %v", p.Name, err)
	}
	return o
}

func (n *node) remove(p pod) {
	n.t.Helper()
	if _, err := n.runtime.do(request{Verb: "remove", Pod: p}); err != nil {
		n.t.Errorf("DEL of %s: %v", p.Name, err)
	}
}

func (n *node) check(p pod) *failure {
	n.t.Helper()
	_, err := n.runtime.do(request{Verb: "check", Pod: p})
	return err
}

func (n *node) status() *failure {
	n.t.Helper()
	_, err := n.runtime.do(request{Verb: "status"})
	return err
}

// sweep does what podtapd does: the taps of the dead go, and relays without users.
func (n *node) sweep(dead func(mirror.Trace) bool) {
	n.t.Helper()
	n.host.Do(func() error {
		kernel, err := mirror.OpenNode()
		if err != nil {
			return err
		}
		defer kernel.Close()
		_, err = kernel.Sweep(dead)
		return err
	})
}

// tapsOf says whether a tap is one of some pods'.
func tapsOf(pods ...pod) func(mirror.Trace) bool {
	return func(is mirror.Trace) bool {
		return slices.ContainsFunc(pods, func(p pod) bool { return is.Owner.ContainerID == mirror.ShortID(p.ID) })
	}
}

// leased lists the addresses that host-local has given away.
func (n *node) leased() []string {
	n.t.Helper()
	paths, err := filepath.Glob(filepath.Join(n.leases, "*", "[0-9a-f]*[.:]*"))
	if err != nil {
		n.t.Fatal(err)
	}
	return paths
}

// cached lists what libcni remembers of pods.
func (n *node) cached() []string {
	n.t.Helper()
	paths, err := filepath.Glob(filepath.Join(cache, "results", "*"))
	if err != nil {
		n.t.Fatal(err)
	}
	return paths
}
