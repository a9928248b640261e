package pcapfilter

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// token is a word of an expression.
type token struct {
	kind   tokenKind
	text   string // of a name, an address or an operator, without a leading backslash
	number uint32
	offset int // in bytes
	length int
	match  int // of a parenthesis, the index of the other one; -1 for none
}

type tokenKind uint8

const (
	endOfText tokenKind = iota
	keyword             // a word of the language
	number              // in decimal, octal or hexadecimal, or a named constant
	name                // any other word, and one behind a backslash
	ipv4                // two to four numbers with dots
	ipv6
	mac
	operator
)

// operators, the longer ones first.
var operators = []string{"&&", "||", ">=", "<=", "!=", "==", "<<", ">>",
	"+", "-", "*", "/", "%", ":", "[", "]", "!", "<", ">", "(", ")", "&", "|", "^", "="}

// split cuts an expression into tokens, the last of which is endOfText. Where several
// readings are possible, the longest word counts, as in libpcap: 80-90 is one word, and
// len-20 is one that means nothing.
func split(expression string) ([]token, *Error) {
	var tokens []token
	var open []int
	for at := 0; ; {
		for at < len(expression) && strings.IndexByte(" \r\n\t", expression[at]) >= 0 {
			at++
		}
		if at == len(expression) {
			break
		}
		t, problem := next(expression[at:])
		t.offset = at
		if problem != "" {
			return nil, &Error{Expression: expression, Offset: at, Length: t.length, Problem: problem}
		}
		at += t.length
		t.match = -1
		if t.is("(") {
			open = append(open, len(tokens))
		} else if t.is(")") && len(open) > 0 {
			t.match = open[len(open)-1]
			tokens[t.match].match = len(tokens)
			open = open[:len(open)-1]
		}
		tokens = append(tokens, t)
	}
	return append(tokens, token{offset: len(expression), match: -1}), nil
}

func (t token) is(operators ...string) bool {
	for _, o := range operators {
		if t.kind == operator && t.text == o {
			return true
		}
	}
	return false
}

func (t token) isWord(words ...string) bool {
	for _, w := range words {
		if t.kind == keyword && t.text == w {
			return true
		}
	}
	return false
}

// next reads the first token of a text. Where there is none, it says why; the token's
// length is then that of what is wrong.
func next(text string) (t token, problem string) {
	word := text[:wordLength(text)]
	for _, c := range []struct {
		kind   tokenKind
		length int
	}{{ipv6, ipv6Length(text)}, {mac, macLength(text)}, {ipv4, ipv4Length(text)}, {number, numberLength(text)}} {
		if c.length > 0 && c.length >= len(word) && c.length > t.length {
			t = token{kind: c.kind, length: c.length, text: text[:c.length]}
		}
	}
	switch {
	case t.length == 0 && word != "":
		return wordToken(word), ""
	case t.kind == number:
		t.number, problem = parseNumber(t.text)
		return t, problem
	case t.length > 0:
		return t, ""
	}
	if text[0] == '\\' {
		end := strings.IndexAny(text[1:], " !()\n\t")
		if end < 0 {
			end = len(text) - 1
		}
		if end > 0 {
			return token{kind: name, text: text[1 : 1+end], length: 1 + end}, ""
		}
	}
	for _, o := range operators {
		if strings.HasPrefix(text, o) {
			length := len(o)
			if o == "==" {
				o = "="
			}
			return token{kind: operator, text: o, length: length}, ""
		}
	}
	r, size := utf8.DecodeRuneInString(text)
	return token{length: size}, fmt.Sprintf("the character %q is no part of the language", r)
}

// wordToken tells words of the language from others.
func wordToken(word string) token {
	if value, ok := namedConstant(word); ok {
		return token{kind: number, text: word, number: value, length: len(word)}
	}
	if canonical, ok := keywordOf(word); ok {
		return token{kind: keyword, text: canonical, length: len(word)}
	}
	return token{kind: name, text: word, length: len(word)}
}

// wordLength is the length of the word that a text begins with: letters and digits, with
// -, _ and . between, of which only . may be the last.
func wordLength(text string) int {
	length := 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case isDigit(c) || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '.' && i > 0:
			length = i + 1
		case (c == '-' || c == '_') && i > 0:
		default:
			return length
		}
	}
	return length
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isHex(c byte) bool { return isDigit(c) || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' }

// numberLength is the length of the number that a text begins with.
func numberLength(text string) int {
	digits := run(text, isDigit)
	if digits == 1 && text[0] == '0' && len(text) > 1 && (text[1] == 'x' || text[1] == 'X') {
		if hex := run(text[2:], isHex); hex > 0 {
			return 2 + hex
		}
	}
	return digits
}

// run is how many bytes a text begins with that are of a kind.
func run(text string, of func(byte) bool) int {
	for i := range len(text) {
		if !of(text[i]) {
			return i
		}
	}
	return len(text)
}

// parseNumber reads a number as C does: 0x for hexadecimal, 0 for octal.
func parseNumber(text string) (value uint32, problem string) {
	n, err := strconv.ParseUint(text, 0, 32)
	switch {
	case err == nil:
		return uint32(n), ""
	case len(text) > 1 && text[0] == '0' && strings.ContainsAny(text, "89") && !strings.ContainsAny(text, "xX"):
		return 0, "a number that begins with 0 is octal, and has no 8 or 9"
	}
	return 0, "the number is larger than 4294967295, the largest of 32 bits"
}
