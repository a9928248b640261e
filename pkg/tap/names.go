package tap

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/containernetworking/cni/pkg/utils"
)

// deviceName reads the name of a device that is to be made.
func (o *object) deviceName(field string) string {
	return o.name(field, "a name for a network device: at most 15 bytes, without white space, /, : or %, and not lo, all or default", ValidDeviceName)
}

// interfaceName reads the name of an interface that exists.
func (o *object) interfaceName(field string) string {
	return o.name(field, "the name of an interface of the pod, such as eth0", validName)
}

func (o *object) name(field, allowed string, valid func(string) bool) string {
	name := o.text(field, allowed)
	if name != "" && !valid(name) {
		o.bad(field, name, allowed)
		return ""
	}
	return name
}

// ValidDeviceName says whether a device may be made under a name. Beside what
// the kernel refuses, it excludes %, which the kernel takes for a pattern, and
// all and default, whose sysctls are those of the whole namespace.
func ValidDeviceName(name string) bool {
	switch name {
	case "lo", "all", "default":
		return false
	}
	return validName(name) && !strings.Contains(name, "%")
}

// validName says whether an interface can have a name. The kernel would end it at
// a NUL, and people could not tell one with control characters.
func validName(name string) bool {
	odd := func(r rune) bool { return !unicode.IsPrint(r) }
	return utils.ValidateInterfaceName(name) == nil && !strings.ContainsFunc(name, odd)
}

// Complete fills in what depends on a tap's surroundings: iface for a tap that
// names no interface, and mirror, mirror1, … for one that names no device,
// passing over names that are taken. The pod's other taps, complete already, come
// first: it reports names that one of them, or of the taps, has already, and more
// than MaxTaps together, as Errors.
func Complete(taps []Tap, iface string, taken func(name string) bool, others ...Tap) error {
	if len(taps)+len(others) > MaxTaps {
		return tooMany(len(taps), len(others))
	}
	c := claims{devices: map[string]string{}, hosts: map[string]string{}}
	for _, t := range others {
		c.claim(t, 0, "a tap of the network configuration")
	}
	for i, t := range taps {
		c.claim(t, i+1, fmt.Sprintf("tap %d", i+1))
	}
	if len(c.mistakes) > 0 {
		return c.mistakes
	}
	next := 0
	for i := range taps {
		if taps[i].Interface == "" {
			taps[i].Interface = iface
		}
		for taps[i].Device == "" {
			name := DefaultDevice
			if next > 0 {
				name = fmt.Sprintf("%s%d", DefaultDevice, next)
			}
			next++
			if c.devices[name] == "" && !taken(name) {
				taps[i].Device = name
			}
		}
	}
	return nil
}

// claims are the names that taps give to devices, with whose they are.
type claims struct {
	devices, hosts map[string]string // in the pod, on the node
	mistakes       Errors
}

func (c *claims) claim(t Tap, position int, whose string) {
	for _, n := range []struct {
		names       map[string]string
		field, name string
	}{
		{c.devices, "device", t.Device},
		{c.hosts, string(t.Sink()) + ".hostInterface", t.HostInterface()},
	} {
		switch first := n.names[n.name]; {
		case n.name == "":
		case first != "":
			c.mistakes = append(c.mistakes, FieldError{Tap: position, Device: t.Device, Field: n.field,
				Problem: fmt.Sprintf("%s is the name of %s's too; each needs its own", Quote(n.name), first)})
		default:
			n.names[n.name] = whose
		}
	}
}
