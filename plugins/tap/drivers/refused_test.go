package drivers

import (
	"strings"
	"testing"

	"github.com/podtap/podtap/pkg/cniconf"
)

// The runtime puts what the driver returns into the pod's event.
func TestARefusedTapsErrorReachesTheRuntimeAndNothingIsLeft(t *testing.T) {
	cases := map[string]struct {
		taps    string
		code    uint
		phrases []string
	}{
		"refused by the policy": {`[{veth: {}}, {vxlan: {vni: 100, remote: 198.51.100.1}}]`, cniconf.CodePolicy, []string{"198.51.100.1", "refused"}},
		"invalid":               {`[{veth: {}}, {vxlan: {vni: 0, remote: 198.18.0.2}}]`, cniconf.CodeAnnotation, []string{"vxlan.vni", "16777215"}},
		"no YAML":               {`{{{`, cniconf.CodeAnnotation, []string{"podtap.io/taps"}},
		"no such interface":     {`[{vxlan: {vni: 100, remote: 198.18.0.2}}, {veth: {}, interface: eth7}]`, cniconf.CodeInterface, []string{"eth7"}},
		"a name that is taken":  {`[{vxlan: {vni: 100, remote: 198.18.0.2}}, {veth: {hostInterface: br7}}]`, cniconf.CodeAnnotation, []string{"br7"}},
	}
	both(t, func(t *testing.T, name string) {
		n := newNode(t, name, network{})
		for what, c := range cases {
			p, space := n.sandbox("web", c.taps)
			_, err := n.runtime.do(request{Verb: "add", Pod: p})
			if err == nil {
				t.Fatalf("%s: ADD succeeded", what)
			}
			if err.Code != c.code {
				t.Errorf("%s: the code is %d, want %d", what, err.Code, c.code)
			}
			for _, phrase := range append(c.phrases, `plugin type="podtap" failed (add)`) {
				if !strings.Contains(err.Text, phrase) {
					t.Errorf("%s: the error lacks %q: %s", what, phrase, err.Text)
				}
			}
			// Before the DEL that follows, bridge's part is there, and only that.
			n.untouched(space)
			if relays := n.relays(); len(relays) != 0 {
				t.Errorf("%s: the relays %q are left", what, relays)
			}
			n.remove(p)
			n.nothingIsLeft(space)
			space.Destroy()
		}
		p, space := n.sandbox("good", n.far())
		n.add(p)
		n.pinged(space, n.copies)
		n.remove(p)
		n.nothingIsLeft(space)
	})
}
