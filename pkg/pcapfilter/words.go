package pcapfilter

// keywordOf says whether a word is one of the language, and which; several words mean
// the same.
func keywordOf(word string) (canonical string, ok bool) {
	switch word {
	case "link", "ether", "ppp", "slip", "fddi", "tr", "wlan":
		return "ether", true
	case "es-is":
		return "esis", true
	case "is-is":
		return "isis", true
	case "length":
		return "len", true
	case "lsu":
		return "lssu", true
	case "on":
		return "ifname", true
	case "ruleset":
		return "rset", true
	case "rulenum":
		return "rnr", true
	case "subrulenum":
		return "srnr", true
	case "direction":
		return "dir", true
	case "src", "dst", "host", "net", "mask", "port", "portrange", "proto", "protochain", "gateway",
		"and", "or", "not", "len", "less", "greater", "byte", "broadcast", "multicast",
		"vlan", "mpls", "pppoed", "pppoes", "geneve", "llc", "inbound", "outbound", "ifindex":
		return word, true
	}
	if protocols[word] != 0 {
		return word, true
	}
	if foreignWord(word) != "" {
		return word, true
	}
	return "", false
}

// foreignWord says what a word of the language is about that no Ethernet frame of a pod
// has, "" for other words.
func foreignWord(word string) string {
	switch word {
	case "inbound", "outbound":
		return "the direction is no part of the frame; use the tap's field direction"
	case "ifindex":
		return "a tap sees one interface only"
	case "ifname", "rset", "rnr", "srnr", "reason", "action":
		return "it is about the log of OpenBSD's packet filter, not Ethernet"
	case "type", "subtype", "dir", "addr1", "address1", "addr2", "address2", "addr3", "address3", "addr4", "address4", "ra", "ta", "radio":
		return "it is about wireless networks, not Ethernet"
	case "lane", "metac", "bcc", "oam", "oamf4", "oamf4ec", "oamf4sc", "sc", "ilmic", "vpi", "vci", "connectmsg", "metaconnect":
		return "it is about ATM networks, not Ethernet"
	case "fisu", "lssu", "msu", "hfisu", "hlssu", "hmsu", "sio", "opc", "dpc", "sls", "hsio", "hopc", "hdpc", "hsls":
		return "it is about telephone signalling (SS7), not Ethernet"
	case "geneve":
		return "Geneve's header is of any length, and what follows cannot be told; match udp port 6081"
	case "gateway":
		return "it needs the names of hosts, which are not looked up; use ether host and not host"
	case "protochain":
		return "following a chain of IPv6 headers needs a loop, which the kernel's programs have not; use ip6[6] or ip6[40]"
	case "byte":
		return "write ether[NUMBER] and a comparison"
	}
	return ""
}

// namedConstant is the value of a word that stands for a number: offsets and values of
// fields in the headers of ICMP (RFC 792), ICMPv6 (RFC 4443 and IANA's list) and TCP (RFC 9293).
func namedConstant(word string) (value uint32, ok bool) {
	switch word {
	case "icmptype", "icmp-echoreply", "icmp6type":
		return 0, true
	case "icmpcode", "icmp6code", "icmp6-destinationunreach", "tcp-fin":
		return 1, true
	case "icmp6-packettoobig", "tcp-syn":
		return 2, true
	case "icmp-unreach", "icmp6-timeexceeded":
		return 3, true
	case "icmp-sourcequench", "icmp6-parameterproblem", "tcp-rst":
		return 4, true
	case "icmp-redirect":
		return 5, true
	case "icmp-echo", "tcp-push":
		return 8, true
	case "icmp-routeradvert":
		return 9, true
	case "icmp-routersolicit":
		return 10, true
	case "icmp-timxceed":
		return 11, true
	case "icmp-paramprob":
		return 12, true
	case "icmp-tstamp", "tcpflags":
		return 13, true
	case "icmp-tstampreply":
		return 14, true
	case "icmp-ireq":
		return 15, true
	case "icmp-ireqreply", "tcp-ack":
		return 16, true
	case "icmp-maskreq":
		return 17, true
	case "icmp-maskreply":
		return 18, true
	case "tcp-urg":
		return 0x20, true
	case "tcp-ece":
		return 0x40, true
	case "tcp-cwr":
		return 0x80, true
	}
	return icmp6Type(word)
}

func icmp6Type(word string) (value uint32, ok bool) {
	switch word {
	case "icmp6-echo":
		return 128, true
	case "icmp6-echoreply":
		return 129, true
	case "icmp6-multicastlistenerquery":
		return 130, true
	case "icmp6-multicastlistenerreportv1":
		return 131, true
	case "icmp6-multicastlistenerdone":
		return 132, true
	case "icmp6-routersolicit":
		return 133, true
	case "icmp6-routeradvert":
		return 134, true
	case "icmp6-neighborsolicit":
		return 135, true
	case "icmp6-neighboradvert":
		return 136, true
	case "icmp6-redirect":
		return 137, true
	case "icmp6-routerrenum":
		return 138, true
	case "icmp6-nodeinformationquery":
		return 139, true
	case "icmp6-nodeinformationresponse":
		return 140, true
	case "icmp6-ineighbordiscoverysolicit":
		return 141, true
	case "icmp6-ineighbordiscoveryadvert":
		return 142, true
	case "icmp6-multicastlistenerreportv2":
		return 143, true
	case "icmp6-homeagentdiscoveryrequest":
		return 144, true
	case "icmp6-homeagentdiscoveryreply":
		return 145, true
	case "icmp6-mobileprefixsolicit":
		return 146, true
	case "icmp6-mobileprefixadvert":
		return 147, true
	case "icmp6-certpathsolicit":
		return 148, true
	case "icmp6-certpathadvert":
		return 149, true
	case "icmp6-multicastrouteradvert":
		return 151, true
	case "icmp6-multicastroutersolicit":
		return 152, true
	case "icmp6-multicastrouterterm":
		return 153, true
	}
	return 0, false
}
