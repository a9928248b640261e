package pcapfilter

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// grammar makes expressions at random, of everything that the language has.
type grammar struct{ *rand.Rand }

func newGrammar(seed uint64) grammar { return grammar{rand.New(rand.NewPCG(seed, 0x706f64746170))} }

func (g grammar) one(of ...string) string { return of[g.IntN(len(of))] }

// expression is one of a depth: terms with and, or and not, some in parentheses.
func (g grammar) expression(depth int) string {
	parts := []string{g.operand(depth)}
	for range g.IntN(4 - min(depth, 3) + 1) {
		parts = append(parts, g.one("and", "or", "or", "&&", "||"), g.operand(depth))
	}
	return strings.Join(parts, " ")
}

func (g grammar) operand(depth int) string {
	not := g.one("", "", "", "not ", "!", "not not ")
	if depth < 3 && g.IntN(5) == 0 {
		return not + "(" + g.expression(depth+1) + ")"
	}
	return not + g.term(depth)
}

func (g grammar) term(depth int) string {
	switch g.IntN(20) {
	case 0, 1, 2:
		return g.ports()
	case 3, 4, 5:
		return g.hosts()
	case 6, 7:
		return g.one("tcp", "udp", "ip", "ip6", "icmp", "icmp6", "arp", "sctp", "igmp", "esp", "ah", "rarp", "pim", "vrrp", "igrp", "carp")
	case 8:
		return g.one("atalk", "aarp", "decnet", "lat", "sca", "moprc", "mopdl", "iso", "esis", "isis", "clnp", "stp", "ipx", "netbeui",
			"l1", "l2", "iih", "lsp", "snp", "csnp", "psnp", "llc", "llc i", "llc s", "llc u", "llc rnr", "llc xid", "llc ui", "pppoed")
	case 9:
		return g.one("ether broadcast", "broadcast", "multicast", "ether multicast", "ip multicast", "ip6 multicast")
	case 10:
		return fmt.Sprintf("%s %d", g.one("less", "greater"), g.one2(60, 64, 100, 1500, 20))
	case 11:
		return fmt.Sprintf("%s proto %s", g.one("ip", "ip6", "ether", "", "iso", "isis"), g.one("1", "6", "17", "58", "0x800", "2054", "0x86dd", "131", "15", "66", "254"))
	case 12:
		return g.one(`ip proto \tcp`, `ip6 proto \udp`, `proto \icmp`, `ether proto \arp`, `ether proto \ip6`, `ether proto \stp`, `ip proto ospf`, `proto gre`)
	case 13:
		if g.IntN(3) == 0 {
			return g.encapsulation()
		}
		return g.ports()
	}
	return g.relation()
}

func (g grammar) one2(of ...int) int { return of[g.IntN(len(of))] }

func (g grammar) encapsulation() string {
	return g.one("vlan", "vlan 100", "vlan 1", "mpls", "mpls 100", "mpls 16", "pppoes", "pppoes 1", "vlan 200")
}

func (g grammar) direction() string {
	return g.one("", "", "src ", "dst ", "src or dst ", "src and dst ", "dst or src ", "dst and src ")
}

func (g grammar) port() string { return fmt.Sprint(portNumbers[g.IntN(len(portNumbers))]) }

func (g grammar) ports() string {
	head := g.one("", "", "tcp ", "udp ", "sctp ") + g.direction()
	switch g.IntN(5) {
	case 0:
		return head + "portrange " + g.one("20-53", "443-80", "8000-8080", "0-65535", "1-1024")
	case 1:
		return head + "port " + g.list(g.port)
	case 2:
		return strings.Replace(head, "udp", "tcp", 1) + "port " + g.port()
	}
	return head + "port " + g.port() + g.carriedOver(g.port)
}

// carriedOver are values that take over the qualifiers in front.
func (g grammar) carriedOver(value func() string) string {
	out := ""
	for range g.IntN(3) {
		out += g.one(" or ", " or ", " and not ", " and ") + value()
	}
	return out
}

func (g grammar) list(value func() string) string {
	parts := []string{value()}
	for range g.IntN(3) {
		parts = append(parts, g.one("or", "or", "and"), value())
	}
	return "(" + strings.Join(parts, " ") + ")"
}

