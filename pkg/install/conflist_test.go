package install

import (
	"testing"
)

const entry = `{"type":"podtap","taps":[]}`

func TestChainingLeavesEveryOtherByteAlone(t *testing.T) {
	for name, c := range map[string]struct{ before, after string }{
		"one line":            {`{"name":"n","plugins":[{"type":"a"}]}`, `{"name":"n","plugins":[{"type":"a"},` + entry + `]}`},
		"one line, two":       {`{"plugins":[{"type":"a"} , {"type":"b"} ], "x": 1.50 }`, `{"plugins":[{"type":"a"} , {"type":"b"}, ` + entry + ` ], "x": 1.50 }`},
		"a line each":         {"{\"plugins\": [\n\t{\"type\": \"a\"},\n\t{\"type\": \"b\"}\n]}\n", "{\"plugins\": [\n\t{\"type\": \"a\"},\n\t{\"type\": \"b\"},\n\t" + entry + "\n]}\n"},
		"one alone on a line": {"{\"plugins\": [\r\n {\"type\": \"a\"}\r\n]}", "{\"plugins\": [\r\n {\"type\": \"a\"},\r\n " + entry + "\r\n]}"},
		"is there already":    {`{"plugins":[{"type":"a"}, {"taps" : [], "type":"podtap"}]}`, `{"plugins":[{"type":"a"}, {"taps" : [], "type":"podtap"}]}`},
		"another behind it":   {`{"plugins":[{"type":"a"},` + entry + `,{"type":"b"}]}`, `{"plugins":[{"type":"a"},` + entry + `,{"type":"b"}]}`},
		"an older one":        {`{"plugins":[{"type":"a"}, {"type":"podtap","taps":[1]}, {"type":"b"}]}`, `{"plugins":[{"type":"a"}, {"type":"b"}, ` + entry + `]}`},
		"before all others":   {`{"plugins":[ ` + entry + `, {"type":"b"}]}`, `{"plugins":[ {"type":"b"}, ` + entry + `]}`},
		"many":                {`{"plugins":[` + entry + `,` + entry + `,{"type":"b"},` + entry + `]}`, `{"plugins":[{"type":"b"},` + entry + `]}`},
	} {
		t.Run(name, func(t *testing.T) {
			list, err := parseConflist([]byte(c.before))
			if err != nil {
				t.Fatal(err)
			}
			if got, err := list.chained([]byte(entry)); err != nil || string(got) != c.after {
				t.Errorf("%v; got\n%s\nwant\n%s", err, got, c.after)
			}
		})
	}
}
