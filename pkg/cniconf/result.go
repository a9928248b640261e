package cniconf

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
)

// HostDevice is a device that a tap has on the node, for the result.
type HostDevice struct {
	Name string
	MAC  string
	MTU  int // bytes
}

// WriteResult answers ADD in a chain: the result that came in, with the node's
// devices appended. They go to the end, because addresses refer to interfaces by
// index, and none of the pod's is among them, because Multus takes the last one
// for the owner of addresses without an index. Without devices to append, the
// very bytes that came in go out.
func (c *Config) WriteResult(w io.Writer, devices []HostDevice) error {
	var head struct {
		CNIVersion string `json:"cniVersion"`
	}
	if err := json.Unmarshal(c.PrevResult, &head); err != nil {
		return Error(types.ErrDecodingFailure, fmt.Errorf("prevResult: %w", err))
	}
	if len(devices) == 0 && (head.CNIVersion == c.CNIVersion || head.CNIVersion == "") {
		_, err := io.Copy(w, bytes.NewReader(c.PrevResult))
		return err
	}
	result, err := c.result()
	if err != nil {
		return err
	}
	for _, d := range devices {
		result.Interfaces = append(result.Interfaces, &current.Interface{Name: d.Name, Mac: d.MAC, Mtu: d.MTU})
	}
	return c.write(w, result)
}

// WriteAttachment answers ADD of a network whose only plugin is podtap: exactly
// one interface, the pod's device, and no addresses.
func (c *Config) WriteAttachment(w io.Writer, device HostDevice, netns string) error {
	return c.write(w, &current.Result{
		CNIVersion: current.ImplementedSpecVersion,
		Interfaces: []*current.Interface{{Name: device.Name, Mac: device.MAC, Mtu: device.MTU, Sandbox: netns}},
	})
}

func (c *Config) write(w io.Writer, result *current.Result) error {
	if newer, err := version.GreaterThanOrEqualTo(c.CNIVersion, "1.1.0"); err == nil && !newer {
		// The library writes 1.0.0 with fields that only 1.1.0 has.
		for _, i := range result.Interfaces {
			i.Mtu, i.SocketPath, i.PciID = 0, "", ""
		}
		for _, r := range result.Routes {
			r.MTU, r.AdvMSS, r.Priority, r.Table, r.Scope = 0, 0, 0, nil, nil
		}
	}
	out, err := result.GetAsVersion(c.CNIVersion)
	if err != nil {
		return Error(types.ErrIncompatibleCNIVersion, fmt.Errorf("result in version %s: %w", c.CNIVersion, err))
	}
	return out.PrintTo(w)
}

func (c *Config) result() (*current.Result, error) {
	var head struct {
		CNIVersion string             `json:"cniVersion"`
		Interfaces []*json.RawMessage `json:"interfaces"`
		IPs        []*json.RawMessage `json:"ips"`
		Routes     []*json.RawMessage `json:"routes"`
	}
	if err := json.Unmarshal(c.PrevResult, &head); err != nil {
		return nil, Error(types.ErrDecodingFailure, fmt.Errorf("prevResult: %w", err))
	}
	for _, list := range [][]*json.RawMessage{head.Interfaces, head.IPs, head.Routes} {
		if slices.Contains(list, nil) { // the library would trip over it
			return nil, Error(types.ErrDecodingFailure, errors.New("prevResult: null among its interfaces, ips or routes"))
		}
	}
	text := c.PrevResult
	if head.CNIVersion == "" {
		head.CNIVersion = c.CNIVersion
		var fields map[string]any
		if err := json.Unmarshal(text, &fields); err != nil {
			return nil, Error(types.ErrDecodingFailure, fmt.Errorf("prevResult: %w", err))
		}
		fields["cniVersion"] = c.CNIVersion
		text, _ = json.Marshal(fields) // what came out of JSON goes back in
	}
	parsed, err := version.NewResult(head.CNIVersion, text)
	if err != nil {
		return nil, Error(types.ErrDecodingFailure, fmt.Errorf("prevResult: %w", err))
	}
	result, err := current.NewResultFromResult(parsed)
	if err != nil {
		return nil, Error(types.ErrDecodingFailure, fmt.Errorf("prevResult: %w", err))
	}
	for _, ip := range result.IPs {
		if ip.Address.IP == nil { // the library would write it as <nil>
			return nil, Error(types.ErrDecodingFailure, errors.New("prevResult: an entry of ips has no address"))
		}
	}
	for _, r := range result.Routes {
		if r.Dst.IP == nil {
			return nil, Error(types.ErrDecodingFailure, errors.New("prevResult: an entry of routes has no dst"))
		}
	}
	return result, nil
}

// Addresses are the pod's addresses as the chain's result tells them.
func (c *Config) Addresses() ([]netip.Addr, error) {
	if c.PrevResult == nil {
		return nil, nil
	}
	result, err := c.result()
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, ip := range result.IPs {
		if a, ok := netip.AddrFromSlice(ip.Address.IP); ok {
			out = append(out, a.Unmap())
		}
	}
	return out, nil
}

// IsAttachment says whether the result that came in is one of WriteAttachment's:
// CHECK gets it back, and must not take it for a chain's.
func (c *Config) IsAttachment(ifName, netns string) bool {
	if c.PrevResult == nil {
		return true
	}
	result, err := c.result()
	if err != nil {
		return false
	}
	return len(result.IPs) == 0 && len(result.Interfaces) == 1 &&
		result.Interfaces[0].Name == ifName && result.Interfaces[0].Sandbox == netns
}
