package report

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
)

// introduction says how the numbers came about.
const introduction = `# What podtap costs

` + "`make bench`" + ` wrote this file, but for the notes at its end, which a person wrote and
which stay. It needs Go, git and make, no root where ordinary users may have user
namespaces, and takes about two minutes; run it on a machine with nothing else to do.

The plugins are called through libcni, as a container runtime calls them, on nodes
and in pods made of network namespaces. What is timed is the plugin's whole process:
from before it is started until it has ended and its answer is read. In each round
every case has its turn, with ADD, CHECK and DEL one after the other, in an order
that is shuffled anew; so what slows the machine down slows all of them. The first
rounds do not count. Before the first round and after the last one every case is
checked to do what it is measured for: its devices are there, the pod's packets are
copied to each mirror, and DEL leaves nothing.

For comparison there is containernetworking's own ` + "`bandwidth`" + `: it is chained in the same
place, and also works on devices, qdiscs and filters. Its DEL leaves to the end of
the pod's cable what podtap's has to remove.
`

const opening, closing = "<!-- notes -->", "<!-- /notes -->"

// Kept is the notes of the document at a path, which need not be there yet.
func Kept(path string) (string, error) {
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read the notes of the last run: %w", err)
	}
	notes, err := notes(string(old))
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return notes, nil
}

// notes is what stands between the markers of a document; just a line break where
// it has none. It fails where only one of the markers is left, lest the notes get
// lost.
func notes(document string) (string, error) {
	_, rest, opened := strings.Cut(document, opening)
	text, _, closed := strings.Cut(rest, closing)
	switch {
	case opened && closed:
		return text, nil
	case opened || strings.Contains(document, closing):
		return "", errors.New("the notes need both markers, " + opening + " before them and " + closing + " after; restore the missing one")
	}
	return "\n", nil
}
