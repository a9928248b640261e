package pcapfilter

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/podtap/podtap/pkg/pcapfilter/internal/reference"
)

func TestTheEmptyExpressionMatchesEverything(t *testing.T) {
	for _, e := range []string{"", " ", "\t\n "} {
		for _, target := range []Target{File, Kernel} {
			if p, err := Compile(e, target); err != nil || len(p) != 1 || p[0].Op != 0x06 || p[0].K == 0 {
				t.Errorf("%q: %v, %v", e, p, err)
			}
		}
	}
}

func hosts(form string, n int) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf(form, i>>8, i&0xff))
	}
	return strings.Join(list, " or ")
}

// Whatever comes, there is a program that the kernel takes, or an error that tells why not.
func TestAnyInputIsSafe(t *testing.T) {
	times := func(n int, text string) string { return strings.Repeat(text, n) }
	inputs := map[string]string{
		"64 KiB of parentheses":          times(65536, "("),
		"parentheses in pairs":           times(32000, "(") + "tcp" + times(32000, ")"),
		"parentheses that close only":    times(65536, ")"),
		"a number in parentheses":        times(150, "(") + "1" + times(150, ")") + " = 1",
		"not":                            times(16000, "not ") + "ip",
		"!":                              times(65000, "!") + "ip",
		"minus":                          times(60000, "-") + "1 = 1",
		"a sum":                          "ip[0]" + times(10000, " + 1") + " = 1",
		"a sum of bytes":                 "tcp[0]" + times(6000, "+ tcp[1]") + " = 1",
		"exclusive or":                   "1" + times(10000, "^1") + " = 1",
		"shifts":                         "ip[0]" + times(5000, " << ip[0]") + " = 1",
		"nested shifts":                  times(60, "1 << (") + "ip[0]" + times(60, ")") + " = 1",
		"nested shifts of the length":    times(150, "1 << (") + "len" + times(150, ")") + " = 1",
		"bytes at computed offsets":      "ether[ether[0]]" + times(3500, " + ether[ether[1]]") + " = 1",
		"and bytes behind them":          "ether[ether[0]] + ether[ether[1]] + ether[ether[2]] + ether[ether[3]] + ether[ether[4]]" + times(5000, " + ether[9]") + " = 1",
		"and bytes before them":          "1" + times(5000, " + ether[9]") + " + ether[ether[0]] + ether[ether[1]] + ether[ether[2]] + ether[ether[3]] + ether[ether[4]] = 1",
		"offsets that may be too large":  "ether[len - 1]" + times(4000, " + ether[len - 2]") + " = 1",
		"nested bytes":                   times(150, "ip[") + "0" + times(150, "]") + " = 1",
		"nested bytes of the frame":      times(150, "ether[") + "0" + times(150, "]") + " = 1",
		"brackets":                       times(20000, "ip["),
		"ports":                          "port 1" + times(9000, " or 2"),
		"other ports":                    "tcp dst port " + hosts("1%d%03d", 6000),
		"many hosts":                     "host " + hosts("10.0.%d.%d", 3000),
		"hosts of IPv6":                  hosts("host fd00::%x:%x", 2500),
		"Ethernet addresses":             "ether host 02:00:00:00:00:01" + times(2900, " or 02:00:00:00:00:02"),
		"tags":                           times(8000, "vlan or ") + "vlan",
		"labels":                         times(8000, "mpls and ") + "mpls",
		"everything at random":           "(" + strings.ReplaceAll(randomText(), "\n", ") or (") + ")",
		"everything at random, and more": "(" + strings.ReplaceAll(randomText(), "\n", ") and not (") + ")",
		"unicode":                        times(20000, "é€𝄞"),
		"combining characters":           "tcp " + times(20000, "\u0301"),
		"no UTF-8":                       times(65536, "\xff"),
		"zeros":                          times(65536, "\x00"),
		"hexadecimal digits":             times(65536, "f"),
		"colons":                         times(65536, ":"),
		"numbers with colons":            times(32000, "1:"),
		"numbers with dots":              times(32000, "1."),
		"a range of names":               "tcp portrange " + times(32000, "a-") + "a",
		"backslashes":                    times(65536, "\\"),
		"one byte too much":              times(MaxLength+1, " "),
		"much too long":                  times(1<<20, "tcp or ") + "tcp",
	}
	for name, input := range inputs {
		for _, target := range []Target{File, Kernel} {
			program, err := Compile(input, target)
			mistake := new(Error)
			switch {
			case err == nil && (len(program) == 0 || len(program) > MaxInstructions):
				t.Errorf("%s: %d instructions", name, len(program))
			case err != nil && !errors.As(err, &mistake):
				t.Errorf("%s: %v", name, err)
			case err != nil && len(err.Error()) > 700:
				t.Errorf("%s: the message has %d bytes", name, len(err.Error()))
			}
		}
	}
}

// randomText is as many expressions, on lines, as fit with something between.
func randomText() string {
	g := newGrammar(3)
	text := "tcp"
	for len(text) < MaxLength*3/4 {
		text += "\n" + g.expression(2)
	}
	return text
}

// Long lists need jumps over more than the 255 instructions that a conditional one can skip.
func TestThousandsOfHostsFitWhereTheKernelTakesThem(t *testing.T) {
	from := func(i int) reference.Packet {
		b := append(ethernet(0, 0x0800), make([]byte, 40)...)
		b[14], b[23], b[26], b[27], b[28], b[29] = 0x45, 6, 10, 0, byte(i>>8), byte(i)
		return reference.Packet{Bytes: b, Length: uint32(len(b)), InLinux: true}
	}
	for _, c := range []struct {
		form string
		most int
	}{{"src host 10.0.%d.%d", 1200}, {"ip src 10.0.%d.%d", 1650}} {
		numbers := []int{10, 100, 300, c.most}
		for n := 240; n < 270; n++ { // where a list begins to need them
			numbers = append(numbers, n)
		}
		for _, n := range numbers {
			program, err := Compile(hosts(c.form, n), Kernel)
			if err != nil || len(program) < n {
				t.Errorf("%d of %q: %d instructions (%v)", n, c.form, len(program), err)
				continue
			}
			for i := range n + 20 {
				if got := reference.Run(program, from(i)).Verdict != 0; got != (i < n) {
					t.Errorf("%d of %q: the verdict on number %d is %t", n, c.form, i, got)
					break
				}
			}
		}
	}
	_, err := Compile(hosts("ip6 dst fd00::%x:%x", 2500), Kernel)
	if mistake := new(Error); !errors.As(err, &mistake) || !strings.Contains(mistake.Problem, "3500 instructions") {
		t.Errorf("2500 hosts: %v", err)
	}
}
