package cniconf

import (
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/podtap/podtap/pkg/tap"
)

func TestNetworkTapsAreReadOutOfJSON(t *testing.T) {
	for stdin, n := range map[string]int{
		`{}`:                   0,
		`{"taps":null}`:        0,
		`{"taps":[]}`:          0,
		`{"taps":{"veth":{}}}`: 1,
		`{"taps":[{"veth":null},{"wire":{"mtu":1400}}]}`:                                     2,
		`{"taps":[{"vxlan":{"vni":16777215,"remote":"198.18.0.9","port":65535,"ttl":255}}]}`: 1,
	} {
		if taps, err := parsed(t, stdin).NetworkTaps(); err != nil || len(taps) != n {
			t.Errorf("%s: %d taps, error %v, want %d", stdin, len(taps), err, n)
		}
	}
}

func TestABadTapOfTheNetworkIsCode7(t *testing.T) {
	for taps, message := range map[string]string{
		`5`:                                     "tap 1: 5 is not a tap",
		`"veth:"`:                               `tap 1: "veth:" is not a tap`,
		`[{"veth":{},"sink":"tcp"}]`:            "tap 1: sink: is an unknown field",
		`[{"veth":{},"filter":"tcp port htp"}]`: "tap 1: filter: at character 10: no well-known service has this name; write the port's number: tcp port »htp«",
		`[{"veth":{}},{"device":"a b","veth":{}}]`:                     `tap 2 ("a b"): device: "a b" is not allowed`,
		`{"vxlan":{"vni":0,"remote":"198.18.0.9"}}`:                    "vxlan.vni: 0 is not allowed; it must be a whole number from 1 to 16777215",
		`{"vxlan":{"vni":16777216,"remote":"198.18.0.9"}}`:             "vxlan.vni: 16777216 is not allowed",
		`{"vxlan":{"vni":1.5,"remote":"198.18.0.9"}}`:                  "vxlan.vni: 1.5 is not allowed",
		`{"vxlan":{"vni":1e99,"remote":"198.18.0.9"}}`:                 "vxlan.vni: 1e99 is not allowed",
		`{"vxlan":{"vni":1e2,"remote":"198.18.0.9"}}`:                  "vxlan.vni: 1e2 is not allowed",
		`{"vxlan":{"vni":100.0,"remote":"198.18.0.9"}}`:                "vxlan.vni: 100.0 is not allowed",
		`{"wire":{"addresses":["198.18.0.2/24","198.18.0.2/30"]}}`:     `wire.addresses[1]: "198.18.0.2/30" is not allowed; it must be given once`,
		"{\"veth\":{},\"interface\":\"eth0\\u0000\"}":                  `interface: "eth0\x00" is not allowed`,
		`{"vxlan":{"vni":"1","remote":"198.18.0.9"}}`:                  `vxlan.vni: "1" is not allowed`,
		`{"vxlan":{"vni":18446744073709551617,"remote":"198.18.0.9"}}`: "vxlan.vni: 18446744073709551617 is not allowed",
		`[` + strings.Repeat(`{"veth":{}},`, 16) + `{"veth":{}}]`:      "17 taps are too many; a pod may have at most 16",
	} {
		got, err := parsed(t, `{"taps":`+taps+`}`).NetworkTaps()
		fails(t, taps, err, 7, "taps of the network configuration: ", message)
		if got != nil {
			t.Errorf("%s: taps beside the error: %+v", taps, got)
		}
	}
}

func TestTheTapOfAnAttachmentIsItsInterface(t *testing.T) {
	for stdin, iface := range map[string]string{
		`{"taps":{"veth":{}}}`:                      "eth0",
		`{"taps":[{"veth":{}}]}`:                    "eth0",
		`{"taps":[{"device":"net1","veth":{}}]}`:    "eth0",
		`{"taps":[{"interface":"eth1","veth":{}}]}`: "eth1",
		`{"taps":[{"veth":{}}],"args":{"cni":{}}}`:  "eth0",
	} {
		got, changed, err := parsed(t, stdin).AttachmentTap("net1")
		if err != nil || changed || got.Device != "net1" || got.Interface != iface || got.Sink() != tap.SinkVeth {
			t.Errorf("%s: %+v, changed %v, error %v", stdin, got, changed, err)
		}
	}
}

func TestAnAttachmentHasExactlyOneTapWithItsOwnDevice(t *testing.T) {
	for stdin, message := range map[string]string{
		`{}`:                                     "0 taps; a network whose only plugin is podtap has exactly one",
		`{"taps":[]}`:                            "0 taps; a network",
		`{"taps":[{"veth":{}},{"veth":{}}]}`:     "2 taps; a network",
		`{"taps":[{"device":"cap0","veth":{}}]}`: `device: "cap0" is not allowed; the device of an attachment is its interface, "net1"`,
		`{"taps":[{"veth":{},"x":1}]}`:           "x: is an unknown field",
		`{"taps":[5]}`:                           "5 is not a tap",
		// Arguments need a tap to be arguments of.
		`{"args":{"cni":{"veth":{}}}}`:                                           "0 taps; a network",
		`{"taps":[{"veth":{}},{"veth":{}}],"args":{"cni":{"direction":"both"}}}`: "2 taps; a network",
	} {
		got, _, err := parsed(t, stdin).AttachmentTap("net1")
		fails(t, stdin, err, 7, "taps of the network configuration: ", message)
		if got != (tap.Tap{}) {
			t.Errorf("%s: a tap beside the error: %+v", stdin, got)
		}
	}
}

