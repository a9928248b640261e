package tap

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// object reads the fields of one YAML or JSON object and gathers every mistake,
// instead of stopping at the first.
type object struct {
	fields  map[string]any
	path    string // of the object, such as "vxlan."; empty at the top
	known   []string
	mistake func(field, problem string)
}

// take returns a field's value, remembering that the field exists in the schema.
func (o *object) take(name string) (any, bool) {
	o.known = append(o.known, name)
	v, present := o.fields[name]
	return v, present
}

func (o *object) bad(name string, value any, allowed string) {
	o.mistake(o.path+name, Quote(value)+" is not allowed; it must be "+allowed)
}

// text returns a string field, "" where it is absent or wrong.
func (o *object) text(name, allowed string) string {
	v, present := o.take(name)
	if !present {
		return ""
	}
	s, ok := v.(string)
	if !ok || s == "" {
		o.bad(name, v, allowed)
		return ""
	}
	return s
}

// oneOf returns a string field that has one of a few values, or fallback.
func oneOf[T ~string](o *object, name string, fallback T, values ...T) T {
	names := make([]string, len(values))
	for i, v := range values {
		names[i] = string(v)
	}
	allowed := "one of " + strings.Join(names, ", ")
	s := T(o.text(name, allowed))
	if s == "" {
		return fallback
	}
	if !slices.Contains(values, s) {
		o.bad(name, string(s), allowed)
		return fallback
	}
	return s
}

// number returns a whole number within least and most, or fallback.
func (o *object) number(name string, fallback, least, most int64) int64 {
	v, present := o.take(name)
	if !present {
		return fallback
	}
	n, ok := wholeNumber(v)
	if !ok || n < least || n > most {
		o.bad(name, v, fmt.Sprintf("a whole number from %d to %d", least, most))
		return fallback
	}
	return n
}

// required notes a field that has to be there.
func (o *object) required(name, what string) {
	if _, present := o.fields[name]; !present {
		o.mistake(o.path+name, "is missing; it must be "+what)
	}
}

// prefixes returns a list of addresses in CIDR notation.
func (o *object) prefixes(name string) []netip.Prefix {
	v, present := o.take(name)
	if !present {
		return nil
	}
	const allowed = `a list of addresses with their prefix length, such as ["198.18.0.2/24"]`
	list, ok := v.([]any)
	if !ok {
		o.bad(name, v, allowed)
		return nil
	}
	if len(list) > MaxAddresses {
		o.bad(name, v, fmt.Sprintf("a list of at most %d addresses", MaxAddresses))
		return nil
	}
	var out []netip.Prefix
	for i, item := range list {
		s, _ := item.(string)
		p, err := netip.ParsePrefix(s)
		switch {
		case err != nil:
			o.bad(fmt.Sprintf("%s[%d]", name, i), item, "an address with its prefix length, such as 198.18.0.2/24")
		case p.Addr().Is4In6() || p.Bits() == 0 || !p.Addr().IsGlobalUnicast():
			o.bad(fmt.Sprintf("%s[%d]", name, i), s, "a unicast address, not a link-local one, with a prefix length above 0")
		case slices.ContainsFunc(out, func(q netip.Prefix) bool { return q.Addr() == p.Addr() }):
			o.bad(fmt.Sprintf("%s[%d]", name, i), s, "given once")
		default:
			out = append(out, p)
		}
	}
	return out
}

// child returns an object within the object; nothing at all (`veth:` in YAML)
// counts as an empty one. It is nil where the field is there but is no object.
func (o *object) child(name string) (*object, bool) {
	v, present := o.take(name)
	if !present {
		return nil, false
	}
	fields, ok := v.(map[string]any)
	if !ok && v != nil {
		o.bad(name, v, "an object")
		return nil, true
	}
	return &object{fields: fields, path: o.path + name + ".", mistake: o.mistake}, true
}

// unknown notes every field that nobody took.
func (o *object) unknown() {
	var names []string
	for name := range o.fields {
		if !slices.Contains(o.known, name) {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	for _, name := range names {
		shown := name
		if len(shown) > MaxNameLength*2 {
			shown = shown[:MaxNameLength*2] + "…"
		}
		shown = strings.Trim(strconv.Quote(shown), `"`)
		o.mistake(o.path+shown, "is an unknown field; known are "+strings.Join(o.known, ", "))
	}
}

// wholeNumber takes what the YAML and JSON decoders make of a number.
func wholeNumber(v any) (int64, bool) {
	switch v := v.(type) {
	case int:
		return int64(v), true
	case int64:
		return v, true
	case json.Number:
		n, err := strconv.ParseInt(v.String(), 10, 64)
		return n, err == nil
	default:
		return 0, false
	}
}
