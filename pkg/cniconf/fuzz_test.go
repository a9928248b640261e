package cniconf

import (
	"bytes"
	"encoding/json"
	"errors"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
)

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "{}", "null", "[]", `{"name":5}`, golden(f, "conflist-entry.json"),
		`{"taps":[{"vxlan":{"vni":1,"remote":"198.18.0.9"}}],"args":{"cni":{"vxlan":{"vni":2}}}}`,
		`{"taps":{"veth":null},"args":{"cni":{"veth":5}}}`, `{"taps":[5,null,[]]}`, `{"taps":{"wire":{"mtu":1e3,"addresses":["x"]}}}`,
		`{"failurePolicy":"x","agentSocket":"y","log":{"level":"z"},"policy":{"maxTaps":-1}}`, `{"policy":{"x":1}}`,
		`{"runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"podtap.io/taps":"veth: {"}}}`, `{"log":{"file":"/a","level":""}}`,
		`{"cniVersion":"1.1.0","prevResult":{"cniVersion":"1.1.0","interfaces":[null],"ips":[null],"routes":[null]}}`,
		`{"cniVersion":"0.4.0","prevResult":{"cniVersion":"1.1.0","interfaces":[{"name":"e","mtu":9}],"ips":[{"address":"1.1.1.1/8","interface":0}],"routes":[{"dst":"::/0","mtu":9}]}}`,
		`{"cniVersion":"1.1.0","prevResult":{"cniVersion":"0.2.0","ip4":{"ip":"1.1.1.1/8","routes":[null]},"ip6":null}}`,
		`{"cniVersion":"1.0.0","prevResult":{"interfaces":[]}}`, `{"cniVersion":"","prevResult":{"cniVersion":null}}`, `{"cniVersion":"x","prevResult":[]}`,
		`{"cniVersion":"0.3.1","prevResult":{"cniVersion":"0.3.1","ips":[{"version":"4","address":null},{}],"dns":{"nameservers":[""]}}}`,
	} {
		f.Add([]byte(seed))
	}
	for _, version := range versions {
		f.Add([]byte(`{"cniVersion":"` + version + `","prevResult":` + golden(f, "prev-"+version+".json") + `}`))
	}
	f.Fuzz(func(t *testing.T, stdin []byte) {
		c, err := Parse(stdin)
		if err != nil {
			coded(t, err, 6, 7)
			return
		}
		if _, err := c.NetworkTaps(); err != nil {
			coded(t, err, 7)
		}
		if got, _, err := c.AttachmentTap("net1"); err != nil {
			coded(t, err, 7, 104)
		} else if got.Device != "net1" || got.Interface == "" {
			t.Errorf("tap of the attachment is %+v", got)
		}
		if _, err := AnnotationTaps(c.Annotations.Values); err != nil {
			coded(t, err, 104)
		}
		checkResults(t, c)
	})
}

// checkResults has all that is read out of a prevResult read, and answers written.
func checkResults(t *testing.T, c *Config) {
	t.Helper()
	_, unread := c.Addresses()
	if unread != nil {
		coded(t, unread, 6)
	}
	if c.IsAttachment("net1", "/n") && unread != nil {
		t.Errorf("what cannot be read is taken for an attachment's result: %s", c.PrevResult)
	}
	var passed, appended, attachment bytes.Buffer
	if err := c.WriteResult(&passed, nil); err != nil {
		coded(t, err, 1, 6)
	} else if !json.Valid(passed.Bytes()) {
		t.Errorf("wrote %s", passed.String())
	}
	if err := c.WriteResult(&appended, []HostDevice{{Name: "veth0", MTU: 1450}}); err != nil {
		coded(t, err, 1, 6)
	} else if !json.Valid(appended.Bytes()) || unread != nil || c.PrevResult == nil {
		t.Errorf("wrote %s, though what came in is %s: %v", appended.String(), c.PrevResult, unread)
	}
	if err := c.WriteAttachment(&attachment, HostDevice{Name: "net1"}, "/n"); err != nil {
		coded(t, err, 1)
	}
}

// coded insists on one of CNI's codes and a message that fits into an event.
func coded(t *testing.T, err error, codes ...uint) {
	t.Helper()
	if message := err.Error(); len(message) == 0 || len(message) >= 2048 {
		t.Errorf("message has %d bytes: %q", len(message), message)
	}
	var cni *types.Error
	if !errors.As(err, &cni) {
		t.Fatalf("error is a %T, want one of CNI", err)
	}
	for _, code := range codes {
		if cni.Code == code {
			return
		}
	}
	t.Errorf("code is %d, want one of %v: %v", cni.Code, codes, err)
}
