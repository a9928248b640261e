package cniconf

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/version"
)

// told is what a chain's result says of interfaces and of whose the addresses are.
type told struct {
	CNIVersion string `json:"cniVersion"`
	Interfaces []struct {
		Name    string `json:"name"`
		MAC     string `json:"mac"`
		Sandbox string `json:"sandbox"`
		MTU     int    `json:"mtu"`
		Socket  string `json:"socketPath"`
		PCI     string `json:"pciID"`
	} `json:"interfaces"`
	IPs    []toldIP   `json:"ips"`
	Routes []struct{} `json:"routes"`
}

type toldIP struct {
	Interface *int `json:"interface"`
}

// The corpus is in testdata/fuzz/FuzzPrevResult; here are the golden files.
func FuzzPrevResult(f *testing.F) {
	for _, version := range versions {
		f.Add([]byte(golden(f, "prev-"+version+".json")))
		f.Add([]byte(golden(f, "attachment-"+version+".json")))
	}
	f.Fuzz(func(t *testing.T, prev []byte) {
		clear := unambiguous(prev)
		for _, version := range versions {
			if strings.TrimSpace(string(prev)) != "null" { // which Parse makes none of
				checkResults(t, &Config{CNIVersion: version, PrevResult: prev})
			}
			stdin := slices.Concat([]byte(`{"cniVersion":"`+version+`","name":"cbr0","prevResult": `), prev, []byte(`}`))
			if !json.Valid(prev) || !json.Valid(stdin) {
				continue
			}
			c, err := Parse(stdin)
			if err != nil {
				t.Fatalf("%s: %v", version, err)
			}
			checkChain(t, c, bytes.Trim(prev, " \t\r\n"), clear)
		}
	})
}

// checkChain insists that a valid prevResult goes on as the next plugin, or the
// runtime, has to find it; clear says that it can be read in one way only.
func checkChain(t *testing.T, c *Config, prev []byte, clear bool) {
	t.Helper()
	if string(prev) == "null" {
		if c.PrevResult != nil {
			t.Errorf("null is the result %s", c.PrevResult)
		}
		return
	}
	if string(c.PrevResult) != string(prev) {
		t.Errorf("the result that came in is %s", c.PrevResult)
	}
	var passed, appended bytes.Buffer
	errPassed := c.WriteResult(&passed, nil)
	errAppended := c.WriteResult(&appended, []HostDevice{{Name: "veth0", MAC: "02:00:00:00:00:04", MTU: 1450}})
	var head struct {
		CNIVersion string `json:"cniVersion"`
	}
	if json.Unmarshal(prev, &head) == nil && (head.CNIVersion == "" || head.CNIVersion == c.CNIVersion) {
		if errPassed != nil || passed.String() != string(prev) {
			t.Errorf("%s: without devices wrote %s, %v", c.CNIVersion, passed.String(), errPassed)
		}
	} else if errPassed == nil && clear {
		checkTold(t, c, passed.Bytes(), 0)
	}
	if errAppended == nil && clear {
		checkTold(t, c, appended.Bytes(), 1)
	}
}

// checkTold insists that a result written says what came in, in the network's
// version, and of so many devices more.
func checkTold(t *testing.T, c *Config, written []byte, devices int) {
	t.Helper()
	if _, err := version.NewResult(c.CNIVersion, written); err != nil {
		t.Errorf("%s: wrote what cannot be read, %v: %s", c.CNIVersion, err, written)
		return
	}
	var in, out told
	if err := json.Unmarshal(written, &out); err != nil {
		t.Fatalf("%s: %v in %s", c.CNIVersion, err, written)
	}
	if json.Unmarshal(c.PrevResult, &in) != nil {
		return // an old version, with nonsense in fields that only 1.1.0 has
	}
	if in.CNIVersion != "" && in.CNIVersion < "0.3.0" {
		// They knew no interfaces, and had addresses and routes elsewhere.
		in.Interfaces, in.IPs, in.Routes = nil, make([]toldIP, len(out.IPs)), make([]struct{}, len(out.Routes))
	}
	if out.CNIVersion != c.CNIVersion || len(out.Interfaces) != len(in.Interfaces)+devices || len(out.Routes) != len(in.Routes) ||
		!slices.EqualFunc(out.IPs, in.IPs, func(a, b toldIP) bool { return reflect.DeepEqual(a, b) }) {
		t.Errorf("%s: wrote %s", c.CNIVersion, written)
		return
	}
	newer := c.CNIVersion == "1.1.0" && (in.CNIVersion == "" || in.CNIVersion >= "1.0.0")
	for i, got := range out.Interfaces {
		want := got
		if i < len(in.Interfaces) {
			want = in.Interfaces[i]
			if !newer { // only 1.1.0 has these
				want.MTU, want.Socket, want.PCI = 0, "", ""
			}
		} else if got.Name != "veth0" || got.MAC != "02:00:00:00:00:04" || got.Sandbox != "" {
			t.Errorf("%s: appended %+v", c.CNIVersion, got)
		}
		if got != want {
			t.Errorf("%s: interface %d is %+v, want %+v", c.CNIVersion, i, got, want)
		}
	}
	before, err := c.Addresses()
	after, errAfter := (&Config{CNIVersion: c.CNIVersion, PrevResult: written}).Addresses()
	if err != nil || errAfter != nil || !reflect.DeepEqual(before, after) {
		t.Errorf("%s: addresses are %v, %v; want %v, %v", c.CNIVersion, after, errAfter, before, err)
	}
}

// unambiguous says whether a JSON text means the same to all its readers: no
// object has a key twice, not even in another case, which Go passes over, and no
// whole number is one that a float cannot hold (RFC 8259, sections 4 and 6).
func unambiguous(text []byte) bool {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return readOneWay(d)
}

func readOneWay(d *json.Decoder) bool {
	open, err := d.Token()
	if err != nil {
		return false
	}
	if number, ok := open.(json.Number); ok {
		return len(number) < 16 // 2^53 has 16 digits
	}
	if open != json.Delim('{') && open != json.Delim('[') {
		return true
	}
	var keys []string
	for d.More() {
		if open == json.Delim('{') {
			key, err := d.Token()
			name, _ := key.(string)
			if err != nil || slices.ContainsFunc(keys, func(k string) bool { return strings.EqualFold(k, name) }) {
				return false
			}
			keys = append(keys, name)
		}
		if !readOneWay(d) {
			return false
		}
	}
	_, err = d.Token()
	return err == nil
}
