package tap

import (
	"fmt"
	"strings"
	"testing"
)

// badDeviceNames are names that no device may be made under, with the reason.
var badDeviceNames = map[string]string{
	"16 bytes":           strings.Repeat("x", 16),
	"17 bytes, 6 runes":  "日本語日本x1",
	"the loopback":       "lo",
	"sysctls of all":     "all",
	"sysctls of default": "default",
	"this folder":        ".",
	"the folder above":   "..",
	"a path":             "a/b",
	"a line's end":       "a\nb",
	"a tab":              "a\tb",
	"a space":            "a b",
	"a no-break space":   "a\u00a0b",
	"a kernel's pattern": "tap%d",
	"an alias of old":    "eth0:1",
	"a bell":             "a\ab",
	"a delete":           "a\x7fb",
	"a text's direction": "a\u202eb",
	"a zero-width space": "a\u200bb",
	"a zero":             "a\x00b",
}

func TestANameThatNoDeviceCanHaveIsRefused(t *testing.T) {
	for what, name := range badDeviceNames {
		quoted := fmt.Sprintf("%q", name)
		words := []string{quoted + " is not allowed", "a name for a network device: at most 15 bytes"}
		onlyMistake(t, "{veth: {}, device: "+quoted+"}", "device", words...)
		onlyMistake(t, "veth: {hostInterface: "+quoted+"}", "veth.hostInterface", words...)
		onlyMistake(t, "wire: {hostInterface: "+quoted+"}", "wire.hostInterface", words...)
		if ValidDeviceName(name) {
			t.Errorf("ValidDeviceName allows %s: %q", what, name)
		}
	}
	if ValidDeviceName("") {
		t.Error("ValidDeviceName allows the empty name")
	}
}

func TestAValueThatIsNoNameIsRefused(t *testing.T) {
	for value, shown := range map[string]string{`""`: `""`, "": "nothing", "7": "7", "true": "true", "[a, b]": "a list of 2", "{a: 1}": "an object of 1 fields"} {
		onlyMistake(t, "veth:\ndevice: "+value, "device", shown+" is not allowed; it must be a name for a network device")
		onlyMistake(t, "veth:\ninterface: "+value, "interface", shown+" is not allowed; it must be the name of an interface of the pod, such as eth0")
		onlyMistake(t, "veth:\n  hostInterface: "+value, "veth.hostInterface", shown+" is not allowed; it must be a name for a network device")
	}
}

func TestTheNameOfAnInterfaceThatCannotBeIsRefused(t *testing.T) {
	for _, name := range []string{strings.Repeat("x", 16), ".", "..", "a/b", "a:1", "a b", "a\nb",
		// The kernel would end the name at the NUL, and nobody could tell the others from eth0.
		"eth0\x00", "\x00", "a\x00b", "eth0\a", "eth0\x7f", "eth0\x1b", "eth0\u00a0", "eth0\u200b", "\u202eeth0", "eth0\ufeff"} {
		quoted := fmt.Sprintf("%q", name)
		onlyMistake(t, "{veth: {}, interface: "+quoted+"}", "interface", quoted+" is not allowed; it must be the name of an interface of the pod, such as eth0")
	}
	// What is a pattern for a new device is a name like any other of one that exists.
	equal(t, "interface", one(t, "{veth: {}, interface: tap%d}").Interface, "tap%d")
}

func TestAMistakeNamesTheTapAndItsDevice(t *testing.T) {
	errs := mistakes(t, "[{veth: {}}, {device: cap0, veth: {}, direction: up}]")
	const want = `tap 2 ("cap0"): direction: "up" is not allowed; it must be one of ingress, egress, both`
	if errs.Error() != want {
		t.Errorf("message is %s\nwant %s", errs, want)
	}
}

func TestAChoiceIsOneOfItsWords(t *testing.T) {
	for _, value := range []string{"up", "Both", "in"} {
		onlyMistake(t, "{veth: {}, direction: "+value+"}", "direction", `"`+value+`" is not allowed; it must be one of ingress, egress, both`)
	}
	onlyMistake(t, "{veth: {}, direction: [ingress]}", "direction", "a list of 1 is not allowed; it must be one of ingress, egress, both")
	const vxlan = "vxlan: {vni: 1, remote: 198.18.0.9, "
	onlyMistake(t, vxlan+"placement: host}", "vxlan.placement", `"host" is not allowed; it must be one of node, pod`)
	onlyMistake(t, vxlan+"oversize: drop}", "vxlan.oversize", `"drop" is not allowed; it must be one of fit, fragment, refuse`)
	onlyMistake(t, vxlan+"oversize: 1}", "vxlan.oversize", `1 is not allowed; it must be one of fit, fragment, refuse`)
	onlyMistake(t, vxlan+"oversize: ''}", "vxlan.oversize", `"" is not allowed; it must be one of fit, fragment, refuse`)
	onlyMistake(t, vxlan+"placement: pod, oversize: drop}", "vxlan.oversize", `"drop" is not allowed; it must be one of fragment, refuse`)
}

