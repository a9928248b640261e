package pcapfilter

import (
	_ "embed"
	"fmt"
	"strconv"
	"strings"
)

// The well-known names, so that the same expression means the same on every node: one a
// line, with its number and, for services, the transport: tcp, udp or both. They are
// those of IANA's registers that Debian's netbase has in /etc/services and
// /etc/protocols, aliases among them.
var (
	//go:embed services.txt
	services string
	//go:embed protocols.txt
	ipProtocolNames string
)

// lookUp finds a name's line, and returns the words behind the name.
func lookUp(table, name string) []string {
	for line := range strings.Lines(table) {
		if words := strings.Fields(line); words[0] == name {
			return words[1:]
		}
	}
	return nil
}

// maxRange is more than two names of services have.
const maxRange = 100

// parsePorts reads a service's name, or two ports with a dash between.
func parsePorts(text string, isRange bool) (r ports, problem string) {
	if !isRange {
		return service(text)
	}
	from, to, ok := strings.Cut(text, "-")
	for ok && len(text) <= maxRange { // a service's name may have dashes itself
		first, problem1 := service(from)
		last, problem2 := service(to)
		if problem1 == "" && problem2 == "" {
			r = ports{first: first.first, last: last.first, transport: first.transport}
			if first.transport != last.transport {
				r.transport = 0
			}
			return r, ""
		}
		var more string
		more, to, ok = strings.Cut(to, "-")
		from += "-" + more
	}
	return r, "not a range of ports, such as 8000-8080"
}

// service is the port of a service, or the number itself.
func service(name string) (ports, string) {
	if n, err := strconv.ParseUint(name, 10, 32); err == nil {
		if n > maxPort {
			return ports{}, fmt.Sprintf("the largest port is %d", maxPort)
		}
		return ports{first: uint32(n), last: uint32(n)}, ""
	}
	words := lookUp(services, name)
	if words == nil {
		return ports{}, "no well-known service has this name; write the port's number"
	}
	n, _ := strconv.ParseUint(words[0], 10, 16) // of our own table
	transport := map[string]uint32{"tcp": protoTCP, "udp": protoUDP}[words[1]]
	return ports{first: uint32(n), last: uint32(n), transport: transport}, ""
}

// protocolName is the number of a protocol behind proto.
func (m *meaning) protocolName(e match) uint32 {
	name := e.value.text
	switch e.protocol {
	case link:
		if p := protocols[name]; linkProtocols[p] != 0 {
			return linkProtocols[p]
		}
		if name == "loopback" {
			return typeLoop
		}
		m.mistake(e.value, "no Ethernet protocol has this name; write its number, such as 0x88cc")
	case iso:
		if p := protocols[name]; isoProtocols[p] != 0 {
			return isoProtocols[p]
		}
		m.mistake(e.value, "the protocols of iso are \\clnp, \\esis and \\isis")
	}
	words := lookUp(ipProtocolNames, name)
	if words == nil {
		m.mistake(e.value, "no well-known protocol over IP has this name; write its number")
	}
	n, _ := strconv.ParseUint(words[0], 10, 16) // of our own table
	return uint32(n)
}

// decnetAddress reads AREA.NODE.
func decnetAddress(text string) (area, node uint32, ok bool) {
	a, n, _ := strings.Cut(text, ".")
	x, err1 := strconv.ParseUint(a, 10, 31)
	y, err2 := strconv.ParseUint(n, 10, 31)
	return uint32(x), uint32(y), err1 == nil && err2 == nil
}
