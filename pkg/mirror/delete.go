package mirror

import (
	"errors"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// To delete a device takes the kernel 20 ms, and to delete a group of devices
// hardly more: most of it is waiting, once for each request. So devices that are
// to go first change into a group of their own, doomedGroup, which is deleted in
// one request. They keep their aliases. Whoever comes by a doomed device, as after
// a process that was killed in between, may delete it: the one that doomed it had
// every right to.

// doom puts devices that are podtap's into the doomed group.
func (n *namespace) doom(links []*link) error {
	var failed error
	for _, l := range links {
		if l.group == doomedGroup {
			continue
		}
		err := n.setLink("doom the device "+l.name, l.index, 0, 0, nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(doomedGroup)))
		switch {
		case err == nil:
			l.group = doomedGroup
		case !errors.Is(err, unix.ENODEV):
			failed = errors.Join(failed, err)
		}
	}
	return failed
}

// deleteLinks deletes devices, together if they are several. alien has to have all
// others in the namespace: where somebody has put one of them into the doomed
// group, each device is deleted by itself.
func (n *namespace) deleteLinks(links, alien []*link) error {
	together := len(links) > 1
	for _, l := range alien {
		together = together && l.group != doomedGroup
	}
	if together && n.doom(links) == nil && n.deleteDoomed() == nil {
		return nil
	}
	var failed error
	for _, l := range links {
		failed = errors.Join(failed, n.deleteLink(l.index, l.name))
	}
	return failed
}

// deleteDoomed deletes the doomed group. A veth takes its peer along, wherever
// that is.
func (n *namespace) deleteDoomed() error {
	return n.change("delete the doomed devices", func() error {
		err := n.request(unix.RTM_DELLINK, 0, nl.NewIfInfomsg(unix.AF_UNSPEC),
			nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(doomedGroup)))
		if errors.Is(err, unix.ENODEV) {
			return nil // somebody else has
		}
		return err
	})
}

func (n *namespace) deleteLink(index int, name string) error {
	return n.change("delete the device "+name, func() error {
		message := nl.NewIfInfomsg(unix.AF_UNSPEC)
		message.Index = int32(index)
		err := n.request(unix.RTM_DELLINK, 0, message)
		if errors.Is(err, unix.ENODEV) {
			return nil // it went with its peer, or with its namespace
		}
		return err
	})
}

// ignoreGone turns the errors of a deletion that came too late into success.
func ignoreGone(err error) error {
	for _, gone := range []error{unix.ENOENT, unix.ENODEV, unix.EINVAL} {
		if errors.Is(err, gone) {
			return nil
		}
	}
	return err
}
