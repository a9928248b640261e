package tap

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// decode reads exactly one YAML document; JSON is YAML. It takes the library's
// syntax tree apart itself: the library's own way from there to maps is slow
// enough, on aliases and on thousands of keys, for an annotation to keep a node
// busy, and reads 0100 as 64.
func decode(text []byte) (any, error) {
	if len(text) > MaxBytes {
		return nil, inText("the text has %d bytes; at most %d are read", len(text), MaxBytes)
	}
	d := yaml.NewDecoder(bytes.NewReader(text))
	var document, second yaml.Node
	if err := d.Decode(&document); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, inText("not valid YAML or JSON: %s", cut(err.Error()))
	}
	if err := d.Decode(&second); !errors.Is(err, io.EOF) {
		return nil, inText("not valid: something follows the first YAML document; write the taps as one list")
	}
	if len(document.Content) != 1 {
		return nil, nil
	}
	return tree(document.Content[0])
}

// inText is a mistake in the text as a whole.
func inText(format string, args ...any) Errors {
	return Errors{{Problem: fmt.Sprintf(format, args...)}}
}

// literal is a scalar that no field takes, as it was written.
type literal string

// tree turns a node of the syntax tree into what FromTree reads.
func tree(n *yaml.Node) (any, error) {
	if n.Kind == yaml.AliasNode || n.Anchor != "" {
		return nil, anchored(n)
	}
	switch n.Kind {
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for _, item := range n.Content {
			v, err := tree(item)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case yaml.MappingNode:
		return treeObject(n)
	}
	return scalar(n), nil
}

func anchored(n *yaml.Node) Errors {
	return inText("line %d: anchors and aliases are not read; write the values out", n.Line)
}

func treeObject(n *yaml.Node) (any, error) {
	object := make(map[string]any, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Anchor != "" {
			return nil, anchored(key)
		}
		if key.Kind != yaml.ScalarNode || key.ShortTag() == "!!merge" {
			return nil, inText("line %d: a field's name must be a plain word", key.Line)
		}
		if _, twice := object[key.Value]; twice {
			return nil, inText("line %d: the field %s is given twice", key.Line, Quote(key.Value))
		}
		v, err := tree(n.Content[i+1])
		if err != nil {
			return nil, err
		}
		object[key.Value] = v
	}
	return object, nil
}

func scalar(n *yaml.Node) any {
	switch n.ShortTag() {
	case "!!str":
		return n.Value
	case "!!null":
		if slices.Contains([]string{"", "~", "null", "Null", "NULL"}, n.Value) {
			return nil
		}
	case "!!int":
		// A number is written as Go would: 0x10, 010, +1 and 1_000 are none.
		if number, err := strconv.ParseInt(n.Value, 10, 64); err == nil && strconv.FormatInt(number, 10) == n.Value {
			return number
		}
	}
	return literal(n.Value)
}

// cut shortens the decoder's words, which may quote the user's text at length,
// to printable ones on a line.
func cut(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)
	if r := []rune(text); len(r) > 300 {
		return string(r[:300]) + "…"
	}
	return text
}
