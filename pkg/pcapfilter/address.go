package pcapfilter

import (
	"net/netip"
	"strconv"
	"strings"
)

// ipv4Length is the length of the IPv4 address, or of its first two or three numbers,
// that a text begins with.
func ipv4Length(text string) int {
	length, numbers := 0, 0
	for numbers < 4 {
		n := numberLength(text[length:])
		if n == 0 {
			break
		}
		if numbers++; numbers == 1 {
			length = n
		} else {
			length += n
		}
		if numbers == 4 || length == len(text) || text[length] != '.' || numberLength(text[length+1:]) == 0 {
			break
		}
		length++
	}
	if numbers < 2 {
		return 0
	}
	return length
}

// parseIPv4 reads one to four numbers as the first bytes of an address, and says how many
// bits they are.
func parseIPv4(text string) (address uint32, bits int, ok bool) {
	for _, part := range strings.Split(text, ".") {
		n, err := strconv.ParseUint(part, 10, 8)
		if err != nil || bits == 32 {
			return 0, 0, false
		}
		address = address<<8 | uint32(n)
		bits += 8
	}
	return address << (32 - bits), bits, true
}

// maxIPv6 is the length of the longest IPv6 address in text.
const maxIPv6 = len("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255")

// ipv6Length is the length of the longest IPv6 address that a text begins with.
func ipv6Length(text string) int {
	text = text[:min(len(text), maxIPv6)]
	length := run(text, func(c byte) bool { return isHex(c) || c == ':' || c == '.' })
	if strings.Count(text[:length], ":") < 2 {
		return 0
	}
	for ; length >= 2; length-- {
		if a, err := netip.ParseAddr(text[:length]); err == nil && a.Is6() {
			return length
		}
	}
	return 0
}

// macLength is the length of the Ethernet address that a text begins with: six bytes with
// :, - or . between them, three pairs of bytes with dots, or twelve digits in a row.
func macLength(text string) int {
	longest := 0
	for _, form := range []struct {
		separator   string
		groups      int
		least, most int // digits of a group
	}{{":", 6, 1, 2}, {"-", 6, 1, 2}, {".", 6, 1, 2}, {".", 3, 4, 4}, {"", 3, 4, 4}} {
		at := 0
		for group := range form.groups {
			if group > 0 {
				if !strings.HasPrefix(text[at:], form.separator) {
					at = 0
					break
				}
				at += len(form.separator)
			}
			digits := run(text[at:min(len(text), at+form.most)], isHex)
			if digits < form.least {
				at = 0
				break
			}
			at += digits
		}
		longest = max(longest, at)
	}
	return longest
}

// parseMAC reads an Ethernet address in any of the forms that macLength knows.
func parseMAC(text string) (address [6]byte) {
	i := 0
	for at := 0; at < len(text) && i < len(address); i++ {
		if !isHex(text[at]) {
			at++
		}
		digits := run(text[at:min(len(text), at+2)], isHex)
		n, _ := strconv.ParseUint(text[at:at+digits], 16, 8) // up to two digits, all of them hexadecimal
		address[i] = byte(n)
		at += digits
	}
	return address
}
