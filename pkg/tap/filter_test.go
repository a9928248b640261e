package tap

import (
	"fmt"
	"strings"
	"testing"
)

func TestAFilterIsKeptAsItIsWritten(t *testing.T) {
	for text, want := range map[string]string{
		"{veth: {}, filter: tcp port 443}":                                             "tcp port 443",
		"veth:\nfilter: >-\n  host 198.18.0.9 and\n  not port 22":                      "host 198.18.0.9 and not port 22",
		`{"vxlan": {"vni": 1, "remote": "198.18.0.9"}, "filter": " vlan 100 and ip "}`: " vlan 100 and ip ",
		"veth:": "",
	} {
		if taps := parse(t, text); len(taps) != 1 || taps[0].Filter != want {
			t.Errorf("%s: %+v, want the filter %q", text, taps, want)
		}
	}
}

// The message is that of kubectl podtap filter, on one line.
func TestAMistakeInAFilterIsShownInItsPlace(t *testing.T) {
	for filter, says := range map[string]string{
		"tcp port htp":       "at character 10: no well-known service has this name; write the port's number: tcp port »htp«",
		"host gateway.lan":   "at character 6: names are not looked up; write the address: host »gateway.lan«",
		"tcp port 80 and":    "at character 16: the filter ends where a protocol, host, net, port, vlan or another word of the language should follow: tcp port 80 and»«",
		"ip and ip6":         "at character 1: no frame can match this filter: »ip and ip6«",
		"tcp \u202e port 80": "at character 5: the character '\\u202e' is no part of the language: tcp »\ufffd« port 80",
	} {
		onlyMistake(t, fmt.Sprintf("{veth: {}, filter: %q}", filter), "filter", says)
	}
	const allowed = "is not allowed; it must be a pcap-filter(7) expression, such as tcp port 443; left out for all packets"
	onlyMistake(t, "{veth: {}, filter: 80}", "filter", "80 "+allowed)
	onlyMistake(t, "{veth: {}, filter: [tcp]}", "filter", "a list of 1 "+allowed)
	onlyMistake(t, "{veth: {}, filter: ''}", "filter", `"" `+allowed)
	onlyMistake(t, "{veth: {}, filter: '  '}", "filter", `"  " `+allowed)
	long := mistakes(t, "{veth: {}, filter: "+strings.Repeat("tcp or ", 9000)+"tcp}")
	if text := long.Error(); !strings.Contains(text, "3500 instructions") || len(text) > 500 {
		t.Errorf("the message is %q", text)
	}
}
