package mirror

import (
	"fmt"
	"strings"

	"github.com/safchain/ethtool"
)

// segmentation is what the kernel may leave whole of the packets that a program sends at
// once, on the way into a tap's device.
type segmentation int

const (
	allWhole  segmentation = iota // as the kernel makes a veth
	tcpWhole                      // TCP only: of that, smaller segments can be made behind
	wireWhole                     // nothing: each packet comes out as it would on a wire
)

// segments says whether the kernel has to segment before the device what an offload is for,
// by the name that ethtool has for that.
func (s segmentation) segments(offload string) bool {
	switch offload {
	case "tx-udp-segmentation", "tx-gso-list", "tx-sctp-segmentation":
		return s != allWhole
	}
	return s == wireWhole && strings.HasPrefix(offload, "tx-") && strings.HasSuffix(offload, "-segmentation")
}

// setSegmentation says what may go into a device whole. There is no netlink request of
// rtnetlink's for that.
func (n *namespace) setSegmentation(device string, s segmentation) error {
	return n.change("set the segmentation of "+device, func() error {
		return n.enter(func() error {
			tool, err := ethtool.NewEthtool()
			if err != nil {
				return err
			}
			defer tool.Close()
			now, err := tool.FeaturesWithState(device)
			if err != nil {
				return err
			}
			config := map[string]bool{}
			for name, state := range now {
				switch {
				case state.NeverChanged || !state.Available:
				case s.segments(name) && state.Active:
					config[name] = false
				case !s.segments(name) && wireWhole.segments(name) && !state.Active:
					config[name] = true
				}
			}
			if len(config) == 0 {
				return nil
			}
			return tool.Change(device, config)
		})
	})
}

// segmentationProblem says what a device lets through whole that it must not, "" for nothing.
func (n *namespace) segmentationProblem(device string, s segmentation) (problem string, err error) {
	err = n.enter(func() error {
		tool, err := ethtool.NewEthtool()
		if err != nil {
			return err
		}
		defer tool.Close()
		now, err := tool.Features(device)
		for name, active := range now {
			if active && s.segments(name) {
				problem = fmt.Sprintf("the device %s has %s switched on, and super-packets would be cut as one", device, name)
			}
		}
		return err
	})
	return problem, err
}
