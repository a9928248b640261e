package pcapfilter

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Error is a mistake in an expression.
type Error struct {
	Expression string
	Offset     int    // of the mistake, in bytes
	Length     int    // of what is wrong, in bytes; 0 at the end of the expression
	Problem    string // what is wrong, and what would be right
}

// excerpt bounds how much of the expression a message shows around the mistake, in
// characters on each side, and of what is wrong itself.
const excerpt = 30

// Error is one line, with the mistake between marks: »like this«.
func (e *Error) Error() string {
	before, wrong, after := e.parts()
	return fmt.Sprintf("at character %d: %s: %s»%s«%s", e.Character(), e.Problem, before, wrong, after)
}

// Caret is the expression on one line, and carets under the mistake on the next.
func (e *Error) Caret() string {
	before, wrong, after := e.parts()
	return before + wrong + after + "\n" +
		strings.Repeat(" ", utf8.RuneCountInString(before)) + strings.Repeat("^", max(1, utf8.RuneCountInString(wrong)))
}

// Character is the place of the mistake in characters, from 1.
func (e *Error) Character() int { return utf8.RuneCountInString(e.Expression[:e.Offset]) + 1 }

// parts are what comes before the mistake, the mistake, and what comes after, as far as
// they are shown: characters that do not print are replaced, what is long is cut.
func (e *Error) parts() (before, wrong, after string) {
	end := e.Offset + e.Length
	left, middle, right := printable(e.Expression[:e.Offset]), printable(e.Expression[e.Offset:end]), printable(e.Expression[end:])
	if len(left) > excerpt {
		left = append([]rune{'…'}, left[len(left)-excerpt:]...)
	}
	if len(middle) > excerpt {
		middle = append(middle[:excerpt:excerpt], '…')
	}
	if len(right) > excerpt {
		right = append(right[:excerpt:excerpt], '…')
	}
	return string(left), string(middle), string(right)
}

// printable replaces what a terminal, or a log, would not show as one character.
func printable(text string) []rune {
	out := []rune(text)
	for i, r := range out {
		switch {
		case unicode.IsSpace(r):
			out[i] = ' '
		case !unicode.IsPrint(r) || unicode.In(r, unicode.Mn, unicode.Me):
			out[i] = unicode.ReplacementChar
		}
	}
	return out
}
