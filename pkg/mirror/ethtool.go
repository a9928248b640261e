package mirror

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Commands and numbers of linux/ethtool.h. A library that has them takes a megabyte of memory
// for the names of some sixty features, and a millisecond of each ADD.
const (
	ethtoolCount    = 0x37 // ETHTOOL_GSSET_INFO
	ethtoolNames    = 0x1b // ETHTOOL_GSTRINGS
	ethtoolRead     = 0x3a // ETHTOOL_GFEATURES
	ethtoolWrite    = 0x3b // ETHTOOL_SFEATURES
	featureStrings  = 4    // ETH_SS_FEATURES
	featureName     = 32   // bytes, ETH_GSTRING_LEN
	mostFeatures    = 1024 // the kernel has some sixty
	featuresInBlock = 32
)

// feature is one of a device's offloads, as ethtool shows it.
type feature struct {
	name              string
	bit               int
	active, available bool // available: it can be switched
}

// features lists a device's offloads. It works in the calling thread's network namespace.
func features(device string) ([]feature, error) {
	count := encode(struct {
		Command, Reserved uint32
		Sets              uint64
		Data              uint32
	}{Command: ethtoolCount, Sets: 1 << featureStrings})
	if err := ethtool(device, count); err != nil {
		return nil, err
	}
	n := int(number(count[16:]))
	if n > mostFeatures {
		return nil, fmt.Errorf("ethtool: %d features are too many", n)
	}
	blocks := (n + featuresInBlock - 1) / featuresInBlock
	names := append(encode([3]uint32{ethtoolNames, featureStrings, uint32(n)}), make([]byte, n*featureName)...)
	state := append(encode([2]uint32{ethtoolRead, uint32(blocks)}), make([]byte, blocks*16)...)
	if err := ethtool(device, names); err != nil {
		return nil, err
	}
	if err := ethtool(device, state); err != nil {
		return nil, err
	}
	var out []feature
	for bit := range n {
		// struct ethtool_get_features_block: available, requested, active, never changed.
		block, mask := state[8+16*(bit/featuresInBlock):], uint32(1)<<(bit%featuresInBlock)
		out = append(out, feature{unix.ByteSliceToString(names[12+bit*featureName:][:featureName]), bit,
			number(block[8:])&mask != 0, number(block)&^number(block[12:])&mask != 0})
	}
	return out, nil
}

// switchFeatures switches some of a device's n features; on says which way, by their bits. What
// a device does not do the kernel tells by a positive number, and CHECK by its look. It works in the calling thread's network namespace.
func switchFeatures(device string, n int, on map[int]bool) error {
	blocks := (n + featuresInBlock - 1) / featuresInBlock
	request := append(encode([2]uint32{ethtoolWrite, uint32(blocks)}), make([]byte, blocks*8)...)
	for bit, value := range on {
		// struct ethtool_set_features_block: valid, requested.
		block, mask := request[8+8*(bit/featuresInBlock):], uint32(1)<<(bit%featuresInBlock)
		binary.NativeEndian.PutUint32(block, number(block)|mask)
		if value {
			binary.NativeEndian.PutUint32(block[4:], number(block[4:])|mask)
		}
	}
	return ethtool(device, request)
}

// ethtool makes one request for a device; the answer comes into the same bytes.
func ethtool(device string, data []byte) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("ethtool: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	request := struct { // struct ifreq
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(unsafe.SliceData(data))}
	copy(request.name[:unix.IFNAMSIZ-1], device)
	var pinned runtime.Pinner
	pinned.Pin(unsafe.SliceData(data))
	defer pinned.Unpin()
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return fmt.Errorf("ethtool: %w", errno)
	}
	return nil
}
