package tap

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/podtap/podtap/pkg/pcapfilter"
)

// refuseCopies notes the fields that say what is copied, of a tap that copies nothing.
func refuseCopies(o *object) {
	for _, name := range []string{"direction", "filter", "sampleRate", "snapLength", "maxBitrate"} {
		if _, present := o.fields[name]; present {
			o.mistake(name, "does not go with a wire, which copies nothing")
		}
	}
}

// parseFilter reads an expression that the compiler takes.
func parseFilter(o *object) string {
	const allowed = "a pcap-filter(7) expression, such as tcp port 443; left out for all packets"
	filter := o.text("filter", allowed)
	if filter != "" && strings.TrimSpace(filter) == "" {
		o.bad("filter", filter, allowed)
	}
	if _, err := pcapfilter.Compile(filter, pcapfilter.Kernel); err != nil {
		o.mistake("filter", err.Error())
	}
	return filter
}

// parseSnapLength reads how many bytes are kept of a copy. A cut within the headers would
// leave nothing that a collector could read.
func parseSnapLength(o *object) uint16 {
	const name = "snapLength"
	v, present := o.take(name)
	if !present {
		return 0
	}
	n, ok := wholeNumber(v)
	if !ok || n != 0 && (n < MinSnapLength || n > MaxSnapLength) {
		o.bad(name, v, fmt.Sprintf("0 for whole packets, or a whole number from %d to %d", MinSnapLength, MaxSnapLength))
		return 0
	}
	return uint16(n)
}

// parseMaxBitrate reads a cap, as ParseBitrate does, or as a plain number.
func parseMaxBitrate(o *object) Bitrate {
	const name = "maxBitrate"
	v, present := o.take(name)
	if !present {
		return 0
	}
	text, _ := v.(string)
	if n, ok := wholeNumber(v); ok {
		text = strconv.FormatInt(n, 10)
	}
	b, ok := ParseBitrate(text)
	if !ok {
		o.bad(name, v, fmt.Sprintf("a bitrate such as 100M, or a whole number of bits per second, from %s to %s; left out for no limit", MinBitrate, MaxBitrate))
	}
	return b
}
