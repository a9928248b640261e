package pcapfilter

import "github.com/podtap/podtap/pkg/pcapfilter/internal/graph"

// expression is a parsed expression: one of the types below.
type expression any

type (
	// negation is `not x`.
	negation struct{ x expression }

	// logical is `x and y`, or `x or y`. Both bind equally, from left to right.
	logical struct {
		or   bool
		x, y expression
	}

	// match is a value under qualifiers: `tcp dst port 80`. Qualifiers that are not
	// written are those of the last match.
	match struct {
		qualifiers
		value token
		mask  token // of `net x/y` and `net x mask y`; endOfText where there is none
	}

	// protocolTerm is the name of a protocol that stands for itself: `tcp`.
	protocolTerm struct {
		protocol
		at token
	}

	// castTerm is `broadcast` or `multicast`, of a protocol.
	castTerm struct {
		protocol
		multicast bool
		at        token
	}

	// lengthTerm is `less x` or `greater x`.
	lengthTerm struct {
		less  bool
		bytes token
	}

	// encapsulation is `vlan`, `mpls` or `pppoes`, with a number or without. What is
	// asked after it, to the expression's end, is asked of what it encapsulates.
	encapsulation struct {
		at     token
		number *token
	}

	// llcTerm is `llc`, or `llc` with a kind of frame.
	llcTerm struct {
		at   token
		kind *token
	}

	// relation is `x > y` and the like.
	relation struct {
		ask     graph.Comparison
		negated bool
		x, y    arithmetic
	}
)

// arithmetic is a number: one of the types below.
type arithmetic any

type (
	constantNumber struct{ value uint32 }

	frameLength struct{}

	// accessor is `tcp[12:2]`.
	accessor struct {
		protocol
		index arithmetic
		size  uint32
		at    token // the protocol's name
	}

	negative struct{ x arithmetic }

	operation struct {
		op   graph.Op
		x, y arithmetic
		at   token // the operator
	}
)

// qualifiers say what a value is one of.
type qualifiers struct {
	protocol  protocol
	direction direction
	kind      kind
	at        token // the first of them
}

type direction uint8

const (
	anyDirection direction = iota
	source
	destination
	sourceAndDestination
)

// kind is what a value is.
type kind uint8

const (
	unqualified kind = iota // nothing has been said
	undefined               // what was said cannot be carried over: after `tcp`, for one
	host
	network
	port
	portRange
	protocolNumber
)

// protocol is a protocol that has a name in the language.
type protocol uint8

const (
	noProtocol protocol = iota
	link
	ip
	arp
	rarp
	sctp
	tcp
	udp
	icmp
	igmp
	igrp
	pim
	vrrp
	carp
	atalk
	aarp
	decnet
	lat
	sca
	mopdl
	moprc
	ip6
	icmp6
	ah
	esp
	iso
	esis
	isis
	isisL1
	isisL2
	isisIIH
	isisLSP
	isisSNP
	isisPSNP
	isisCSNP
	clnp
	stp
	ipx
	netbeui
)

// protocols are the protocols by their names.
var protocols = map[string]protocol{
	"ether": link, "ip": ip, "arp": arp, "rarp": rarp, "sctp": sctp, "tcp": tcp, "udp": udp, "icmp": icmp,
	"igmp": igmp, "igrp": igrp, "pim": pim, "vrrp": vrrp, "carp": carp, "atalk": atalk, "aarp": aarp,
	"decnet": decnet, "lat": lat, "sca": sca, "mopdl": mopdl, "moprc": moprc, "ip6": ip6, "icmp6": icmp6,
	"ah": ah, "esp": esp, "iso": iso, "esis": esis, "isis": isis, "l1": isisL1, "l2": isisL2, "iih": isisIIH,
	"lsp": isisLSP, "snp": isisSNP, "psnp": isisPSNP, "csnp": isisCSNP, "clnp": clnp, "stp": stp, "ipx": ipx,
	"netbeui": netbeui,
}
