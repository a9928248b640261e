package tap

import (
	"encoding/json"
	"testing"
)

func TestABitrateIsAWholeNumberWithAPrefixOrWithout(t *testing.T) {
	for text, want := range map[string]Bitrate{
		"64000":         64_000,
		"64001":         64_001,
		"100000000":     100_000_000,
		"999999999999":  999_999_999_999,
		"1000000000000": 1_000_000_000_000,
		"64k":           64_000,
		"1500k":         1_500_000,
		"1000000000k":   1_000_000_000_000,
		"1M":            1_000_000,
		"100M":          100_000_000,
		"1000000M":      1_000_000_000_000,
		"1G":            1_000_000_000,
		"1000G":         1_000_000_000_000,
		"1T":            1_000_000_000_000,
	} {
		if b, ok := ParseBitrate(text); !ok || b != want {
			t.Errorf("ParseBitrate(%q) = %d, %v, want %d", text, b, ok, want)
		}
	}
}

func TestWhatIsNoBitrateOrOutOfItsBoundsIsRefused(t *testing.T) {
	for what, texts := range map[string][]string{
		"nothing":       {"", "k", "M", "G", "T"},
		"too little":    {"0", "0k", "0M", "0T", "1", "63999", "63k"},
		"too much":      {"1000000000001", "1000000001k", "1000001M", "1001G", "2T"},
		"above 64 bits": {"18446744073709551616", "18446744073709651616", "18446744073709651616k", "99999999999999999999999T"},
		"above 64 bits once multiplied, where it would come out within the bounds": {"18446744073709652k", "18446744073800M", "18446744074G", "18446745T"},
		"no whole number": {"1.5M", "1,5M", "1.0M", "1e6", "1e2k", "0x10000", "1_000k", "1,000k"},
		"signed":          {"-100M", "+100M", "-0"},
		"spaced":          {" 100M", "100M ", "100 M", "100M\n", "\t100M", "100\u00a0M", " "},
		"no prefix of it": {"100m", "100K", "100g", "100t", "100P", "100Ki", "100Mi"},
		"two prefixes":    {"100kk", "100kM", "1kT"},
		"with a unit":     {"100Mbit", "100Mb", "100Mbps", "100M/s", "100bps"},
		"words":           {"fast", "100MB", "M100", "Inf", "NaN"},
		"other digits":    {"１００M", "٦٤k"},
	} {
		for _, text := range texts {
			if b, ok := ParseBitrate(text); ok {
				t.Errorf("%s: ParseBitrate(%q) = %d, want it refused", what, text, b)
			}
		}
	}
}

func TestABitrateIsWrittenWithTheLargestPrefixThatLeavesItWhole(t *testing.T) {
	for b, want := range map[Bitrate]string{
		0:                 "0",
		999:               "999",
		64_000:            "64k",
		64_001:            "64001",
		1_000_000:         "1M",
		1_001_000:         "1001k",
		1_500_000:         "1500k",
		100_000_000:       "100M",
		1_000_000_000:     "1G",
		2_500_000_000:     "2500M",
		999_999_999_999:   "999999999999",
		1_000_000_000_000: "1T",
		1_500_000_000_000: "1500G",
	} {
		equal(t, "text", b.String(), want)
		text, err := json.Marshal(b)
		if err != nil || string(text) != `"`+want+`"` {
			t.Errorf("%d is %s in JSON, %v; want %q", b, text, err, want)
		}
	}
}

func TestABitrateComesBackFromItsText(t *testing.T) {
	bitrates := []Bitrate{MinBitrate, MinBitrate + 1, MaxBitrate - 1, MaxBitrate}
	for power := Bitrate(100_000); power < MaxBitrate; power *= 10 {
		bitrates = append(bitrates, power-1, power, power+1, power+1_000, power*3/2, power*2)
	}
	for _, b := range bitrates {
		if again, ok := ParseBitrate(b.String()); !ok || again != b {
			t.Errorf("%d is written %q, which is read as %d, %v", b, b, again, ok)
		}
	}
}
