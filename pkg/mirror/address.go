package mirror

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Addresses are the pod's own, on every interface.
func (p *Pod) Addresses() ([]netip.Addr, error) {
	list, err := p.prefixes(0)
	if err != nil {
		return nil, fmt.Errorf("list the pod's addresses: %w", err)
	}
	var out []netip.Addr
	for _, prefix := range list {
		out = append(out, prefix.Addr())
	}
	return out, nil
}

// prefixes are the addresses of a device, or of all where index is 0, with the
// lengths of their networks.
func (n *namespace) prefixes(index int) ([]netip.Prefix, error) {
	return query(n, unix.RTM_GETADDR, unix.NLM_F_DUMP, func(m []byte) (p netip.Prefix, ok bool, err error) {
		if len(m) < unix.SizeofIfAddrmsg {
			return p, false, errors.New("short message")
		}
		if index != 0 && int(binary.NativeEndian.Uint32(m[4:])) != index {
			return p, false, nil
		}
		for kind, value := range attributes(m[unix.SizeofIfAddrmsg:]) {
			// IFA_LOCAL is the interface's own, IFA_ADDRESS may be its peer's;
			// IPv6 mostly has only the second.
			if kind != unix.IFA_LOCAL && (kind != unix.IFA_ADDRESS || ok) {
				continue
			}
			if a, found := netip.AddrFromSlice(value); found {
				p, ok = netip.PrefixFrom(a.Unmap(), int(m[1])), true
			}
		}
		return p, ok, nil
	}, nl.NewIfAddrmsg(unix.AF_UNSPEC))
}

// routes are the destinations of the routes of all tables, of the addresses that
// are the namespace's own too. Default routes, which have none, are not among them.
func (n *namespace) routes() ([]netip.Prefix, error) {
	return query(n, unix.RTM_GETROUTE, unix.NLM_F_DUMP, func(m []byte) (p netip.Prefix, ok bool, err error) {
		if len(m) < unix.SizeofRtMsg {
			return p, false, errors.New("short message")
		}
		if cached := number(m[8:])&unix.RTM_F_CLONED != 0; cached || m[0] != unix.AF_INET && m[0] != unix.AF_INET6 {
			return p, false, nil
		}
		for kind, value := range attributes(m[unix.SizeofRtMsg:]) {
			if a, found := netip.AddrFromSlice(value); kind == unix.RTA_DST && found && m[1] > 0 {
				p, ok = netip.PrefixFrom(a.Unmap(), int(m[1])), true
			}
		}
		return p, ok, nil
	}, &nl.RtMsg{})
}
