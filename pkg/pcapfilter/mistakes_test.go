package pcapfilter

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
)

// mistakes are expressions with carets under what is wrong, and a word of the reason.
var mistakes = []struct{ expression, carets, reason string }{
	{"tcp port htp", "         ^^^", "no well-known service"},
	{"tcp port 65536", "         ^^^^^", "largest port is 65535"},
	{"tcp port 80 or 70000", "               ^^^^^", "largest port"},
	{"udp port http", "         ^^^^", "does not use udp"},
	{"ip port 80", "^^", "ports go with tcp, udp and sctp only"},
	{"port 10.0.0.1", "     ^^^^^^^^", "not an address"},
	{"portrange a-b", "          ^^^", "not a range"},
	{"portrange 1-70000", "          ^^^^^^^", "not a range"},
	{"host example.com", "     ^^^^^^^^^^^", "names are not looked up"},
	{"host 256.1.1.1", "     ^^^^^^^^^", "at most 255"},
	{"host 10.0.0.0/8", "              ^", "only a net has a mask"},
	{"ip6 host 10.0.0.1", "         ^^^^^^^^", "IPv4 address"},
	{"ip host fd00::1", "        ^^^^^^^", "IPv6 address"},
	{"tcp host 10.0.0.1", "         ^^^^^^^^", "addresses go with"},
	{"net 10.0.0.1/8", "    ^^^^^^^^", "begins at 10.0.0.0"},
	{"net 10.0.0.0/33", "             ^^", "at most 32"},
	{"net 10/8", "    ^^", "10.0/8"},
	{"net fd00::1/64", "    ^^^^^^^", "begins at fd00::"},
	{"net fd00::/129", "           ^^^", "at most 128"},
	{"net localnet", "    ^^^^^^^^", "names are not looked up"},
	{"ether host 10.0.0.1", "           ^^^^^^^^", "six bytes"},
	{"host 02:00:00:00:00:01", "     ^^^^^^^^^^^^^^^^^", "ether host only"},
	{"ether host gw", "           ^^", "names are not looked up"},
	{"ip broadcast", "   ^^^^^^^^^", "network's mask"},
	{"tcp multicast", "    ^^^^^^^^^", "ether, ip and ip6 only"},
	{"ip protochain 6", "   ^^^^^^^^^^", "needs a loop"},
	{"gateway 10.0.0.1", "^^^^^^^", "names of hosts"},
	{"inbound", "^^^^^^^", "field direction"},
	{"tcp and outbound", "        ^^^^^^^^", "field direction"},
	{"geneve", "^^^^^^", "udp port 6081"},
	{"type mgt", "^^^^", "wireless"},
	{"vpi 3", "^^^", "ATM"},
	{"ip proto tcp", "         ^^^", `write \tcp`},
	{`ip proto \foo`, `         ^^^^`, "no well-known protocol"},
	{`ether proto \foo`, `            ^^^^`, "no Ethernet protocol"},
	{"tcp proto 6", "          ^", "carries no numbered protocol"},
	{"src proto 6", "    ^^^^^", "do not go with proto"},
	{"vlan 4096", "     ^^^^", "4095"},
	{"mpls 1048576", "     ^^^^^^^", "1048575"},
	{"pppoes 65536", "       ^^^^^", "65535"},
	{"mpls and vlan", "         ^^^^", "behind mpls"},
	{"mpls and arp", "         ^^^", "only IPv4 and IPv6"},
	{"pppoes and vlan", "           ^^^^", "behind pppoes"},
	{"llc foo", "    ^^^", "802.2"},
	{"ether", "^^^^^", "alone asks nothing"},
	{"10.0.0.1", "^^^^^^^^", "Write host"},
	{"80", "^^", "Write host"},
	{"tcp or 80", "       ^^", "Write host"},
	{"tcp 80", "    ^^", "and, or, or the end"},
	{"tcp and", "       ^", "the filter ends"},
	{"and tcp", "^^^", "cannot stand here"},
	{"not", "   ^", "the filter ends"},
	{"port", "    ^", "the filter ends where a value"},
	{"(tcp", "^", "never closed"},
	{"tcp)", "   ^", "cannot stand here"},
	{"()", " ^", "cannot stand here"},
	{"port (80 or tcp)", "            ^^^", "a value"},
	{"tcp[", "    ^", "the filter ends"},
	{"tcp[0", "     ^", "the filter ends"},
	{"tcp[0:3] = 1", "      ^", "1, 2 or 4"},
	{"tcp[0]", "      ^", "one of ="},
	{"tcp[0] = ", "         ^", "the filter ends"},
	{"ah[0] = 1", "^^", "cannot be asked for"},
	{"ip[0] / 0 = 1", "      ^", "division by zero"},
	{"ip[0] % (2 - 2) = 1", "      ^", "division by zero"},
	{"ip[0] << 32 = 1", "      ^^", "at most 31"},
	{"len-20 > 5", "^^^^^^", "Write host"},
	{"less foo", "     ^^^", "a number of bytes"},
	{"ip[0] = 08", "        ^^", "octal"},
	{"ip[0] = 4294967296", "        ^^^^^^^^^^", "32 bits"},
	{"tcp ; udp", "    ^", "no part of the language"},
	{"hôst 10.0.0.1", " ^", "no part of the language"},
	{"host 10.0.0.1 € tcp", "              ^", "no part of the language"},
	{"tcp \x00", "    ^", "no part of the language"},
	{"tcp \xff", "    ^", "no part of the language"},
	{"ip and ip6", "^^^^^^^^^^", "no frame can match"},
	{"tcp and not ip and not ip6", "^^^^^^^^^^^^^^^^^^^^^^^^^^", "no frame can match"},
}

