package install

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
)

// errNoPlugins says that a configuration has no plugins: it is one plugin's own.
var errNoPlugins = errors.New("it has no plugins")

// conflist is a network configuration list as its author wrote it: the bytes, and
// where in them the plugins are.
type conflist struct {
	text    []byte
	wrapped string // what wrappedKey says
	plugins []element
	open    int // offset behind the bracket that opens the plugins
}

// element is one plugin: text[start:end] of the list.
type element struct {
	start, end int
	kind       string // its type
}

// parseConflist finds the plugins of a configuration list. What it refuses, a
// runtime refuses too, but for keys that are there twice: of those, runtimes take
// the last, and nobody can be sure what the author meant.
func parseConflist(text []byte) (*conflist, error) {
	list := &conflist{text: text}
	decoder := json.NewDecoder(bytes.NewReader(text))
	if err := delimiter(decoder, '{'); err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for decoder.More() {
		token, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		key := token.(string)
		if seen[key] {
			return nil, fmt.Errorf("the key %q is there twice", key)
		}
		seen[key] = true
		switch key {
		case "plugins":
			err = list.readPlugins(decoder)
		case wrappedKey:
			err = decoder.Decode(&list.wrapped)
		default:
			err = decoder.Decode(new(json.RawMessage))
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
	}
	if err := delimiter(decoder, '}'); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("there is more after its end, at byte %d", decoder.InputOffset())
	}
	if !seen["plugins"] {
		return nil, errNoPlugins
	}
	return list, nil
}

func (l *conflist) readPlugins(decoder *json.Decoder) error {
	if err := delimiter(decoder, '['); err != nil {
		return err
	}
	l.open = int(decoder.InputOffset())
	for decoder.More() {
		var text json.RawMessage
		if err := decoder.Decode(&text); err != nil {
			return err
		}
		// Read as runtimes do, which do not care for the key's case.
		var plugin struct{ Type string }
		if err := json.Unmarshal(text, &plugin); err != nil {
			return fmt.Errorf("plugin %d: %w", len(l.plugins)+1, err)
		}
		end := int(decoder.InputOffset())
		l.plugins = append(l.plugins, element{end - len(text), end, plugin.Type})
	}
	return delimiter(decoder, ']')
}

// delimiter reads one bracket or brace.
func delimiter(decoder *json.Decoder, want json.Delim) error {
	token, err := decoder.Token()
	if err != nil {
		return err
	}
	if token != want {
		return fmt.Errorf("%v where %v should be, before byte %d", token, want, decoder.InputOffset())
	}
	return nil
}

// primary is the type of the first plugin that is not podtap; "" where there is none.
func (l *conflist) primary() string {
	for _, e := range l.plugins {
		if e.kind != pluginType {
			return e.kind
		}
	}
	return ""
}

// has says whether podtap is in the chain once, behind another plugin, and as
// wanted. Another plugin may be behind it: who else chains itself at the end, and
// looks after that, is not to be fought with.
func (l *conflist) has(entry []byte) bool {
	at := -1
	for i, e := range l.plugins {
		if e.kind != pluginType {
			continue
		}
		if at >= 0 || i == 0 {
			return false
		}
		at = i
	}
	return at > 0 && sameJSON(l.text[l.plugins[at].start:l.plugins[at].end], entry)
}

// unchained is the text without podtap's entries, each with the comma that set it
// apart.
func (l *conflist) unchained() []byte {
	var out []byte
	copied := 0 // of the text
	kept := -1  // the last plugin that stays
	for i, e := range l.plugins {
		switch {
		case e.kind != pluginType:
			kept = i
			continue
		case kept >= 0: // with what is before it, comma included
			out = append(out, l.text[copied:max(copied, l.plugins[i-1].end)]...)
			copied = e.end
		case i+1 < len(l.plugins): // with what is behind it
			out = append(out, l.text[copied:max(copied, e.start)]...)
			copied = l.plugins[i+1].start
		}
	}
	return append(out, l.text[copied:]...)
}

// chained is the text with podtap's entry, once and at the end; each byte outside
// of podtap's entries stays as it is. Where the entry is in its place already,
// nothing changes at all.
func (l *conflist) chained(entry []byte) ([]byte, error) {
	if l.primary() == "" {
		return nil, errors.New("it has no plugin that podtap could be chained behind")
	}
	if l.has(entry) {
		return l.text, nil
	}
	bare, err := parseConflist(l.unchained())
	if err != nil {
		return nil, fmt.Errorf("without podtap: %w", err)
	}
	last := len(bare.plugins) - 1
	from := bare.open
	if last > 0 {
		from = bare.plugins[last-1].end
	}
	// Set apart as the author set apart his last plugin.
	space := string(bare.text[from:bare.plugins[last].start])
	if last > 0 {
		_, space, _ = strings.Cut(space, ",")
	}
	end := bare.plugins[last].end
	return bytes.Join([][]byte{bare.text[:end], []byte("," + space), entry, bare.text[end:]}, nil), nil
}

// sameJSON says whether two texts mean the same: whoever rewrites the list may
// write our entry in another form.
func sameJSON(a, b []byte) bool {
	var x, y any
	return decodeNumbers(a, &x) == nil && decodeNumbers(b, &y) == nil && reflect.DeepEqual(x, y)
}

func decodeNumbers(text []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	return decoder.Decode(into)
}
