package tap

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestHowManyPacketsAreCopiedIsRead(t *testing.T) {
	for value, want := range map[string]uint32{"1": 1, "2": 2, "100": 100, "1000000": MaxSampleRate} {
		equal(t, "sampleRate "+value, one(t, "{veth: {}, sampleRate: "+value+"}").SampleRate, want)
	}
	const allowed = " is not allowed; it must be a whole number from 1 to 1000000"
	for value, shown := range map[string]string{
		"0": "0", "-1": "-1", "1000001": "1000001",
		"4294967297": "4294967297", "18446744073709551617": "18446744073709551617", // 1 in 32 and in 64 bits
		"0.1": "0.1", "1e3": "1e3", "010": "010", "'10'": `"10"`, "1/10": `"1/10"`, "10%": `"10%"`, "true": "true", "": "nothing",
		"[10]": "a list of 1", "{a: 1}": "an object of 1 fields",
	} {
		onlyMistake(t, "veth:\nsampleRate: "+value, "sampleRate", "tap 1: sampleRate: "+shown+allowed)
	}
}

func TestHowMuchOfAPacketIsCopiedIsRead(t *testing.T) {
	for value, want := range map[string]uint16{"0": 0, "64": MinSnapLength, "96": 96, "65535": MaxSnapLength} {
		equal(t, "snapLength "+value, one(t, "{veth: {}, snapLength: "+value+"}").SnapLength, want)
	}
	const allowed = " is not allowed; it must be 0 for whole packets, or a whole number from 64 to 65535"
	for value, shown := range map[string]string{
		"1": "1", "63": "63", "65536": "65536", "-1": "-1", "-64": "-64",
		"65632": "65632", "4294967392": "4294967392", "18446744073709551712": "18446744073709551712", // 96 in 16, 32 and 64 bits
		"96.0": "96.0", "0x60": "0x60", "'96'": `"96"`, "whole": `"whole"`, "false": "false", "": "nothing",
		"[96]": "a list of 1", "{}": "an object of 0 fields",
	} {
		onlyMistake(t, "veth:\nsnapLength: "+value, "snapLength", "tap 1: snapLength: "+shown+allowed)
	}
}

func TestWhatTheCopiesMayHaveTogetherIsRead(t *testing.T) {
	for value, want := range map[string]Bitrate{
		"64k": MinBitrate, "100M": 100_000_000, `"100M"`: 100_000_000, "1500k": 1_500_000, "1T": MaxBitrate,
		// A plain number is of bits per second, quoted or not.
		"64000": MinBitrate, "100000000": 100_000_000, "'100000000'": 100_000_000, "1000000000000": MaxBitrate,
	} {
		equal(t, "maxBitrate "+value, one(t, "{veth: {}, maxBitrate: "+value+"}").MaxBitrate, want)
	}
	const allowed = " is not allowed; it must be a bitrate such as 100M, or a whole number of bits per second, from 64k to 1T; left out for no limit"
	for value, shown := range map[string]string{
		"fast": `"fast"`, "100m": `"100m"`, "1.5M": `"1.5M"`, "100 M": `"100 M"`, "100Mbit": `"100Mbit"`, "63k": `"63k"`, "2T": `"2T"`, "0M": `"0M"`,
		"0": "0", "63999": "63999", "1000000000001": "1000000000001", "-100000000": "-100000000",
		"18446744073809551616": "18446744073809551616", // 100M in 64 bits
		"1e8":                  "1e8", "100000000.0": "100000000.0", "0100000000": "0100000000", "100_000_000": "100_000_000",
		"''": `""`, "": "nothing", "true": "true", "[100M]": "a list of 1", "{max: 100M}": "an object of 1 fields",
	} {
		onlyMistake(t, "veth:\nmaxBitrate: "+value, "maxBitrate", "tap 1: maxBitrate: "+shown+allowed)
	}
}

// A network configuration comes decoded, with numbers as JSON has them.
func TestNumbersOfJSONAreReadAsThoseOfYAML(t *testing.T) {
	fields := func(rate, length, bitrate any) any {
		return map[string]any{"veth": nil, "sampleRate": rate, "snapLength": length, "maxBitrate": bitrate}
	}
	taps, err := FromTree(fields(json.Number("10"), json.Number("96"), json.Number("100000000")))
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "taps", taps, []Tap{{Direction: Both, SampleRate: 10, SnapLength: 96, MaxBitrate: 100_000_000, Veth: &Veth{}}})
	_, err = FromTree(fields(json.Number("1e1"), json.Number("96.0"), json.Number("1e8")))
	for _, words := range []string{"sampleRate: 1e1 is not allowed", "snapLength: 96.0 is not allowed", "maxBitrate: 1e8 is not allowed"} {
		if err == nil || !strings.Contains(err.Error(), words) {
			t.Errorf("error %v lacks %q", err, words)
		}
	}
}

func TestWhatHappensToCopiesThatDoNotFitIsRead(t *testing.T) {
	for _, c := range []struct {
		fields string
		want   Oversize
	}{
		{"oversize: fit", Fit},
		{"oversize: fragment", Fragment},
		{"oversize: refuse", Refuse},
		{"placement: node, oversize: fit", Fit},
		{"placement: pod, oversize: fragment", Fragment},
		{"placement: pod, oversize: refuse", Refuse},
	} {
		equal(t, c.fields, one(t, "vxlan: {vni: 1, remote: 198.18.0.9, "+c.fields+"}").VXLAN.Oversize, c.want)
	}
}

func TestCopiesAreMadeToFitAndCutOnTheNodeOnly(t *testing.T) {
	const inPod = "vxlan: {vni: 1, remote: 198.18.0.9, placement: pod"
	onlyMistake(t, inPod+", oversize: fit}", "vxlan.oversize",
		`tap 1: vxlan.oversize: "fit" is not allowed; placement pod knows only fragment and refuse; use placement node`)
	onlyMistake(t, "{snapLength: 96, "+inPod+"}}", "snapLength",
		"tap 1: snapLength: does not go with placement pod, because the cut is made on the node; use placement node, or a veth")
	// Whole packets are no cut, and the other bounds go with any placement.
	for _, fields := range []string{"snapLength: 0", "sampleRate: 10, maxBitrate: 100M"} {
		one(t, "{"+fields+", "+inPod+"}}")
	}
	for _, sink := range []string{"veth: {}", "vxlan: {vni: 1, remote: 198.18.0.9}", "vxlan: {vni: 1, remote: 198.18.0.9, placement: node, oversize: fit}"} {
		equal(t, sink, one(t, fmt.Sprintf("{snapLength: 96, %s}", sink)).SnapLength, uint16(96))
	}
	// A cut that is a mistake itself is one mistake, not two.
	onlyMistake(t, "{snapLength: 5, "+inPod+"}}", "snapLength", "5 is not allowed; it must be 0 for whole packets")
}
