package mirror

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"strconv"
	"strings"

	"github.com/podtap/podtap/pkg/tap"
)

// hash is some hexadecimal digits for a generated name.
func hash(length int, words ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(words, "\x00")))
	return hex.EncodeToString(sum[:])[:length]
}

// hostName is the generated name of a tap's end on the node: veth and a hash of
// owner and device. Calico's address detection and NetworkManager know to leave
// alone what begins with veth.
func hostName(o Owner, device string) string {
	return "veth" + hash(tap.MaxNameLength-4, string(o.Source), o.Network, o.ContainerID, o.IfName, device)
}

const relayPrefix = "podtap"

// relayName is the name of the relay to a collector: the first that nobody else
// has taken.
func relayName(c collector, attempt int) string {
	return relayPrefix + hash(tap.MaxNameLength-len(relayPrefix), c.alias(), strconv.Itoa(attempt))
}

// The first bytes of the addresses of taps' devices: locally administered, for one
// device, and different at both ends, for a wire.
const (
	macInPod  = 0x72
	macAtNode = 0x76
	macSecond = 0x70
)

// macOf is the address of a tap's device: 72 in the pod, 76 at the node, 70, three
// bytes of the pod's hash, one of the device's. So a device whose making was cut
// short before it had an alias is told, by its pod's lock, from one that is being
// made. Two mirrors of a pod may have the same one, because they never speak.
func macOf(first byte, containerID, device string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(device))
	return append(append(net.HardwareAddr{first, macSecond}, podHash(containerID)...), sum[0])
}

// wireAddress is the address that one end of a wire gets with its alias. Wires do
// speak, and some are ports of one bridge: no two should have the same one.
func wireAddress(first byte, o Owner, device string) net.HardwareAddr {
	sum := sha256.Sum256([]byte(strings.Join([]string{string(o.Source), o.Network, o.ContainerID, o.IfName, device}, "\x00")))
	return append(net.HardwareAddr{first}, sum[:5]...)
}

// podHash stands for a pod in addresses and in the names of locks, in three bytes.
// Two pods that share one only wait for each other.
func podHash(containerID string) []byte {
	sum := sha256.Sum256([]byte(word(containerID)))
	return sum[:3]
}

// halfMade says whether a device is a tap's that has no owner yet, because it is
// being made, or because its making was cut short; and of which pod.
func halfMade(l *link) (pod []byte, ok bool) {
	a := l.address
	if !l.ours() || l.alias != "" || len(a) != 6 || a[0] != macInPod && a[0] != macAtNode || a[1] != macSecond {
		return nil, false
	}
	return a[2:5], true
}

// halfMadeFor says whether a device is half made for an owner's pod.
func (l *link) halfMadeFor(o Owner) bool {
	pod, ok := halfMade(l)
	return ok && bytes.Equal(pod, podHash(o.ContainerID))
}
