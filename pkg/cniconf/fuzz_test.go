package cniconf

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/podtap/podtap/pkg/tap"
)

// The corpus is in testdata/fuzz/FuzzParse; here is what is too large for it, and
// the golden files.
func FuzzParse(f *testing.F) {
	f.Add([]byte(golden(f, "conflist-entry.json")))
	for _, version := range versions {
		f.Add([]byte(`{"cniVersion":"` + version + `","prevResult":` + golden(f, "prev-"+version+".json") + `}`))
	}
	f.Add([]byte(`{"runtimeConfig":{"io.kubernetes.cri.pod-annotations":{"podtap.io/taps":"veth: #` + strings.Repeat("x", tap.MaxBytes) + `"}}}`))
	f.Add([]byte(`{"policy":{"maxTaps":` + strings.Repeat("9", 5000) + `}}`))
	f.Add([]byte(`{"policy":{"` + strings.Repeat("日", 5000) + `":1}}`))
	f.Add([]byte(`{"taps":` + strings.Repeat("[", 9000) + strings.Repeat("]", 9000) + `}`))
	f.Fuzz(func(t *testing.T, stdin []byte) {
		c, err := Parse(stdin)
		name, errName := ParseName(stdin)
		checkGC(t, stdin, name, errName)
		if err != nil {
			coded(t, err, 6, 7)
			return
		}
		if errName != nil || name != c.Name {
			t.Errorf("DEL reads the network's name as %q, %v; ADD as %q", name, errName, c.Name)
		}
		checkConfig(t, c)
		checkTaps(t, c)
		checkResults(t, c)
	})
}

// checkGC insists that GC acts only on a list which is there, and under the name
// that DEL reads.
func checkGC(t *testing.T, stdin []byte, name string, errName error) {
	t.Helper()
	if errName != nil {
		coded(t, Error(types.ErrDecodingFailure, errName), 6)
	}
	network, valid, err := ParseGC(stdin)
	switch {
	case err != nil:
		coded(t, Error(types.ErrDecodingFailure, err), 6)
		if network != "" {
			t.Errorf("GC has the name %q beside its error: %v", network, err)
		}
	case errName != nil || network != name:
		t.Errorf("GC reads the network's name as %q; DEL as %q, %v", network, name, errName)
	case !bytes.Contains(stdin, []byte("valid-attachments")) && !bytes.Contains(stdin, []byte(`\u`)):
		t.Errorf("GC takes %v out of what has no list", valid)
	}
}

// checkConfig holds the settings against what the reference says of each.
func checkConfig(t *testing.T, c *Config) {
	t.Helper()
	absolute := func(path string) bool { return strings.HasPrefix(path, "/") }
	if !slices.Contains([]FailurePolicy{Fail, Ignore}, c.FailurePolicy) || !absolute(c.AgentSocket) ||
		!slices.Contains([]string{"debug", "info", "warn", "error"}, c.Log.Level) || c.Log.File != "" && !absolute(c.Log.File) ||
		c.Policy.MaxTaps < 0 || c.Policy.MaxTaps > tap.MaxTaps || c.Annotations.Known && c.Annotations.Ask ||
		!c.Annotations.Known && c.Annotations.Values != nil {
		t.Errorf("the reference does not allow %+v", *c)
	}
}

// checkTaps has the taps read, from wherever they come, and decided on.
func checkTaps(t *testing.T, c *Config) {
	t.Helper()
	own, err := c.NetworkTaps()
	if err != nil {
		coded(t, err, 7)
	}
	annotated, err := AnnotationTaps(c.Annotations.Values)
	if err != nil {
		coded(t, err, 104)
	}
	if len(own) > tap.MaxTaps || len(annotated) > tap.MaxTaps {
		t.Errorf("%d and %d taps", len(own), len(annotated))
	}
	attached, _, err := c.AttachmentTap("net1")
	if err != nil {
		coded(t, err, 7, 104)
	} else if attached.Device != "net1" || attached.Interface == "" {
		t.Errorf("tap of the attachment is %+v", attached)
	}
	for i, wanted := range slices.Concat(own, annotated, []tap.Tap{attached}) {
		if err := c.Policy.Allow(wanted, i, c.Name); err != nil {
			coded(t, Error(CodePolicy, err), 100)
		}
	}
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

// coded insists on one of CNI's codes and a message that fits into an event, on
// one line, and does nothing to a terminal.
func coded(t *testing.T, err error, codes ...uint) {
	t.Helper()
	message := err.Error()
	if len(message) == 0 || len(message) >= 2048 || strings.ContainsFunc(message, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("message has %d bytes, or some that do not print: %q", len(message), message)
	}
	var cni *types.Error
	if !errors.As(err, &cni) {
		t.Fatalf("error is a %T, want one of CNI", err)
	}
	if !slices.Contains(codes, cni.Code) {
		t.Errorf("code is %d, want one of %v: %v", cni.Code, codes, err)
	}
}
