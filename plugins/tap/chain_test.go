package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/cniconf"
)

// bridgeOf is the configuration of bridge for a network of two families.
func bridgeOf(t *testing.T, number int) string {
	return fmt.Sprintf(`"type":"bridge","bridge":"br%[1]d","isGateway":true,"ipam":{"type":"host-local","dataDir":%[2]q,
		"ranges":[[{"subnet":"198.18.%[1]d.0/24"}],[{"subnet":"fd00:18:%[1]d::/64"}]],"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}`,
		number, t.TempDir())
}

// conflist is a network of bridge and podtap.
func conflist(version, name, bridge, podtap string) string {
	if podtap != "" {
		podtap = "," + podtap
	}
	return fmt.Sprintf(`{"cniVersion":%q,"name":%q,"plugins":[{%s},{"type":"podtap","capabilities":{%q:true},"log":{"level":"warn"}%s}]}`,
		version, name, bridge, cniconf.Capability, podtap)
}

// cluster is a node with a runtime, and namespaces for pods that have nothing yet.
type cluster struct {
	t       *testing.T
	node    *lab.Host
	runtime *lab.Runtime
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	node := lab.NewNetwork(t, "", 1500).Host("node")
	t.Cleanup(func() { locksFree(t) })
	return &cluster{t: t, node: node, runtime: lab.NewRuntime(node.Space, binaries(t), t.TempDir())}
}

// sandbox makes the namespace of a pod whose annotation asks for taps.
func (c *cluster) sandbox(id, taps string) (lab.Sandbox, *lab.Space) {
	c.t.Helper()
	space := lab.NewSpace(c.t, id)
	s := lab.Sandbox{ID: id, NetNS: space.Path(), IfName: "eth0", Namespace: "default", Name: id, Annotations: map[string]string{}}
	if taps != "" {
		s.Annotations[cniconf.AnnotationKey] = taps
	}
	return s, space
}

// settle adds and deletes a pod, so that bridge has made what it keeps.
func (c *cluster) settle(list string) {
	c.t.Helper()
	s, space := c.sandbox("first", "")
	c.add(list, s)
	c.del(list, s)
	space.Destroy()
}

func (c *cluster) add(list string, s lab.Sandbox) types.Result {
	c.t.Helper()
	r, err := c.runtime.Add(list, s)
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

func (c *cluster) check(list string, s lab.Sandbox) {
	c.t.Helper()
	if err := c.runtime.Check(list, s); err != nil {
		c.t.Errorf("CHECK of %s: %v", s.ID, err)
	}
}

func (c *cluster) del(list string, s lab.Sandbox) {
	c.t.Helper()
	if err := c.runtime.Del(list, s); err != nil {
		c.t.Errorf("DEL of %s: %v", s.ID, err)
	}
}

func TestAPodInAChainIsTappedAndLeavesNothing(t *testing.T) {
	const vxlan = `{"vxlan":{"vni":100,"remote":"198.18.0.200"},"device":"far"}`
	cases := map[string]struct {
		configured, annotation string
		devices                []string // in the pod
	}{
		"annotation":                    {annotation: "veth: {}", devices: []string{"mirror"}},
		"network configuration":         {configured: "[" + vxlan + "]", devices: []string{"far"}},
		"both":                          {configured: "[" + vxlan + "]", annotation: "[{veth: {}}, {veth: {}, direction: egress}]", devices: []string{"far", "mirror", "mirror1"}},
		"a wire and a VXLAN in the pod": {configured: `[{"wire":{"addresses":["198.19.0.2/30"],"hostAddresses":["198.19.0.1/30"]},"device":"wire"},{"vxlan":{"vni":101,"remote":"198.18.0.200","placement":"pod","oversize":"fragment"}}]`, devices: []string{"wire", "mirror"}},
	}
	for name, c := range cases {
		for _, version := range []string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
			t.Run(name+" "+version, func(t *testing.T) {
				if testing.Short() && version != newest {
					t.Skipf("-short: only version %s", newest)
				}
				k := newCluster(t)
				list := conflist(version, "net", bridgeOf(t, 7), `"taps":`+orEmpty(c.configured))
				k.settle(list)
				s, pod := k.sandbox("web", c.annotation)
				node, inside := snap(t, k.node.Space), snap(t, pod)
				k.add(list, s)
				for _, d := range c.devices {
					if !pod.Has(d) {
						t.Errorf("the pod has no device %s", d)
					}
				}
				if version != "0.3.1" {
					k.check(list, s)
				}
				k.del(list, s)
				node.unchanged(t, k.node.Space)
				inside.unchanged(t, pod)
			})
		}
	}
}

func orEmpty(list string) string {
	if list == "" {
		return "[]"
	}
	return list
}

func TestAddHandsThePrimarysResultOnAndAppendsOnlyTheNodesDevices(t *testing.T) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			s := newScene(t)
			space := lab.NewSpace(t, "bare")
			a := s.attachment()
			a.NetNS = space.Path()
			bridge := fmt.Sprintf(`{"cniVersion":%q,"name":"net",%s}`, version, bridgeOf(t, 7))
			primary := execute(t, s.node.Space, filepath.Join(lab.Plugins(), "bridge"), a.environment("ADD"), bridge).succeeds()

			c := s.chained(version).with(conf{"prevResult": rawJSON(primary.stdout)})
			if got := s.callFor(a, "ADD", c); got.stdout != string(compact(t, primary.stdout)) {
				t.Errorf("without taps the result is\n%s\nwant the very bytes\n%s", got.stdout, compact(t, primary.stdout))
			}

			got := s.callFor(a, "ADD", c.with(conf{"taps": rawJSON(`[{"veth":{"hostInterface":"sensor0"}},
				{"vxlan":{"vni":9,"remote":"198.18.0.200","placement":"pod","oversize":"fragment"}},{"veth":{"hostInterface":"sensor1"}}]`)})).result()
			want := parseResult(t, primary.stdout)
			n := len(want.Interfaces)
			if len(got.Interfaces) != n+2 {
				t.Fatalf("result has %d interfaces, want the %d of bridge and 2", len(got.Interfaces), n)
			}
			for i, name := range []string{"sensor0", "sensor1"} {
				link := s.node.Link(name).Attrs()
				if d := got.Interfaces[n+i]; d.Name != name || d.Sandbox != "" || d.Mac != link.HardwareAddr.String() {
					t.Errorf("interface %d is %+v, want the node's %s, %s, without a sandbox", n+i, d, name, link.HardwareAddr)
				}
			}
			got.Interfaces = got.Interfaces[:n]
			if !reflect.DeepEqual(got, want) {
				t.Errorf("of bridge's result is left\n%+v\nwant\n%+v", got, want)
			}
		})
	}
}

func rawJSON(text string) json.RawMessage { return json.RawMessage(text) }

// compact is a JSON text as json.Marshal passes it on inside a configuration.
func compact(t *testing.T, text string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(text)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}
