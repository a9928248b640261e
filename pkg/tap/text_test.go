package tap

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestBrokenTextIsRefusedWithTheDecodersWords(t *testing.T) {
	for text, want := range map[string]string{
		"veth: {":                          "line 1",
		"a: b: c":                          "mapping values are not allowed",
		"\tveth:":                          "not valid YAML or JSON",
		"veth: *nobody":                    "unknown anchor 'nobody'",
		"{\"veth\":{}\x00}":                "control characters are not allowed",
		"veth: \xff":                       "UTF-8",
		"veth: {hostInterface: \"a\xc3\"}": "UTF-8",
		`{"veth":{}`:                       "not valid YAML or JSON",
		"? [":                              "not valid YAML or JSON",
	} {
		errs := mistakes(t, text)
		if len(errs) != 1 || errs[0].Tap != 0 || !strings.HasPrefix(errs.Error(), "not valid YAML or JSON: yaml: ") || !strings.Contains(errs.Error(), want) {
			t.Errorf("message for %q is %q, want one of the whole text, with %q", text, errs, want)
		}
	}
}

// onlyInText insists that a text has one mistake, of the text as a whole.
func onlyInText(t *testing.T, text, message string) {
	t.Helper()
	if errs := mistakes(t, text); len(errs) != 1 || errs[0].Tap != 0 || errs.Error() != message {
		t.Errorf("mistakes of %.200q are %q, want one of the whole text, %q", text, errs.Error(), message)
	}
}

func TestWhatFollowsTheFirstDocumentIsRefused(t *testing.T) {
	for _, text := range []string{
		"veth:\n---\nveth:", "veth:\n---\n", "---\n---\nveth:", "veth:\n...\n---\n[", "null\n---\nveth:", "veth:\n...\nveth:",
		`{"veth":{}}{"veth":{}}`, `{"veth":{}} {"wire":{}}`, "[veth: {}] x", "{veth: {}} ]", "{veth: {}}\n}",
	} {
		onlyInText(t, text, "not valid: something follows the first YAML document; write the taps as one list")
	}
	// The end of a document may be written, with nothing behind it.
	for _, text := range []string{"veth:\n...", "---\nveth:\n...\n# the end\n"} {
		equal(t, text, one(t, text), Tap{Direction: Both, SampleRate: 1, Veth: &Veth{}})
	}
}

func TestAnchorsAliasesAndMergesAreRefused(t *testing.T) {
	const anchors = "anchors and aliases are not read; write the values out"
	for text, message := range map[string]string{
		"&a [*a]":                                "line 1: " + anchors,
		"veth: &a {}":                            "line 1: " + anchors,
		"veth: &a":                               "line 1: " + anchors,
		"--- &a\nveth:":                          "line 1: " + anchors,
		"- veth:\n- &a {veth: {}}\n- *a\n":       "line 2: " + anchors,
		"device: a\nveth: {hostInterface: &h b}": "line 2: " + anchors,
		"{device: &d a, veth: {*d : b}}":         "line 1: " + anchors,
		"base: &b\n  veth:\n<<: *b\n":            "line 1: " + anchors,
		// A merge needs no alias to be one; a quoted << is a word.
		"device: a\n<<: {veth: {}}":    "line 2: a field's name must be a plain word",
		"<<: [{veth: {}}, {wire: {}}]": "line 1: a field's name must be a plain word",
	} {
		onlyInText(t, text, message)
	}
	onlyMistake(t, "{veth: {}, '<<': {device: a}}", "<<", "<<: is an unknown field")
}

func TestTheNameOfAFieldIsAPlainWord(t *testing.T) {
	for _, text := range []string{"? [veth]\n: {}", "? {veth: }\n: {}", "{[a]: 1}", "veth: {{a: b}: 1}"} {
		onlyInText(t, text, "line 1: a field's name must be a plain word")
	}
}

