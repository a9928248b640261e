package tap

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/containernetworking/cni/pkg/utils"
)

// deviceName reads the name of a device that is to be made.
func (o *object) deviceName(field string) string {
	const allowed = "a name for a network device: at most 15 bytes, without white space, /, : or %, and not lo, all or default"
	name := o.text(field, allowed)
	if name != "" && !ValidDeviceName(name) {
		o.bad(field, name, allowed)
		return ""
	}
	return name
}

// interfaceName reads the name of an interface that exists.
func (o *object) interfaceName(field string) string {
	const allowed = "the name of an interface of the pod, such as eth0"
	name := o.text(field, allowed)
	if name != "" && !validName(name) {
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
// passing over names that are taken. It reports duplicate devices and more than
// MaxTaps taps, as Errors.
func Complete(taps []Tap, iface string, taken func(name string) bool) error {
	if len(taps) > MaxTaps {
		return tooMany(len(taps))
	}
	var mistakes Errors
	devices, hosts := map[string]int{}, map[string]int{}
	claim := func(names map[string]int, i int, field, name string) {
		if first := names[name]; first > 0 {
			mistakes = append(mistakes, FieldError{Tap: i + 1, Device: taps[i].Device, Field: field,
				Problem: fmt.Sprintf("%s is the name of tap %d's too; each needs its own", Quote(name), first)})
			return
		}
		names[name] = i + 1
	}
	for i, t := range taps {
		if t.Device != "" {
			claim(devices, i, "device", t.Device)
		}
		if host := t.HostInterface(); host != "" {
			claim(hosts, i, string(t.Sink())+".hostInterface", host)
		}
	}
	if len(mistakes) > 0 {
		return mistakes
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
			if devices[name] == 0 && !taken(name) {
				taps[i].Device = name
			}
		}
	}
	return nil
}