func (g grammar) hosts() string {
	switch v4, v6 := func() string { return ipv4s[g.IntN(len(ipv4s))] }, func() string { return ipv6s[g.IntN(len(ipv6s))] }; g.IntN(8) {
	case 0, 1:
		return g.one("", "ip ", "arp ", "rarp ") + g.direction() + "host " + v4() + g.carriedOver(v4)
	case 2:
		return g.one("", "ip6 ") + g.direction() + "host " + v6() + g.carriedOver(v6)
	case 3:
		return g.one("", "ip ", "arp ") + g.direction() + "net " + g.one("198.18/15", "198.18.0.0/24", "198.18", "10", "10.1", "10.0.0.0/8",
			"198.18.0.0 mask 255.254.0.0", "224.0.0/4", "10.1.2.3", "0.0.0.0/0", "10.1.2.3/32")
	case 4:
		return g.one("", "ip6 ") + g.direction() + "net " + g.one("fd00::/8", "fd00::/16", "2001:db8::/32", "::/0", "fd00::1/128", "2001:db8:1::/48", "ff02::/16", "fd00::/63")
	case 5:
		return g.direction() + "host " + g.list(v4)
	case 6:
		return g.one("src ", "dst ") + v4()
	}
	mac := func() string { return macs[g.IntN(len(macs))] }
	return "ether " + g.direction() + "host " + mac() + g.carriedOver(mac)
}

func (g grammar) relation() string {
	if g.IntN(3) == 0 {
		return g.one("tcp[tcpflags] & tcp-syn != 0", "tcp[tcpflags] & (tcp-syn|tcp-ack) = tcp-syn", "tcp[13] = 2", "tcp[13] == 18",
			"icmp[icmptype] = icmp-echo", "icmp[icmptype] != icmp-echoreply", "icmp6[icmp6type] = icmp6-echo", "icmp6[0] = 135",
			"ip[0] & 0xf != 5", "ip[6:2] & 0x1fff != 0", "ip[8] < 65", "ip[2:2] - ((ip[0] & 0xf) << 2) > 40", "ip6[6] = 6",
			"udp[4:2] > 20", "tcp[0:2] = 80", "tcp[((tcp[12:1] & 0xf0) >> 2):4] = 0x47455420", "ether[0] & 1 != 0", "len > 100", "len <= 64",
			"(tcp[12] >> 4) * 4 > 20", "ip[16:4] = 0xc6120001", "arp[7] = 1", "ether[12:2] = 0x88cc", "tcp[2:2] % 2 = 0", "-1 = 0xffffffff")
	}
	return g.arithmetic(0) + " " + g.one("=", "==", "!=", ">", ">=", "<", "<=") + " " + g.arithmetic(1)
}

func (g grammar) arithmetic(depth int) string {
	if depth < 3 && g.IntN(2) == 0 {
		x, y := g.arithmetic(depth+1), g.arithmetic(depth+1)
		switch op := g.one("+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>"); op {
		case "/", "%":
			return fmt.Sprintf("(%s %s %d)", x, op, 1+g.IntN(7))
		case "<<", ">>":
			return fmt.Sprintf("(%s %s %d)", x, op, g.IntN(20))
		default:
			return g.one(fmt.Sprintf("%s %s %s", x, op, y), fmt.Sprintf("(%s %s %s)", x, op, y))
		}
	}
	switch g.IntN(4) {
	case 0:
		return fmt.Sprint(g.one2(0, 1, 2, 5, 6, 17, 40, 64, 80, 0x45, 0xff, 0x800, 0xffff, 1500))
	case 1:
		return g.one("len", "-"+fmt.Sprint(g.IntN(5)), "tcp-ack", "icmp6-routersolicit", "0x10")
	}
	index := fmt.Sprint(g.IntN(24))
	if depth < 2 && g.IntN(6) == 0 {
		index = g.one("ip[0] & 0xf", "ether[14] & 7", "tcp[12] >> 2", "len - 4", "ip[9] - 1", g.arithmetic(2))
	}
	return fmt.Sprintf("%s[%s%s]", g.one("ether", "ip", "ip", "tcp", "tcp", "udp", "icmp", "ip6", "icmp6", "arp", "sctp", "igmp"), index, g.one("", "", ":1", ":2", ":4"))
}
