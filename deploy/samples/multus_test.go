package samples_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"

	"github.com/podtap/podtap/pkg/cniconf"
)

func TestTheMultusAttachmentIsOneTap(t *testing.T) {
	objects := documents(t, "multus-attachment.yaml")
	var conf map[string]any
	if err := json.Unmarshal([]byte(at[string](t, objects[0], "spec", "config")), &conf); err != nil {
		t.Fatal(err)
	}
	var networks []struct {
		Name string         `json:"name"`
		Args map[string]any `json:"cni-args"`
	}
	selection := at[map[string]any](t, objects[1], "metadata", "annotations")["k8s.v1.cni.cncf.io/networks"].(string)
	d := json.NewDecoder(strings.NewReader(selection))
	d.DisallowUnknownFields()
	if err := d.Decode(&networks); err != nil {
		t.Fatal(err)
	}
	if name := at[string](t, objects[0], "metadata", "name"); len(networks) != 1 || networks[0].Name != name || conf["name"] != name {
		t.Errorf("the pod's networks are %+v", networks)
	}
	// As Multus hands them over.
	conf["args"] = map[string]any{"cni": networks[0].Args}
	stdin, err := json.Marshal(conf)
	if err != nil {
		t.Fatal(err)
	}
	c, err := cniconf.Parse(stdin)
	if err != nil {
		t.Fatal(err)
	}
	one, changed, err := c.AttachmentTap("net1")
	if err != nil {
		t.Fatal(err)
	}
	if !changed || one.VXLAN.VNI != 101 || one.Interface != "eth0" {
		t.Errorf("the tap is %+v", one)
	}
	if err := c.Policy.Allow(one, 0, "default"); err != nil {
		t.Error(err)
	}
}

func TestASecondInterfaceIsTappedInItsChain(t *testing.T) {
	objects := documents(t, "multus-interface.yaml")
	list, err := libcni.ConfListFromBytes([]byte(at[string](t, objects[0], "spec", "config")))
	if err != nil {
		t.Fatal(err)
	}
	name := at[string](t, objects[0], "metadata", "name")
	if got := at[string](t, objects[1], "metadata", "annotations", "k8s.v1.cni.cncf.io/networks"); got != name || list.Name != name {
		t.Errorf("the pod asks for %q of %q", got, list.Name)
	}
	oneTap(t, list.Plugins[len(list.Plugins)-1].Bytes, "")
}

func TestTheAuxiliaryChainsTapNamesItsInterface(t *testing.T) {
	oneTap(t, []byte(read(t, "multus-auxiliary-taps.conf")), "eth0")
}

// oneTap insists that a plugin's configuration has one tap, of an interface.
func oneTap(t *testing.T, text []byte, of string) {
	t.Helper()
	c, err := cniconf.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	if taps, err := c.NetworkTaps(); err != nil || len(taps) != 1 || taps[0].Interface != of {
		t.Errorf("the taps are %+v, %v", taps, err)
	}
}

// The cluster's tests run the samples; who reads the guide shall get the same.
func TestTheGuideToMultusHasTheSamples(t *testing.T) {
	guide := read(t, "../../docs/multus.md")
	for _, name := range []string{"multus-default.conf", "multus-attachment.yaml", "multus-interface.yaml", "multus-auxiliary.conf", "multus-auxiliary-taps.conf"} {
		text := read(t, name)
		for strings.HasPrefix(text, "#") { // what the guide says in other words
			_, text, _ = strings.Cut(text, "\n")
		}
		if !strings.Contains(guide, "\n"+text+"```\n") || !strings.Contains(guide, "(../deploy/samples/"+name+")") {
			t.Errorf("the guide has not, word for word, or names not:\n%s\n%s", name, text)
		}
	}
}
