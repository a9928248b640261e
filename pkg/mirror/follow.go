package mirror

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/pkg/tap"
)

// Follower keeps taps whose copies are to fit the path to their collector at what that path
// takes, after its MTU or the route has changed. The zero value is ready to use, by one at a
// time.
type Follower struct {
	known map[collector]int // what the path took in the last round, in bytes
	whole time.Time         // when each tap was looked at
}

// lookAtAll is after what time a round looks at each tap, whether a path has changed or not.
const lookAtAll = time.Minute

// Round looks at the paths once, and changes the taps for which they have changed. It returns
// how many those are. A collector to which there is no route now leaves its taps as they are.
func (f *Follower) Round(n *Node) (changed int, err error) {
	links, err := n.linksOf("vxlan", skipStatistics)
	if err != nil {
		return 0, err
	}
	now, news := map[collector]int{}, time.Since(f.whole) > lookAtAll
	for _, l := range links {
		c, isRelay := relayMark(l)
		if !isRelay || l.group != deviceGroup {
			continue
		}
		path, err := n.pathMTU(&tap.VXLAN{Remote: c.Remote})
		if err != nil {
			continue
		}
		now[c], news = path, news || f.known[c] != path
	}
	if !news {
		return 0, nil
	}
	changed, again, err := n.refit(now)
	if err == nil && !again {
		f.known, f.whole = now, time.Now()
	}
	return changed, err
}

// refit changes the taps whose copies do not have the length that paths take. again says that
// somebody was at work on a pod's.
func (n *Node) refit(paths map[collector]int) (changed int, again bool, err error) {
	links, err := n.links()
	if err != nil {
		return 0, false, err
	}
	collectors := map[string]collector{} // by the name of the relay
	for _, l := range links {
		if c, isRelay := relayMark(l); isRelay {
			collectors[l.name] = c
		}
	}
	for _, l := range links {
		m, isTap := linkMark(l)
		c := collectors[m.Relay]
		path := paths[c]
		if !isTap || m.Relay == "" || path == 0 || l.group != deviceGroup {
			continue
		}
		did, failed := n.refitOne(l, m, framesOf(path, &tap.VXLAN{Remote: c.Remote}))
		switch {
		case did:
			changed++
		case errors.Is(failed, ErrBusy):
			again = true
		case failed != nil:
			err = errors.Join(err, fmt.Errorf("make the copies of %s fit the path to %s: %w", l.name, c.Remote, failed))
		}
	}
	return changed, again, err
}

// refitOne makes one tap's copies fit a path that takes frames of so many bytes, if they are
// to fit at all.
func (n *Node) refitOne(host *link, m mark, path int) (bool, error) {
	if at, err := n.trimAt(host); err == nil && (at.Path == 0 || at.Path == path) {
		return false, nil
	}
	// Nobody waits here for one pod: there are others.
	unlock, err := lock(podLock(podHash(m.ContainerID)), "the container "+m.ContainerID, 0)
	if err != nil {
		return false, err
	}
	defer unlock()
	// The pod may have gone meanwhile, or its tap have become another.
	host, err = n.linkByIndex(host.index)
	if err != nil || host == nil {
		return false, err
	}
	if now, isTap := linkMark(host); !isTap || now.Relay != m.Relay {
		return false, nil
	}
	changed, err := n.setPath(host, path)
	if errors.Is(err, unix.ENODEV) {
		return false, nil
	}
	return changed, err
}

const (
	// settleAfter is how long changes of the network are let go on, from the first, before they
	// are looked at.
	settleAfter = 200 * time.Millisecond
	// groups are those of netlink that tell of devices and routes.
	groups = 1<<(unix.RTNLGRP_LINK-1) | 1<<(unix.RTNLGRP_IPV4_ROUTE-1) | 1<<(unix.RTNLGRP_IPV6_ROUTE-1)
)

// WatchPaths calls changed after each change of the namespace's devices or routes, and after
// every pause: of what routers tell of the paths behind them the kernel says nothing. It ends
// with ctx, or with an error.
func (n *Node) WatchPaths(ctx context.Context, pause time.Duration, changed func()) error {
	var fd int
	err := n.enter(func() (err error) {
		fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return fmt.Errorf("listen for routes: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		return fmt.Errorf("listen for routes: %w", err)
	}
	for {
		changed()
		if err := await(ctx, fd, pause); err != nil {
			return err
		}
	}
}

// await waits for news from a socket, and then for what comes at the same time; or for a pause.
func await(ctx context.Context, fd int, pause time.Duration) error {
	const (
		look         = 100 * time.Millisecond // how often ctx is looked at
		mostMessages = 256                    // that are read at once
	)
	b := make([]byte, 1<<16)
	var heard time.Time
	for begin := time.Now(); time.Since(begin) < pause; {
		if !heard.IsZero() && time.Since(heard) > settleAfter {
			return ctx.Err()
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		ready, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(look.Milliseconds()))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("listen for routes: %w", err)
		}
		ready = max(ready, 0)
		for range mostMessages * ready {
			// What is lost for want of room is news as well.
			if _, _, err := unix.Recvfrom(fd, b, 0); err != nil && !errors.Is(err, unix.ENOBUFS) {
				break
			}
			if heard.IsZero() {
				heard = time.Now()
			}
		}
	}
	return ctx.Err()
}