func TestArgumentsOfAnAttachmentSetFieldsOfItsTap(t *testing.T) {
	const stdin = `{"taps":[{"direction":"ingress","vxlan":{"vni":100,"remote":"198.18.0.9","ttl":3}}],
		"args":{"cni":{"interface":"eth1","vxlan":{"vni":200,"port":8472}}}}`
	c := parsed(t, stdin)
	got, changed, err := c.AttachmentTap("net1")
	if err != nil {
		t.Fatal(err)
	}
	v := got.VXLAN
	if !changed || got.Interface != "eth1" || got.Direction != tap.Ingress || v.VNI != 200 || v.Port != 8472 || v.TTL != 3 || v.Remote.String() != "198.18.0.9" {
		t.Errorf("changed %v, tap %+v with %+v", changed, got, *v)
	}
	// The administrator's own words are still there unchanged.
	if taps, err := c.NetworkTaps(); err != nil || taps[0].VXLAN.VNI != 100 || taps[0].Interface != "" {
		t.Errorf("taps of the network became %+v, error %v", taps, err)
	}
}

func TestArgumentsThatSayTheSameStillMakeTheTapTheAuthors(t *testing.T) {
	_, changed, err := parsed(t, `{"taps":[{"direction":"both","veth":{}}],"args":{"cni":{"direction":"both"}}}`).AttachmentTap("net1")
	if err != nil || !changed {
		t.Errorf("changed %v, error %v", changed, err)
	}
}

func TestBadArgumentsOfAnAttachmentAreCode104(t *testing.T) {
	for args, message := range map[string]string{
		`{"ips":["198.18.0.2/24"]}`:             "ips: is an unknown field; known are device, interface, direction, filter, sampleRate, snapLength, maxBitrate, veth, vxlan, wire",
		`{"vxlan":{"node":"x"}}`:                "vxlan.node: is an unknown field",
		`{"vxlan":{"vni":0}}`:                   "vxlan.vni: 0 is not allowed",
		`{"vxlan":{"remote":"127.0.0.1"}}`:      `vxlan.remote: "127.0.0.1" is a loopback address`,
		`{"vxlan":null}`:                        "vxlan.vni: is missing",
		`{"vxlan":5}`:                           "vxlan: 5 is not allowed; it must be an object",
		`{"veth":{}}`:                           "has veth and vxlan; it must have exactly one",
		`{"device":"cap0"}`:                     `device: "cap0" is not allowed; the device of an attachment is its interface, "net1"`,
		`{"interface":"a/b","direction":"up"}`:  `interface: "a/b" is not allowed`,
		`{"interface":"eth1","direction":"up"}`: `direction: "up" is not allowed`,
	} {
		_, changed, err := parsed(t, `{"taps":[{"vxlan":{"vni":100,"remote":"198.18.0.9"}}],"args":{"cni":`+args+`}}`).AttachmentTap("net1")
		// Whose words they are is said first: the administrator's alone may be fine.
		fails(t, args, err, 104, message)
		if !strings.HasPrefix(err.Error(), "taps of the network configuration with the attachment's cni-args: ") {
			t.Errorf("%s: message %q does not name the cni-args first", args, err)
		}
		if !changed {
			t.Errorf("%s: not told that the arguments changed the tap", args)
		}
	}
}

func TestAnErrorFitsIntoAnEvent(t *testing.T) {
	short := Error(100, errors.New("one\ntwo"))
	if short.Code != 100 || short.Msg != "one; two" {
		t.Errorf("error is %d %q, want 100 and one line", short.Code, short.Msg)
	}
	// What is not UTF-8, an event cannot hold, however short it is.
	for text, want := range map[string]string{"a\xffb": "ab", "\xc3": "", "a\xe6\x97": "a", "ü\x80\n日\xf0\x9f": "ü; 日"} {
		if got := Error(7, errors.New(text)).Msg; got != want {
			t.Errorf("message of %q is %q, want %q", text, got, want)
		}
	}
	if got := Error(7, errors.New(strings.Repeat("\xffx", 2000))).Msg; got != strings.Repeat("x", 1900)+"…" {
		t.Errorf("message of 2000 letters among what is not UTF-8 has %d bytes: …%q", len(got), got[len(got)-10:])
	}
	// A cut in the middle of a rune of 2, 3 or 4 bytes, at every offset in it.
	for _, r := range []string{"ü", "日", "\U0001f50d"} {
		for pad := range 4 {
			text := strings.Repeat("x", pad) + strings.Repeat(r, 2000)
			got := Error(7, errors.New(text)).Msg
			if len(got) >= 2048 || len(got) < 1800 || !utf8.ValidString(got) || strings.ContainsRune(got, utf8.RuneError) {
				t.Errorf("message of %d bytes is too long, too short or broken: …%q", len(got), got[len(got)-10:])
			}
			if !strings.HasSuffix(got, "…") || !strings.HasPrefix(text, strings.TrimSuffix(got, "…")) {
				t.Errorf("message is not the text's beginning: …%q", got[len(got)-10:])
			}
		}
	}
}
