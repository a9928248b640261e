package pcapfilter

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// The page of the language is true: what it shows compiles, and what it says is refused is.
func TestThePageOfTheLanguageIsTrue(t *testing.T) {
	text, err := os.ReadFile("../../docs/filters.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	_, examples, _ := strings.Cut(page, "## Examples\n\n```text\n")
	examples, _, _ = strings.Cut(examples, "```")
	shown := 0
	for line := range strings.Lines(examples) {
		expression, _, _ := strings.Cut(line, "   ")
		shown++
		if _, err := Compile(strings.TrimSpace(expression), Kernel); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	_, refused, _ := strings.Cut(page, "Refused, with the place and the reason:")
	refused, _, _ = strings.Cut(refused, "Otherwise:")
	for _, row := range regexp.MustCompile("(?m)^\\| (`.*`) \\|").FindAllStringSubmatch(refused, -1) {
		for _, word := range strings.Split(strings.ReplaceAll(row[1], "`", ""), ", ") {
			shown++
			word = strings.Replace(word, "byte N", "byte 0 = 1", 1)
			for _, expression := range []string{word, word + " 1"} {
				if _, err := Compile(expression, Kernel); err == nil {
					t.Errorf("%q is not refused", expression)
				}
			}
		}
	}
	if n := fmt.Sprintf("\n%d expressions and %d made at random", len(expressions(t, "")), randomCount); !strings.Contains(page, n) {
		t.Errorf("the page does not say%s", n)
	}
	if shown < 20 {
		t.Errorf("only %d expressions of the page were tried", shown)
	}
	_, words, _ := strings.Cut(page, "Words that stand for numbers:")
	words, _, _ = strings.Cut(words, "## VLAN tags")
	for _, word := range regexp.MustCompile(`\b(tcp|icmp6?)-[a-z0-9]+|tcpflags|icmp6?(type|code)\b`).FindAllString(words, -1) {
		if _, ok := namedConstant(word); !ok {
			t.Errorf("%s is no constant", word)
		}
	}
}
