package tap

import (
	"fmt"
	"strconv"
	"strings"
)

// Bitrate is a number of bits per second, written with the decimal prefixes k, M, G or T:
// 100M is 100,000,000.
type Bitrate uint64

const (
	// MinBitrate and MaxBitrate bound a cap.
	MinBitrate Bitrate = 64_000
	MaxBitrate Bitrate = 1_000_000_000_000
)

// prefixes are those of the International System of Units, the largest first.
var prefixes = []struct {
	letter string
	factor Bitrate
}{{"T", 1e12}, {"G", 1e9}, {"M", 1e6}, {"k", 1e3}}

// String writes a bitrate as ParseBitrate reads it.
func (b Bitrate) String() string {
	for _, p := range prefixes {
		if b >= p.factor && b%p.factor == 0 {
			return fmt.Sprintf("%d%s", b/p.factor, p.letter)
		}
	}
	return strconv.FormatUint(uint64(b), 10)
}

// MarshalText writes a bitrate as ParseBitrate reads it.
func (b Bitrate) MarshalText() ([]byte, error) { return []byte(b.String()), nil }

// ParseBitrate reads a whole number of bits per second from MinBitrate to MaxBitrate, with a
// prefix or without.
func ParseBitrate(s string) (Bitrate, bool) {
	factor := Bitrate(1)
	for _, p := range prefixes {
		if rest, found := strings.CutSuffix(s, p.letter); found {
			s, factor = rest, p.factor
			break
		}
	}
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n > uint64(MaxBitrate/factor) || s[0] == '0' {
		return 0, false
	}
	b := Bitrate(n) * factor
	return b, b >= MinBitrate
}
