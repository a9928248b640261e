package pcapfilter

import (
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/net/bpf"
)

func TestAProgramReadsAsTcpdumpPrintsIt(t *testing.T) {
	if _, err := exec.LookPath("tcpdump"); err != nil {
		t.Skipf("no tcpdump is installed: %v", err)
	}
	same := 0
	for _, e := range expressions(t, "") {
		program, err := libpcap(t, e)
		if err != nil {
			t.Fatal(err)
		}
		readable, err := exec.Command("tcpdump", "-y", "EN10MB", "-d", "--", e).Output()
		if err != nil {
			t.Fatal(err)
		}
		decimal, err := exec.Command("tcpdump", "-y", "EN10MB", "-ddd", "--", e).Output()
		if err != nil {
			t.Fatal(err)
		}
		if got := Readable(program); plain(got) != plain(string(readable)) {
			t.Errorf("%q:\n%s\ntcpdump:\n%s", e, got, readable)
		}
		if got := Decimal(program); got != string(decimal) {
			t.Errorf("%q:\n%s\ntcpdump:\n%s", e, got, decimal)
		}
		if ours, err := Compile(e, File); err == nil && Decimal(ours) == string(decimal) {
			same++
		}
	}
	t.Logf("%d of %d programs are libpcap's to the letter", same, len(expressions(t, "")))
}

// plain is a listing without white space at the lines' ends.
func plain(listing string) string {
	lines := strings.Split(strings.TrimSpace(listing), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " \t")
	}
	return strings.Join(lines, "\n")
}

func TestWhatOnlyLinuxHasIsReadableToo(t *testing.T) {
	program, err := Compile("vlan 100", Kernel)
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"ld       [vlanp]", "ld       [vlan_tci]", "ldh      [14]"} {
		if !strings.Contains(Readable(program), word) {
			t.Errorf("no %s in\n%s", word, Readable(program))
		}
	}
	if got := Readable([]bpf.RawInstruction{{Op: 0x05, K: 3}, {Op: 0xffff}}); !strings.Contains(got, "ja       4") {
		t.Errorf("unknown instructions: %q", got)
	}
}
