package install

import (
	"bytes"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
)

func FuzzChain(f *testing.F) {
	for _, seed := range []string{
		primary, `{"name":"n","plugins":[{"type":"a"},{"type":"podtap"},{"type":"b"}]}`, `{"plugins":[{"type":"podtap"},{"type":"podtap"} , {"type":"b"}],"x":[1e400]}`,
		"{\"cniVersion\":\"1.0.0\",\"name\":\"n\",\"plugins\": [\r\n\t{\"TYPE\": \"a\"}\r\n\t]\r\n}\r\n", `{"plugins":[]}`, `{"plugins":{}}`, `[]`, `{"name":"n","plugins":[{"type":"a","type":"podtap"}]}`,
		`{"name":"\u006e","plu\u0067ins":[{"type":"\u0061"}]}`,
	} {
		f.Add([]byte(seed))
	}
	entry := []byte(`{"type":"podtap","taps":[]}`)
	f.Fuzz(func(t *testing.T, text []byte) {
		list, err := parseConflist(text)
		if err != nil || list.primary() == "" {
			return
		}
		bare := list.unchained()
		with, err := list.chained(entry)
		if err != nil {
			t.Fatalf("cannot be chained: %v", err)
		}
		again, err := parseConflist(with)
		if err != nil || !again.has(entry) {
			t.Fatalf("%v; chained is\n%s", err, with)
		}
		// Where podtap was not in it, taking it out gives each byte back.
		if bytes.Equal(bare, text) && !bytes.Equal(again.unchained(), text) {
			t.Fatalf("taken out it is\n%s\nwant\n%s", again.unchained(), text)
		}
		if same, err := again.chained(entry); err != nil || !bytes.Equal(same, with) {
			t.Fatalf("%v; a second time it is\n%s\nwant\n%s", err, same, with)
		}
		// What a runtime could read it still can, the same but for podtap.
		before, err := libcni.NetworkConfFromBytes(text)
		if err != nil {
			return
		}
		after, err := libcni.NetworkConfFromBytes(with)
		if err != nil || after.Name != before.Name || after.CNIVersion != before.CNIVersion {
			t.Fatalf("libcni: %v, %+v", err, after)
		}
		if kinds(before) != kinds(after) {
			t.Fatalf("the others were %s, and are %s", kinds(before), kinds(after))
		}
	})
}

// kinds are the plugins but for podtap, as libcni reads them.
func kinds(l *libcni.NetworkConfigList) string {
	var out []string
	for _, p := range l.Plugins {
		if p.Network.Type != pluginType {
			out = append(out, string(p.Bytes))
		}
	}
	return strings.Join(out, "\n")
}
