// Package policy is what an administrator lets pod authors ask for. A tap that
// comes from a pod's annotation, or from the arguments of a network attachment,
// is made only where a rule allows all of it; without rules only the harmless
// default is. Some taps are refused whoever asks, see Refused. The package is
// pure: what it must know of the node it is told in Facts.
package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/podtap/podtap/pkg/tap"
)

// Policy bounds the taps of pod authors.
type Policy struct {
	// MaxTaps is how many taps an annotation may ask for, 0 to tap.MaxTaps.
	MaxTaps int
	// Rules are tried in their order; the first that allows all of a tap wins.
	Rules []Rule
}

// Rule allows a tap that is within all its lists, and its bound. A list that is left
// out (nil) allows the harmless default, which the field's comment names.
type Rule struct {
	Namespaces   []string        // patterns as of path.Match; default: every namespace
	Sinks        []tap.Sink      // default: veth
	Destinations []netip.Prefix  // of vxlan; default: none
	Ports        []Range         // of vxlan; default: 4789
	VNIs         []Range         // of vxlan; default: all
	Placements   []tap.Placement // of vxlan; default: node
	Addresses    []netip.Prefix  // of wire, whole prefixes of either end; default: all
	HostNames    bool            // may the author choose hostInterface? default: no
	MaxBitrate   tap.Bitrate     // of veth and vxlan, the most that a tap's cap may be; default, 0: no cap is needed
}

// Range is a closed interval of numbers.
type Range struct{ First, Last uint32 }