func TestAFieldGivenTwiceIsRefused(t *testing.T) {
	for text, message := range map[string]string{
		"{veth: {}, veth: {}}":                      `line 1: the field "veth" is given twice`,
		`{"veth":{},"veth":{}}`:                     `line 1: the field "veth" is given twice`,
		"device: a\nveth:\n'device': b":             `line 3: the field "device" is given twice`,
		"- veth:\n- vxlan:\n    vni: 1\n    vni: 2": `line 4: the field "vni" is given twice`,
		"{1: a, '1': b}":                            `line 1: the field "1" is given twice`,
		`{"a\nb": 1, "a\nb": 2}`:                    `line 1: the field "a\nb" is given twice`,
		"? " + strings.Repeat("z", 500) + "\n? " + strings.Repeat("z", 500): `line 2: the field "` + strings.Repeat("z", 48) + `…" is given twice`,
	} {
		onlyInText(t, text, message)
	}
}

func TestWhatIsNoTapIsShown(t *testing.T) {
	for text, shown := range map[string]string{
		"5":              "tap 1: 5 ",
		"true":           "tap 1: true ",
		"mirror":         `tap 1: "mirror" `,
		`""`:             `tap 1: "" `,
		"[null]":         "tap 1: nothing ",
		"[[veth: {}]]":   "tap 1: a list of 1 ",
		"[veth: {}, 5]":  "tap 2: 5 ",
		"- veth\n- veth": `tap 1: "veth" `,
	} {
		errs := mistakes(t, text)
		if want := shown + "is not a tap; a tap is an object such as {veth: {}}"; !strings.HasPrefix(errs.Error(), want) {
			t.Errorf("message for %q is %q, want %q", text, errs, want)
		}
	}
}

func TestSixteenTapsAreTheMost(t *testing.T) {
	if n := len(parse(t, strings.Repeat("- veth:\n", 16))); n != 16 {
		t.Errorf("%d taps of 16", n)
	}
	errs := mistakes(t, strings.Repeat("- veth:\n", 17))
	if errs.Error() != "17 taps are too many; a pod may have at most 16" {
		t.Errorf("message is %q", errs)
	}
}

func TestTextOverTheLimitIsNotRead(t *testing.T) {
	fits := "veth: #" + strings.Repeat("x", MaxBytes-7)
	if n := len(parse(t, fits)); n != 1 {
		t.Errorf("%d taps of a text with %d bytes, want 1", n, len(fits))
	}
	for _, size := range []int{64<<10 + 1, 1 << 20} {
		errs := mistakes(t, fits+strings.Repeat("x", size-len(fits)))
		if want := fmt.Sprintf("the text has %d bytes; at most 65536 are read", size); errs.Error() != want {
			t.Errorf("message is %q, want %q", errs, want)
		}
	}
}

func TestTextMadeToHurtIsRefused(t *testing.T) {
	long := strings.Repeat("z", 60000)
	wide := "{"
	for i := 0; len(wide) < 60000; i++ {
		wide += fmt.Sprintf("k%x: ,", i)
	}
	for what, text := range map[string]string{
		"nested lists":      strings.Repeat("[", 60000),
		"closed lists":      strings.Repeat("[", 30000) + strings.Repeat("]", 30000),
		"nested objects":    strings.Repeat("{a: ", 15000),
		"nested sequences":  strings.Repeat("- ", 30000),
		"alias bomb":        aliasBomb(),
		"many fields":       wide + "}",
		"many bad items":    "wire: {addresses: [" + strings.Repeat("x,", 25000) + "]}",
		"long device":       "{veth: {}, device: " + long + "}",
		"long interface":    "{veth: {}, interface: " + long + "}",
		"long direction":    "{veth: {}, direction: " + long + "}",
		"long remote":       "vxlan: {vni: 1, remote: " + long + "}",
		"long number":       "vxlan: {remote: 1.1.1.1, vni: " + strings.Repeat("9", 60000) + "}",
		"long field":        "veth:\n? " + long + "\n: 1\n",
		"long anchor":       "veth: *" + long,
		"wide runes":        "{veth: {}, device: \"" + strings.Repeat("\U0010fffd", 15000) + "\"}",
		"wide runes, field": "veth: {}\n? " + strings.Repeat("日", 20000) + "\n: 1\n",
		"16 times wrong":    strings.Repeat("- {device: a a, interface: b b, direction: up, vxlan: {vni: 0}}\n", 16),
		"lists as fields":   "{veth: {}, device: [" + strings.Repeat("x,", 25000) + "]}",
	} {
		t.Run(what, func(t *testing.T) { mistakes(t, text) })
	}
}

