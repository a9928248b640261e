// Package cniconf is what CNI hands to podtap and gets back: the network
// configuration on standard input, CNI_ARGS, the pod's annotations, and results.
// It is pure. The plugin's verbs use it to learn what is wanted and to answer in
// the form and version that the runtime expects.
package cniconf

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/podtap/podtap/pkg/policy"
	"github.com/podtap/podtap/pkg/tap"
)

// Error codes of podtap's own, beside those of the CNI specification.
const (
	CodePolicy      = 100 // refused by policy
	CodeInterface   = 101 // the interface to tap does not exist
	CodeMTU         = 102 // does not fit the MTU
	CodeUnsupported = 103 // the kernel or the interface cannot
	CodeAnnotation  = 104 // invalid tap in an annotation or in an attachment's cni-args
	CodeDrift       = 105 // CHECK: a tap is not as it should be
	CodeUnavailable = 50  // STATUS: taps cannot work on this node
)

// DefaultAgentSocket is where the node agent answers.
const DefaultAgentSocket = "/run/podtap/agent.sock"

// FailurePolicy says what becomes of a pod whose tap cannot be made.
type FailurePolicy string

const (
	Fail   FailurePolicy = "Fail"   // ADD fails
	Ignore FailurePolicy = "Ignore" // the pod starts without the tap, and the log says why
)

// Log is where and how much the plugin logs.
type Log struct {
	Level string `json:"level"` // debug, info, warn or error; default info
	File  string `json:"file"`  // beside standard error; default none
}

// Config is podtap's network configuration, read for ADD or CHECK.
type Config struct {
	CNIVersion    string
	Name          string // of the network
	Policy        policy.Policy
	FailurePolicy FailurePolicy
	AgentSocket   string
	Log           Log
	Annotations   Annotations
	// Untapped says that the pod has no taps for certain; then neither Policy,
	// FailurePolicy, AgentSocket nor Log has been read.
	Untapped bool
	// PrevResult is the chain's result so far, as it came in; nil where there is none.
	PrevResult json.RawMessage

	taps any            // the administrator's, still to be read
	args map[string]any // args.cni: the author's words for one attachment
}

// document is the configuration as written, with what runtimes add to it.
type document map[string]json.RawMessage

// read reads one field, where there is one.
func (d document) read(field string, into any) error {
	text := d[field]
	if len(text) == 0 {
		return nil
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(into); err != nil {
		if wrong := (*json.UnmarshalTypeError)(nil); errors.As(err, &wrong) && wrong.Field != "" {
			field += "." + wrong.Field
		}
		return Error(types.ErrDecodingFailure, fmt.Errorf("network configuration: %s: %w", field, err))
	}
	return nil
}

// has says whether a field is there and not null.
func (d document) has(field string) bool {
	text := string(d[field])
	return text != "" && text != "null"
}

// Parse reads the network configuration for ADD and CHECK. Its errors carry
// CNI's codes: 6 for what cannot be decoded, 7 for what is not allowed, all
// mistakes together. Of a pod that has no taps for certain it reads no more than
// that: mistakes elsewhere do not keep such a pod from starting, nor does it wait
// for their being looked for.
func Parse(stdin []byte) (*Config, error) {
	var doc document
	if err := json.Unmarshal(stdin, &doc); err != nil {
		return nil, Error(types.ErrDecodingFailure, fmt.Errorf("network configuration: %w", err))
	}
	c := &Config{FailurePolicy: Fail}
	if doc.has("prevResult") {
		c.PrevResult = doc["prevResult"]
	}
	err := errors.Join(doc.read("cniVersion", &c.CNIVersion), doc.read("name", &c.Name))
	if err == nil {
		c.Annotations, err = parseAnnotations(doc)
	}
	if err != nil {
		return nil, err
	}
	if c.PrevResult != nil && c.Annotations.Known && strings.TrimSpace(c.Annotations.Values[AnnotationKey]) == "" &&
		(!doc.has("taps") || string(doc["taps"]) == "[]") {
		c.Untapped = true
		return c, nil
	}
	if err := c.parseSettings(doc); err != nil {
		return nil, err
	}
	return c, nil
}

// parseSettings reads what only matters where there are taps.
func (c *Config) parseSettings(doc document) error {
	var args struct {
		CNI map[string]any `json:"cni"`
	}
	err := errors.Join(doc.read("taps", &c.taps), doc.read("args", &args),
		doc.read("failurePolicy", &c.FailurePolicy), doc.read("agentSocket", &c.AgentSocket))
	if err != nil {
		return err
	}
	c.args = args.CNI
	var mistakes []error
	if c.Policy, err = policy.Parse(doc["policy"]); err != nil {
		mistakes = append(mistakes, err)
	}
	if c.Log, err = parseLog(doc["log"]); err != nil {
		mistakes = append(mistakes, err)
	}
	switch c.FailurePolicy {
	case Fail, Ignore:
	case "":
		c.FailurePolicy = Fail
	default:
		mistakes = append(mistakes, fmt.Errorf("failurePolicy: %s is not allowed; it must be Fail or Ignore", tap.Quote(string(c.FailurePolicy))))
	}
	if c.AgentSocket == "" {
		c.AgentSocket = DefaultAgentSocket
	} else if !filepath.IsAbs(c.AgentSocket) {
		mistakes = append(mistakes, fmt.Errorf("agentSocket: %s is not allowed; it must be an absolute path", tap.Quote(c.AgentSocket)))
	}
	if len(mistakes) > 0 {
		return Error(types.ErrInvalidNetworkConfig, errors.Join(mistakes...))
	}
	return nil
}

func parseLog(text json.RawMessage) (Log, error) {
	l := Log{}
	if len(text) > 0 && string(text) != "null" {
		d := json.NewDecoder(bytes.NewReader(text))
		d.DisallowUnknownFields()
		if err := d.Decode(&l); err != nil {
			return l, fmt.Errorf("log: %s; known are level and file", strings.TrimPrefix(err.Error(), "json: "))
		}
	}
	if l.Level == "" {
		l.Level = "info"
	}
	var level, file error
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, l.Level) {
		level = fmt.Errorf("log.level: %s is not allowed; it must be one of debug, info, warn, error", tap.Quote(l.Level))
	}
	if l.File != "" && !filepath.IsAbs(l.File) {
		file = fmt.Errorf("log.file: %s is not allowed; it must be an absolute path", tap.Quote(l.File))
	}
	return l, errors.Join(level, file)
}