func (r Range) String() string {
	if r.First == r.Last {
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// Closed is the policy where none is configured: veth mirrors with a generated
// name, in every namespace.
func Closed() Policy {
	return Policy{MaxTaps: tap.MaxTaps, Rules: []Rule{{}}}
}

// written is a policy as an administrator writes it.
type written struct {
	MaxTaps *int               `json:"maxTaps"`
	Rules   *[]json.RawMessage `json:"rules"`
}

type writtenRule struct {
	Namespaces   []string `json:"namespaces"`
	Sinks        []string `json:"sinks"`
	Destinations []string `json:"destinations"`
	Ports        []string `json:"ports"`
	VNIs         []string `json:"vnis"`
	Placements   []string `json:"placements"`
	Addresses    []string `json:"addresses"`
	HostNames    bool     `json:"hostNames"`
	MaxBitrate   *string  `json:"maxBitrate"`
}

// Parse reads the policy object of a network configuration. Nothing is Closed;
// rules left out are those of Closed, an empty list of rules allows nothing.
func Parse(text []byte) (Policy, error) {
	p := Closed()
	if len(text) == 0 || string(text) == "null" {
		return p, nil
	}
	var w written
	if err := strict(text, &w); err != nil {
		return Policy{}, fmt.Errorf("policy: %w; known are maxTaps, a number, and rules, a list", err)
	}
	var mistakes []error
	if w.MaxTaps != nil {
		p.MaxTaps = *w.MaxTaps
		if p.MaxTaps < 0 || p.MaxTaps > tap.MaxTaps {
			mistakes = append(mistakes, fmt.Errorf("policy.maxTaps: %d is not allowed; it must be from 0 to %d", p.MaxTaps, tap.MaxTaps))
		}
	}
	if w.Rules != nil {
		p.Rules = nil
		for i, text := range *w.Rules {
			at := fmt.Sprintf("policy.rules[%d]", i)
			var r writtenRule
			if err := strict(text, &r); err != nil {
				mistakes = append(mistakes, fmt.Errorf("%s: %w; known are namespaces, sinks, destinations, ports, vnis, placements, addresses, "+
					"all lists of strings, hostNames, true or false, and maxBitrate, a string such as 1G", at, err))
				continue
			}
			rule, errs := r.rule(at)
			p.Rules = append(p.Rules, rule)
			mistakes = append(mistakes, errs...)
		}
	}
	if len(mistakes) > 0 {
		return Policy{}, errors.Join(mistakes...)
	}
	return p, nil
}

// strict decodes one JSON value without unknown fields.
func strict(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	var wrong *json.UnmarshalTypeError
	switch {
	case err == nil:
		if _, err := d.Token(); !errors.Is(err, io.EOF) {
			return errors.New("something follows the object")
		}
		return nil
	case errors.As(err, &wrong) && wrong.Field != "":
		return fmt.Errorf("%s cannot be of type %s", wrong.Field, wrong.Value)
	case errors.As(err, &wrong):
		return fmt.Errorf("it cannot be of type %s", wrong.Value)
	}
	return errors.New(strings.TrimPrefix(err.Error(), "json: "))
}

// rule turns what was written into a Rule, with every mistake.
func (w writtenRule) rule(at string) (Rule, []error) {
	m := &reader{at: at}
	prefix := "an address or a prefix such as 198.18.0.0/15"
	return Rule{
		Namespaces:   parse(m, "namespaces", w.Namespaces, "a name or a pattern such as prod-*", parsePattern),
		Sinks:        parse(m, "sinks", w.Sinks, "veth, vxlan or wire", oneOf(tap.SinkVeth, tap.SinkVXLAN, tap.SinkWire)),
		Destinations: parse(m, "destinations", w.Destinations, prefix, parsePrefix),
		Ports:        parse(m, "ports", w.Ports, "a port or a range from 1 to 65535, such as 4789-4799", upTo(65535)),
		VNIs:         parse(m, "vnis", w.VNIs, "a VNI or a range from 1 to 16777215, such as 100-199", upTo(tap.MaxVNI)),
		Placements:   parse(m, "placements", w.Placements, "node or pod", oneOf(tap.PlacementNode, tap.PlacementPod)),
		Addresses:    parse(m, "addresses", w.Addresses, prefix, parsePrefix),
		HostNames:    w.HostNames,
		MaxBitrate:   m.bitrate("maxBitrate", w.MaxBitrate),
	}, m.found
}

// reader reads one rule and gathers its mistakes.
type reader struct {
	at    string // path of the rule
	found []error
}

func (m *reader) bad(name, value, allowed string) {
	m.found = append(m.found, fmt.Errorf("%s.%s: %s is not allowed; it must be %s", m.at, name, tap.Quote(value), allowed))
}

// bitrate reads a bound, 0 where there is none.
func (m *reader) bitrate(name string, text *string) tap.Bitrate {
	if text == nil {
		return 0
	}
	b, ok := tap.ParseBitrate(*text)
	if !ok {
		m.bad(name, *text, fmt.Sprintf("a bitrate such as 100M, from %s to %s", tap.MinBitrate, tap.MaxBitrate))
	}
	return b
}

// parse reads a list. It keeps its absence: nil stays nil, and an empty list
// allows nothing.
func parse[T any](m *reader, name string, list []string, allowed string, one func(string) (T, bool)) []T {
	if list == nil {
		return nil
	}
	out := []T{}
	for _, s := range list {
		v, ok := one(s)
		if !ok {
			m.bad(name, s, allowed)
			continue
		}
		out = append(out, v)
	}
	return out
}

func parsePattern(s string) (string, bool) {
	_, err := path.Match(s, "")
	return s, err == nil && s != ""
}

func oneOf[T ~string](values ...T) func(string) (T, bool) {
	return func(s string) (T, bool) { return T(s), slices.Contains(values, T(s)) }
}

func parsePrefix(s string) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err == nil && !p.Addr().Is4In6()
}

// upTo reads a number or a range of numbers from 1 to a limit.
func upTo(most uint32) func(string) (Range, bool) {
	return func(s string) (Range, bool) {
		first, last, isRange := strings.Cut(s, "-")
		if !isRange {
			last = first
		}
		a, errA := strconv.ParseUint(strings.TrimSpace(first), 10, 32)
		b, errB := strconv.ParseUint(strings.TrimSpace(last), 10, 32)
		ok := errA == nil && errB == nil && a >= 1 && a <= b && b <= uint64(most)
		return Range{uint32(a), uint32(b)}, ok
	}
}