// On these two the YAML library's own decoding takes from a second to some: it takes
// the object apart anew for each alias of it, and compares each key with each.
func TestTextMadeToTakeLongIsAnswered(t *testing.T) {
	var aliases, keys strings.Builder
	aliases.WriteString("m: &m {")
	for i := 0; aliases.Len() < 58000; i++ {
		fmt.Fprintf(&aliases, "k%x: ,", i)
	}
	aliases.WriteString("}\n")
	for i := range 40 {
		fmt.Fprintf(&aliases, "a%d: *m\n", i)
	}
	keys.WriteString("{")
	for i := range 14500 {
		fmt.Fprintf(&keys, "%s,", strconv.FormatInt(int64(10*36*36+i), 36)) // from a00
	}
	keys.WriteString("}")
	for text, want := range map[string][2]string{
		aliases.String(): {"line 1: anchors and aliases are not read; write the values out", ""},
		keys.String():    {"tap 1: has none; it must have exactly one of veth, vxlan, wire; tap 1: a00: is an unknown field", " more mistakes"},
	} {
		if len(text) > MaxBytes {
			t.Fatalf("the text has %d bytes and is not read at all", len(text))
		}
		done := make(chan error, 1)
		go func() {
			_, err := Parse([]byte(text))
			done <- err
		}()
		select {
		case err := <-done:
			if err == nil || !strings.HasPrefix(err.Error(), want[0]) || !strings.HasSuffix(err.Error(), want[1]) {
				t.Errorf("%.20s…: error is %v, want %s…%s", text, err, want[0], want[1])
			} else {
				checkMessage(t, err)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("%.20s…: no answer", text)
		}
	}
}

// aliasBomb is a text whose aliases stand for 9^10 strings.
func aliasBomb() string {
	var b strings.Builder
	b.WriteString("a: &a [x,x,x,x,x,x,x,x,x]\n")
	for c := 'b'; c <= 'j'; c++ {
		fmt.Fprintf(&b, "%c: &%c [%s]\n", c, c, strings.Repeat(fmt.Sprintf("*%c,", c-1), 9))
	}
	return b.String()
}

func TestALongValueIsCutInTheMessage(t *testing.T) {
	errs := mistakes(t, "{veth: {}, device: "+strings.Repeat("z", 500)+"}")
	want := `"` + strings.Repeat("z", 48) + `…" is not allowed`
	if !strings.Contains(errs.Error(), want) || len(errs.Error()) > 400 {
		t.Errorf("message is %q, want it short and with %s", errs, want)
	}
}

func TestSeveralMistakesAreReportedTogether(t *testing.T) {
	errs := mistakes(t, `
- {device: lo, interface: a/b, direction: up, veth: {hostInterface: a b, x: 1}, filter: tcp port x, bpf: 1, sampleRate: 0, snapLength: 1, maxBitrate: 1}
- {device: ok, vxlan: {vni: 0, port: 0, ttl: 0, placement: x, oversize: y, remote: 127.0.0.1}}
- {veth: {}}
- {wire: {mtu: 1, addresses: [x], hostAddresses: [y]}, maxBitrate: 1G, snapLength: 96, sampleRate: 2, filter: tcp, direction: both}
- {snapLength: 96, vxlan: {vni: 1, remote: 198.18.0.9, placement: pod, oversize: fit}}
`)
	var got []string
	for _, e := range errs {
		got = append(got, fmt.Sprintf("%d %s %s", e.Tap, e.Device, e.Field))
	}
	equal(t, "mistakes", got, []string{
		"1 lo device", "1 lo interface", "1 lo direction", "1 lo filter", "1 lo sampleRate", "1 lo snapLength", "1 lo maxBitrate", "1 lo veth.hostInterface", "1 lo veth.x", "1 lo bpf",
		"2 ok vxlan.vni", "2 ok vxlan.port", "2 ok vxlan.ttl", "2 ok vxlan.placement", "2 ok vxlan.remote", "2 ok vxlan.oversize",
		"4  wire.addresses[0]", "4  wire.hostAddresses[0]", "4  wire.mtu", "4  direction", "4  filter", "4  sampleRate", "4  snapLength", "4  maxBitrate",
		"5  vxlan.oversize", "5  snapLength",
	})
}

func TestMistakesThatDoNotFitAreCounted(t *testing.T) {
	one := "{wire: {addresses: [" + strings.Repeat("x,", 16) + "], hostAddresses: [" + strings.Repeat("x,", 16) + "]}},"
	errs := mistakes(t, "["+strings.Repeat(one, 16)+"]")
	shown := strings.Count(errs.Error(), "ddresses[")
	if shown < 5 || !strings.HasSuffix(errs.Error(), fmt.Sprintf("; and %d more mistakes", 16*32-shown)) {
		t.Errorf("message shows %d mistakes of %d and ends in …%s", shown, len(errs), errs.Error()[len(errs.Error())-40:])
	}
}

func TestTheFirstMistakeIsShownInAnyCase(t *testing.T) {
	for _, c := range []struct {
		what     string
		mistakes Errors
		begin    string
		end      string
	}{
		{"alone and long", Errors{{Tap: 1, Problem: strings.Repeat("x", 5000)}}, "tap 1: xxx", "xxx…"},
		{"long with others", Errors{{Tap: 1, Problem: strings.Repeat("日", 5000)}, {Problem: "b"}, {Problem: "c"}}, "tap 1: 日日", "日…; and 2 more mistakes"},
		{"long behind a short one", Errors{{Problem: "a"}, {Problem: strings.Repeat("x", 5000)}, {Problem: "c"}}, "a", "a; and 2 more mistakes"},
		{"the most that fits", Errors{{Problem: strings.Repeat("x", maxMessage)}, {Problem: "b"}}, "xxx", "xxx; and 1 more mistakes"},
		{"one byte more", Errors{{Problem: strings.Repeat("x", maxMessage+1)}}, "xxx", "xxx…"},
		{"short ones", Errors{{Problem: "a"}, {Tap: 2, Device: "d", Field: "f", Problem: "b"}}, "a", `a; tap 2 ("d"): f: b`},
	} {
		checkMessage(t, c.mistakes)
		if text := c.mistakes.Error(); !strings.HasPrefix(text, c.begin) || !strings.HasSuffix(text, c.end) {
			t.Errorf("%s: message is %.40q…%q, want %q…%q", c.what, text, text[max(0, len(text)-40):], c.begin, c.end)
		}
	}
	// As an author can write it: all that is shown of a tap is made of long escapes.
	odd := strings.Repeat("\U0010fffd", 60)
	errs := mistakes(t, fmt.Sprintf("{device: %q, interface: %[1]q, direction: %[1]q, vxlan: {vni: 1, remote: %[1]q}}", odd))
	if !strings.HasPrefix(errs.Error(), `tap 1 ("\U0010fffd`) || !strings.Contains(errs.Error(), " device: ") {
		t.Errorf("message lacks its first mistake: %.200q", errs)
	}
}

func TestATagHidesNothing(t *testing.T) {
	for text, says := range map[string]string{
		`veth: !!null hello`: "hello is not allowed; it must be an object",
		`&a veth: {}`:        "line 1: anchors and aliases are not read",
	} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v; want %q", text, err, says)
		}
	}
	for _, text := range []string{"veth:", "veth: ~", "veth: null", "veth: Null", "veth: NULL"} {
		if taps, err := Parse([]byte(text)); err != nil || len(taps) != 1 {
			t.Errorf("%s: %v, %v", text, taps, err)
		}
	}
}