// NetworkTaps are the taps of the network configuration itself.
func (c *Config) NetworkTaps() ([]tap.Tap, error) {
	taps, err := tap.FromTree(c.taps)
	if err != nil {
		return nil, Error(types.ErrInvalidNetworkConfig, fmt.Errorf("taps of the network configuration: %w", err))
	}
	return taps, nil
}

// AttachmentTap is the one tap of a network whose only plugin is podtap, as in
// Multus' NetworkAttachmentDefinition: its device is the attachment's interface.
// The attachment's cni-args may set the tap's fields; changed says that they did,
// and that the tap is the pod author's.
func (c *Config) AttachmentTap(ifName string) (t tap.Tap, changed bool, err error) {
	if !tap.ValidDeviceName(ifName) {
		return t, false, Error(types.ErrInvalidEnvironmentVariables, fmt.Errorf("CNI_IFNAME: %s cannot be the name of a device", tap.Quote(ifName)))
	}
	tree := c.taps
	if list, ok := tree.([]any); ok && len(list) == 1 {
		tree = list[0]
	}
	changed = len(c.args) > 0
	code, of := uint(types.ErrInvalidNetworkConfig), "taps of the network configuration"
	if fields, ok := tree.(map[string]any); ok && changed {
		tree = overlay(fields, c.args)
		code, of = CodeAnnotation, "taps of the network configuration with the attachment's cni-args"
	}
	taps, err := tap.FromTree(tree)
	if err == nil && len(taps) != 1 {
		err = fmt.Errorf("%d taps; a network whose only plugin is podtap has exactly one, and in a chain podtap comes after the plugin that makes the pod's interface", len(taps))
	}
	if err == nil && taps[0].Device != "" && taps[0].Device != ifName {
		err = fmt.Errorf("device: %q is not allowed; the device of an attachment is its interface, %q", taps[0].Device, ifName)
	}
	if err != nil {
		return tap.Tap{}, changed, Error(code, fmt.Errorf("%s: %w", of, err))
	}
	taps[0].Device = ifName
	if taps[0].Interface == "" {
		taps[0].Interface = "eth0"
	}
	return taps[0], changed, nil
}

// overlay returns base with the fields of over set, object by object.
func overlay(base, over map[string]any) map[string]any {
	out := map[string]any{}
	for k, v := range base {
		out[k] = v
	}
	for k, v := range over {
		below, isObject := v.(map[string]any)
		was, wasObject := out[k].(map[string]any)
		if isObject && wasObject {
			v = overlay(was, below)
		}
		out[k] = v
	}
	return out
}

// Error makes an error with CNI's code and a message that fits into an event.
func Error(code uint, err error) *types.Error {
	const most = 1900 // bytes
	// Names and aliases come from pods: none of their bytes may steer a terminal.
	message := strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(strings.ReplaceAll(err.Error(), "\n", "; "), ""))
	if len(message) > most {
		message = strings.ToValidUTF8(message[:most], "") + "…"
	}
	return types.NewError(code, message, "")
}
