package mirror

import (
	"fmt"
	"slices"
	"strings"

	"github.com/safchain/ethtool"
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

// notTCP are the offloads that leave others than TCP whole, which veths have.
var notTCP = []string{"tx-udp-segmentation", "tx-gso-list", "tx-sctp-segmentation"}

// without says whether the device must not have an offload, by ethtool's name for it.
func (c carriage) without(offload string) bool {
	if slices.Contains(notTCP, offload) {
		return c != asTheyAre
	}
	return c == asOnWire && (strings.HasPrefix(offload, "tx-") && strings.HasSuffix(offload, "-segmentation") ||
		strings.HasPrefix(offload, "tx-checksum-") || strings.HasPrefix(offload, "tx-vlan-"))
}

// setCarriage says how packets are to come into a device. There is no request of rtnetlink's
// for that. Of a new device it need not be asked what it has.
func (n *namespace) setCarriage(device string, c carriage, isNew bool) error {
	return n.change("set the offloads of "+device, func() error {
		return n.enter(func() error {
			tool, err := ethtool.NewEthtool()
			if err != nil {
				return err
			}
			defer tool.Close()
			config := map[string]bool{}
			if c == tcpWhole && isNew {
				for _, name := range notTCP {
					config[name] = false
				}
				if tool.Change(device, config) == nil {
					return nil
				}
				clear(config) // this kernel lacks one of them
			}
			now, err := tool.FeaturesWithState(device)
			if err != nil {
				return err
			}
			for name, state := range now {
				if possible := state.Available && !state.NeverChanged; possible && asOnWire.without(name) && state.Active == c.without(name) {
					config[name] = !state.Active
				}
			}
			if len(config) == 0 {
				return nil
			}
			return tool.Change(device, config)
		})
	})
}

// carriageProblem says what a device has that it must not, "" for nothing.
func (n *namespace) carriageProblem(device string, c carriage) (problem string, err error) {
	err = n.enter(func() error {
		tool, err := ethtool.NewEthtool()
		if err != nil {
			return err
		}
		defer tool.Close()
		now, err := tool.Features(device)
		for name, active := range now {
			if active && c.without(name) {
				problem = fmt.Sprintf("the device %s has %s switched on, and packets come into it other than on a wire", device, name)
			}
		}
		return err
	})
	return problem, err
}
