package mirror

import (
	"fmt"
	"strings"
)

// carriage is how packets come into a tap's device: what the kernel would leave to a network
// card it does before that.
type carriage int

const (
	asTheyAre carriage = iota // as the kernel makes a veth
	// tcpWhole leaves super-packets of TCP whole, of which smaller segments can be made behind,
	// and makes single packets of all others.
	tcpWhole
	// asOnWire has each packet as it would be on a wire: single, with its checksums, and with its
	// tag in the bytes.
	asOnWire
)

// without says whether the device must not have an offload, by ethtool's name for it.
func (c carriage) without(offload string) bool {
	switch offload {
	case "tx-udp-segmentation", "tx-gso-list", "tx-sctp-segmentation":
		return c != asTheyAre
	}
	return c == asOnWire && (strings.HasPrefix(offload, "tx-") && strings.HasSuffix(offload, "-segmentation") ||
		strings.HasPrefix(offload, "tx-checksum-") || strings.HasPrefix(offload, "tx-vlan-"))
}

// setCarriage says how packets are to come into a device. There is no request of rtnetlink's
// for that.
func (n *namespace) setCarriage(device string, c carriage) error {
	return n.change("set the offloads of "+device, func() error {
		return n.enter(func() error {
			now, err := features(device)
			if err != nil {
				return err
			}
			on := map[int]bool{}
			for _, f := range now {
				if f.available && asOnWire.without(f.name) && f.active == c.without(f.name) {
					on[f.bit] = !f.active
				}
			}
			if len(on) == 0 {
				return nil
			}
			return switchFeatures(device, len(now), on)
		})
	})
}

// carriageProblem says what a device has that it must not, "" for nothing.
func (n *namespace) carriageProblem(device string, c carriage) (problem string, err error) {
	err = n.enter(func() error {
		now, err := features(device)
		for _, f := range now {
			if f.active && c.without(f.name) {
				problem = fmt.Sprintf("the device %s has %s switched on, and its copies cannot be cut, or made to fit, exactly", device, f.name)
			}
		}
		return err
	})
	return problem, err
}
