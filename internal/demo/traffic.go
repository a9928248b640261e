package demo

import (
	"fmt"
	"net"

	"github.com/podtap/podtap/internal/lab"
)

const (
	pings     = 3
	datagrams = 100 // in each direction
	size      = 256 // of a datagram's payload, bytes
	port      = "7000"
)

// expected is the traffic as the tapped pod sees it: it is pinged, answers, and
// exchanges datagrams.
func expected() []row {
	return []row{
		{kind: kindICMP, sent: false, judged: true, want: pings},
		{kind: kindICMP, sent: true, judged: true, want: pings},
		{kind: kindUDP, sent: false, judged: true, want: datagrams},
		{kind: kindUDP, sent: true, judged: true, want: datagrams},
	}
}

// traffic makes the demo's packets. After each part it waits until that has been
// counted, since an ordinary user's socket holds no more than some 200 KiB.
func (d *demo) traffic(settle func(count int)) {
	answered := d.client.Ping(d.web.ip[0], pings)
	d.tell("ping", d.client, d.web, answered, pings, "answered")
	settle(2 * pings)

	inWeb, inClient := d.web.UDP(net.JoinHostPort(d.web.ip[0], port)), d.client.UDP(net.JoinHostPort(d.client.ip[0], port))
	arrived := lab.Burst(d.t, inClient, inWeb, inWeb.LocalAddr().String(), datagrams, size)
	d.tell("UDP", d.client, d.web, arrived, datagrams, "arrived")
	settle(2*pings + datagrams)

	arrived = lab.Burst(d.t, inWeb, inClient, inClient.LocalAddr().String(), datagrams, size)
	d.tell("UDP", d.web, d.client, arrived, datagrams, "arrived")
	settle(2*pings + 2*datagrams)
}

func (d *demo) tell(what string, from, to *pod, count, want int, done string) {
	d.screen.line("%-4s  %-6s → %-6s  %d of %d %s", what, from.Name, to.Name, count, want, done)
	if count != want {
		d.problem(fmt.Sprintf("%s from %s to %s: %d of %d %s", what, from.Name, to.Name, count, want, done))
	}
}
