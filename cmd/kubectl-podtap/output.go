package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Formats of output.
const (
	formatTable = "table"
	formatWide  = "wide"
	formatJSON  = "json"
	formatYAML  = "yaml"
)

// checkFormat refuses a format that a command does not know.
func checkFormat(format string, known ...string) error {
	if slices.Contains(known, format) {
		return nil
	}
	last := len(known) - 1
	return fmt.Errorf("--output %q is unknown; known are %s and %s", format, strings.Join(known[:last], ", "), known[last])
}

// isDocument says whether a format is one for programs.
func isDocument(format string) bool { return format == formatJSON || format == formatYAML }

// writeDocument writes a value for programs. YAML has the JSON's fields.
func writeDocument(w io.Writer, format string, document any) error {
	if format == formatYAML {
		text, err := yaml.Marshal(document)
		if err == nil {
			_, err = w.Write(text)
		}
		return err
	}
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(document)
}
