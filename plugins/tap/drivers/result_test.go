package drivers

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	current "github.com/containernetworking/cni/pkg/types/100"
)

// byChance are the parts of a result that are others each time: MACs, and bridge's
// name for its end of the pod's cable.
var byChance = regexp.MustCompile(`"([0-9a-f]{2}:){5}[0-9a-f]{2}"|veth[0-9a-f]{8}`)

// told is what the runtime is told of a pod, without devices of some names.
func (o outcome) told(t *testing.T, without ...string) string {
	t.Helper()
	result := *o.Result
	result.Interfaces = slices.DeleteFunc(slices.Clone(result.Interfaces), func(i *current.Interface) bool { return slices.Contains(without, i.Name) })
	o.Result = &result
	for _, name := range without {
		delete(o.Interfaces, name)
	}
	text, err := json.MarshalIndent(o, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	return byChance.ReplaceAllString(string(text), "X")
}

// Both runtimes take the pod's addresses out of the result, each in its own way.
func TestTheRuntimeIsToldTheSameAsWithoutPodtap(t *testing.T) {
	both(t, func(t *testing.T, name string) {
		for _, version := range []string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
			t.Run(version, func(t *testing.T) {
				var want string
				t.Run("without podtap", func(t *testing.T) {
					n := newNode(t, name, network{version: version, bare: true})
					p, _ := n.sandbox("web", n.two())
					want = n.add(p).told(t)
				})
				t.Run("without taps", func(t *testing.T) {
					n := newNode(t, name, network{version: version})
					p, _ := n.sandbox("web", "")
					if got := n.add(p).told(t); got != want {
						t.Errorf("it is told\n%s\nwant\n%s", got, want)
					}
				})
				t.Run("with taps", func(t *testing.T) {
					n := newNode(t, name, network{version: version})
					p, space := n.sandbox("web", `[{veth: {hostInterface: sensor0}}, `+n.far()+`, {veth: {hostInterface: sensor1}}]`)
					o := n.add(p)
					const ofBridge = 3
					var ofTaps []string
					for _, i := range o.Result.Interfaces[ofBridge:] {
						ofTaps = append(ofTaps, i.Name)
						if i.Sandbox != "" || i.Mac != n.host.Link(i.Name).Attrs().HardwareAddr.String() {
							t.Errorf("behind bridge's the result has %+v, want a device of the node", i)
						}
						if c := o.Interfaces[i.Name]; name == "containerd" && (c == nil || len(c.IPConfigs) != 0 || c.Sandbox != "") {
							t.Errorf("go-cni takes %s for %+v", i.Name, c)
						}
					}
					if len(ofTaps) != 3 || ofTaps[0] != "sensor0" || ofTaps[2] != "sensor1" {
						t.Errorf("behind bridge's the result has %q, want one device for each tap", ofTaps)
					}
					if mac := space.Link("eth0").Attrs().HardwareAddr.String(); !strings.Contains(asJSON(t, o.Result), mac) {
						t.Errorf("the result lacks the pod's MAC %s", mac)
					}
					if len(o.IPs) != 2 || o.IPs[0] != "198.18.7.3" || o.IPs[1] != "fd00:18:7::3" {
						t.Errorf("the pod's addresses are %q", o.IPs)
					}
					if got := o.told(t, ofTaps...); got != want {
						t.Errorf("it is told\n%s\nwant\n%s", got, want)
					}
				})
			})
		}
	})
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