func TestAWireHasNothingThatIsOfCopies(t *testing.T) {
	for _, c := range []struct{ field, value string }{
		{"direction", "ingress"}, {"direction", "egress"}, {"direction", "both"}, {"filter", "tcp"},
		{"sampleRate", "10"}, {"snapLength", "96"}, {"maxBitrate", "100M"},
		// Not even what would change nothing.
		{"sampleRate", "1"}, {"snapLength", "0"},
	} {
		onlyMistake(t, "{wire: {}, "+c.field+": "+c.value+"}", c.field, c.field+": does not go with a wire, which copies nothing")
	}
}

func TestASinkIsAnObject(t *testing.T) {
	for value, shown := range map[string]string{"5": "5", "true": "true", `""`: `""`, "cap0": `"cap0"`, "[]": "a list of 0"} {
		onlyMistake(t, "veth: "+value, "veth", shown+" is not allowed; it must be an object")
		onlyMistake(t, "wire: "+value, "wire", shown+" is not allowed; it must be an object")
		// What an object would need is not missing where there is none.
		onlyMistake(t, "vxlan: "+value, "vxlan", shown+" is not allowed; it must be an object")
	}
}

func TestAWiresAddressesAreUnicastWithAPrefixLength(t *testing.T) {
	const (
		address = "an address with its prefix length, such as 198.18.0.2/24"
		unicast = "a unicast address, not a link-local one, with a prefix length above 0"
	)
	for value, allowed := range map[string]string{
		`198.18.0.2`:            address,
		`2001:db8::2`:           address,
		`198.18.0.2/33`:         address,
		`198.18.0.2/-1`:         address,
		`198.18.0.2/`:           address,
		`web/24`:                address,
		`2001:db8::2%eth0/64`:   address,
		``:                      address,
		`198.18.0.2/0`:          unicast,
		`2001:db8::2/0`:         unicast,
		`::ffff:198.18.0.2/120`: unicast,
		`224.0.0.1/24`:          unicast,
		`127.0.0.1/8`:           unicast,
		`0.0.0.0/8`:             unicast,
		`169.254.0.1/16`:        unicast,
		`fe80::1/64`:            unicast,
		`255.255.255.255/32`:    unicast,
	} {
		for _, list := range []string{"addresses", "hostAddresses"} {
			text := fmt.Sprintf("wire: {%s: [198.18.0.77/24, %q]}", list, value)
			onlyMistake(t, text, "wire."+list+"[1]", fmt.Sprintf("%q is not allowed; it must be %s", value, allowed))
		}
	}
	onlyMistake(t, "wire: {addresses: [24]}", "wire.addresses[0]", "24 is not allowed; it must be "+address)
	for _, list := range []string{"198.18.0.2/24", "", "{}"} {
		onlyMistake(t, "wire:\n  addresses: "+list, "wire.addresses", "is not allowed; it must be a list of addresses with their prefix length")
	}
}

func TestAWiresAddressIsGivenOnce(t *testing.T) {
	onlyMistake(t, "wire: {addresses: [198.18.0.2/24, 198.18.0.2/24]}", "wire.addresses[1]", `"198.18.0.2/24" is not allowed; it must be given once`)
	// Also where it is written with different prefixes, or in other words.
	for first, again := range map[string]string{"198.18.0.2/24": "198.18.0.2/30", "2001:db8::2/64": "2001:0db8:0::2/128"} {
		for _, list := range []string{"addresses", "hostAddresses"} {
			onlyMistake(t, fmt.Sprintf("wire: {%s: [%q, 198.18.0.77/24, %q]}", list, first, again), "wire."+list+"[2]",
				fmt.Sprintf("%q is not allowed; it must be given once", again))
		}
	}
	// And by the two ends.
	onlyMistake(t, "wire: {addresses: [198.18.0.2/24], hostAddresses: [198.18.0.2/30]}", "wire.hostAddresses",
		"198.18.0.2 is the pod's address too; the two ends need different ones")
}

func TestAWiresMTUIsWhatItsAddressesAllow(t *testing.T) {
	for _, mtu := range []string{"0", "67", "65536", "-1500", "1500.5", "auto"} {
		onlyMistake(t, "wire: {mtu: "+mtu+"}", "wire.mtu", "is not allowed; it must be a whole number from 68 to 65535")
	}
	const want = "1279 is not allowed; it must be at least 1280 with an IPv6 address (RFC 8200)"
	onlyMistake(t, `wire: {mtu: 1279, addresses: ["2001:db8::2/64", "2001:db8::3/64"]}`, "wire.mtu", want)
	onlyMistake(t, `wire: {mtu: 1279, hostAddresses: ["2001:db8::2/64"]}`, "wire.mtu", want)
	if mtu := one(t, "wire: {mtu: 1279, addresses: [198.18.0.2/24]}").Wire.MTU; mtu != 1279 {
		t.Errorf("MTU with an IPv4 address is %d, want 1279", mtu)
	}
}