func TestMistakesAreToldWithTheirPlace(t *testing.T) {
	for _, c := range mistakes {
		_, err := Compile(c.expression, Kernel)
		mistake := new(Error)
		if !errors.As(err, &mistake) {
			t.Errorf("%q: %v", c.expression, err)
			continue
		}
		lines := strings.Split(mistake.Caret(), "\n")
		if len(lines) != 2 || strings.TrimRight(lines[1], " ") != c.carets {
			t.Errorf("%q: the carets are wrong:\n%s", c.expression, mistake.Caret())
		}
		if !strings.Contains(mistake.Problem, c.reason) {
			t.Errorf("%q: %s, want something with %q", c.expression, mistake.Problem, c.reason)
		}
		if strings.Contains(mistake.Error(), "\n") || !strings.Contains(mistake.Error(), "»") {
			t.Errorf("%q: the message is %q", c.expression, mistake.Error())
		}
	}
}

// What we refuse and libpcap does not is told in docs/filters.md; everything else both
// refuse, or neither.
func TestWhatIsRefusedLibpcapRefusesToo(t *testing.T) {
	if _, err := exec.LookPath("tcpdump"); err != nil {
		t.Skipf("no tcpdump is installed: %v", err)
	}
	documented := map[string]bool{"inbound": true, "tcp and outbound": true, "geneve": true, "ip protochain 6": true,
		// That depends on the machine's own files, name servers and network.
		"host example.com": true, "net localnet": true, "ether host gw": true, "ip broadcast": true}
	for _, c := range mistakes {
		if _, err := libpcap(t, c.expression); err == nil && !documented[c.expression] && !strings.Contains(c.expression, "\x00") {
			t.Errorf("libpcap takes %q", c.expression)
		}
	}
}

func TestALongExpressionIsCutInMessages(t *testing.T) {
	long := strings.Repeat("host 10.0.0.1 or ", 300) + "host nowhere or " + strings.Repeat("é", 40)
	_, err := Compile(strings.ReplaceAll(long, "é", "x"), File)
	mistake := new(Error)
	if !errors.As(err, &mistake) {
		t.Fatal(err)
	}
	if want := "host 10.0.0.1 or host »nowhere« or xxx"; !strings.Contains(mistake.Error(), want) || len(mistake.Error()) > 250 {
		t.Errorf("the message is %q", mistake.Error())
	}
	if mistake.Character() != 300*17+6 {
		t.Errorf("the mistake is at character %d", mistake.Character())
	}
}
