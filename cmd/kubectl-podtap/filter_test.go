package main

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

func TestAFilterIsShownAsTcpdumpShowsIt(t *testing.T) {
	const decimal = "4\n40 0 0 12\n21 0 1 2048\n6 0 0 262144\n6 0 0 0\n"
	const readable = `(000) ldh      [12]
(001) jeq      #0x800           jt 2	jf 3
(002) ret      #262144
(003) ret      #0
`
	for command, want := range map[string]string{
		"filter -ddd ip":      decimal,
		"filter -d ip":        readable,
		"filter ip":           "The filter is right. Instructions that the kernel runs: at most 6.\n",
		"filter tcp port 443": "The filter is right. Instructions that the kernel runs: at most 22.\n",
	} {
		out, err := run(strings.Fields(command)...)
		if err != nil || out != want {
			t.Errorf("%s: %v\n%s\nwant\n%s", command, err, out, want)
		}
	}
	out, err := run("filter", "--kernel", "-d", "vlan 100")
	if err != nil || !strings.Contains(out, "[vlan_tci]") || !strings.Contains(out, "ret      #4294967295") {
		t.Errorf("the kernel's program: %v\n%s", err, out)
	}
	if _, err := exec.LookPath("tcpdump"); err != nil {
		t.Skipf("the comparison with tcpdump: %v", err)
	}
	for _, e := range []string{"tcp", "host 198.18.0.1 and port 53", "vlan 7 and ip6", "tcp[13] & 2 != 0", "ether[0] & 1 = 0 and ip[16] >= 224"} {
		for _, flag := range []string{"-d", "-ddd"} {
			want, err := exec.Command("tcpdump", "-y", "EN10MB", flag, e).Output()
			if err != nil {
				t.Fatal(err)
			}
			if got, err := run("filter", flag, e); err != nil || strings.TrimSpace(got) != strings.TrimSpace(string(want)) {
				t.Errorf("filter %s %q: %v\n%s\ntcpdump:\n%s", flag, e, err, got, want)
			}
		}
	}
}

func TestAMistakeInAFilterHasACaret(t *testing.T) {
	out, err := run("filter", "tcp", "port", "htp", "or", "udp")
	var code exitCode
	if !errors.As(err, &code) || code != 1 {
		t.Errorf("the exit code is that of %v", err)
	}
	const want = `tcp port htp or udp
         ^^^
no well-known service has this name; write the port's number
`
	if out != want {
		t.Errorf("it says\n%s\nwant\n%s", out, want)
	}
	for command, says := range map[string]string{
		"filter":             "filter takes an expression",
		"filter -dd ip":      "filter knows -d, a readable program, and -ddd",
		"filter -dddd ip":    "filter knows -d",
		"filter --kernel ip": "it goes with -d or -ddd",
		"filter -x ip":       "unknown shorthand flag",
	} {
		if _, err := run(strings.Fields(command)...); err == nil || !strings.Contains(fmt.Sprint(err), says) {
			t.Errorf("%s: %v; want %q", command, err, says)
		}
	}
}
