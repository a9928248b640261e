package agent

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
)

// Files of the node's TCP sockets. Those of the thread, because the first thread of the
// process may just be visiting a pod's namespace.
var tcpFiles = []string{"/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"}

// readingPeers lets one reader at a time go through the files, which can be long.
var readingPeers sync.Mutex

// peerUID is the user whose socket is at the other end of a TCP connection within this
// network namespace. A connection from elsewhere has none.
func peerUID(local, remote netip.AddrPort) (int, error) {
	readingPeers.Lock()
	defer readingPeers.Unlock()
	for _, path := range tcpFiles {
		f, err := os.Open(path)
		if errors.Is(err, os.ErrNotExist) {
			continue // no IPv6
		}
		if err != nil {
			return 0, err
		}
		uid, found, err := findPeer(f, plain(remote), plain(local))
		_ = f.Close()
		if err != nil {
			return 0, fmt.Errorf("%s: %w", path, err)
		}
		if found {
			return uid, nil
		}
	}
	return 0, fmt.Errorf("%s is no socket of this node", remote)
}

// plain is an address as an IPv4 one where it is one.
func plain(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// findPeer looks for the socket of a process, at one address and connected to another,
// in lines such as
//
//	0: 0100007F:03CB 0100007F:D2A4 01 00000000:00000000 00:00000000 00000000  1000  0 4242 …
//
// with the user in the eighth field and the inode in the tenth. What no process has any
// more has no inode, and may show root for a user.
func findPeer(r io.Reader, at, to netip.AddrPort) (uid int, found bool, err error) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) < 10 || f[9] == "0" {
			continue
		}
		local, okLocal := parsePeer(f[1])
		remote, okRemote := parsePeer(f[2])
		if !okLocal || !okRemote || local != at || remote != to {
			continue
		}
		uid, err := strconv.Atoi(f[7])
		return uid, err == nil, err
	}
	return 0, false, lines.Err()
}

// parsePeer reads ADDRESS:PORT, the address in words of 32 bits as the machine has them.
func parsePeer(text string) (netip.AddrPort, bool) {
	address, port, found := strings.Cut(text, ":")
	raw, err := hex.DecodeString(address)
	number, errPort := strconv.ParseUint(port, 16, 16)
	if !found || err != nil || errPort != nil || len(raw)%4 != 0 {
		return netip.AddrPort{}, false
	}
	for i := 0; i < len(raw); i += 4 {
		binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	a, ok := netip.AddrFromSlice(raw)
	return netip.AddrPortFrom(a.Unmap(), uint16(number)), ok
}
