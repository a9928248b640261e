package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/podtap/podtap/pkg/cniconf"
)

// settingNames are what an administrator may set for all nodes, in the order in
// which an entry has them.
var settingNames = []string{"taps", "policy", "failurePolicy", "log"}

// Entry is podtap's element of a chain for some settings: YAML or JSON, an object
// with taps, policy, failurePolicy and log, all of which may be left out. What the
// plugin would not accept from its configuration is an error here, all mistakes
// together, so that no pod ever meets it. The same settings make the same bytes.
func Entry(settings []byte, agentSocket string) ([]byte, error) {
	values, err := readSettings(settings)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, `{"type":%q,"capabilities":{%q:true}`, pluginType, cniconf.Capability)
	if agentSocket != cniconf.DefaultAgentSocket {
		values["agentSocket"] = agentSocket
	}
	for _, name := range append(settingNames, "agentSocket") {
		value, set := values[name]
		if !set || value == nil {
			continue
		}
		text, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		fmt.Fprintf(&out, ",%q:%s", name, text)
	}
	out.WriteByte('}')
	return out.Bytes(), accepted(out.Bytes())
}

// readSettings reads one YAML document.
func readSettings(text []byte) (map[string]any, error) {
	values := map[string]any{}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(&values); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("not an object in YAML or JSON: %w", err)
	}
	if err := decoder.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the first YAML document")
	}
	for name := range values {
		if !slices.Contains(settingNames, name) {
			return nil, fmt.Errorf("%q is unknown; known are %s", name, strings.Join(settingNames, ", "))
		}
	}
	if values == nil { // a document that says null
		values = map[string]any{}
	}
	return values, nil
}

// accepted has the plugin's own code read the entry, for a pod that has taps.
func accepted(entry []byte) error {
	conf := map[string]json.RawMessage{}
	if err := json.Unmarshal(entry, &conf); err != nil {
		return err
	}
	conf["cniVersion"], conf["name"] = json.RawMessage(`"1.0.0"`), json.RawMessage(`"network"`)
	text, err := json.Marshal(conf)
	if err != nil {
		return err
	}
	read, err := cniconf.Parse(text)
	if err != nil {
		return err
	}
	_, err = read.NetworkTaps()
	return err
}
