package tap

import (
	"fmt"
	"strings"
)

// maxMessage bounds an error's text in bytes. It travels through the runtime
// into an event of the pod, where Kubernetes cuts at 1024 to 4096.
const maxMessage = 1800

// FieldError is one mistake in one field of one tap.
type FieldError struct {
	Tap     int    // position in the list, from 1; 0 where the mistake is in the text as a whole
	Device  string // the tap's device, where it has a name
	Field   string // path of the field, such as vxlan.vni; empty for the tap as a whole
	Problem string // what is wrong with which value, and what is allowed
}

func (e FieldError) Error() string {
	var b strings.Builder
	if e.Tap > 0 {
		fmt.Fprintf(&b, "tap %d", e.Tap)
		if e.Device != "" {
			fmt.Fprintf(&b, " (%s)", Quote(e.Device))
		}
		b.WriteString(": ")
	}
	if e.Field != "" {
		b.WriteString(e.Field + ": ")
	}
	b.WriteString(e.Problem)
	return b.String()
}

// Errors are all mistakes found in a text, in its order.
type Errors []FieldError

// Error lists the mistakes, as many as fit into a message, the first at any rate.
func (e Errors) Error() string {
	var b strings.Builder
	for i, mistake := range e {
		text := mistake.Error()
		switch {
		case i == 0 && len(text) > maxMessage:
			text = strings.ToValidUTF8(text[:maxMessage], "") + "…"
		case i > 0 && b.Len()+len(text) > maxMessage:
			fmt.Fprintf(&b, "; and %d more mistakes", len(e)-i)
			return b.String()
		case i > 0:
			b.WriteString("; ")
		}
		b.WriteString(text)
	}
	return b.String()
}

// Quote shows a value of a user's in a message: quoted, escaped, and cut where
// it is long.
func Quote(v any) string {
	text, isString := v.(string)
	if l, ok := v.(literal); ok {
		text = cut(string(l))
	} else if !isString {
		text = describe(v)
	}
	const most = 48
	if cut := []rune(text); len(cut) > most {
		text = string(cut[:most]) + "…"
	}
	if isString {
		return fmt.Sprintf("%q", text)
	}
	return text
}

// describe words a value that is not a string without printing what could be large.
func describe(v any) string {
	switch v := v.(type) {
	case nil:
		return "nothing"
	case map[string]any:
		return fmt.Sprintf("an object of %d fields", len(v))
	case []any:
		return fmt.Sprintf("a list of %d", len(v))
	default:
		return fmt.Sprint(v)
	}
}
