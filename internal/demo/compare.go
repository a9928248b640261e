package demo

import "fmt"

// row compares packets of one kind and direction at the pod with their copies.
type row struct {
	kind      kind
	sent      bool // by the pod; else received
	judged    bool // must be exact; what the network says by itself need not
	want      int  // as many as the demo's traffic has
	atPod     int  // seen on the pod's interface
	copied    int  // arrived at the collector
	identical int  // copies that equal a packet at the pod, byte for byte
}

// compare counts packets at the pod and their copies. The rows say which kinds
// are judged, and how many of each there must be; other kinds get rows of their own.
func compare(rows []row, atPod, copies []packet) []row {
	type class struct {
		kind kind
		sent bool
	}
	index := map[class]int{}
	for i, r := range rows {
		index[class{r.kind, r.sent}] = i
	}
	rowOf := func(p packet) *row {
		c := class{p.kind, p.sent}
		if _, known := index[c]; !known {
			index[class{p.kind, false}], index[class{p.kind, true}] = len(rows), len(rows)+1
			rows = append(rows, row{kind: p.kind}, row{kind: p.kind, sent: true})
		}
		return &rows[index[c]]
	}
	rows = append([]row(nil), rows...)
	originals := map[string]int{}
	for _, p := range atPod {
		rowOf(p).atPod++
		originals[p.data]++
	}
	for _, p := range copies {
		r := rowOf(p)
		r.copied++
		if originals[p.data] > 0 {
			originals[p.data]--
			r.identical++
		}
	}
	return rows
}

// wrong says what is wrong with a row; "" where nothing is.
func (r row) wrong() string {
	what := fmt.Sprintf("%s packets %s by the pod", r.kind, r.direction())
	switch {
	case !r.judged:
		return ""
	case r.atPod != r.want:
		return fmt.Sprintf("%d %s, not %d: the network between the pods failed, not the tap", r.atPod, what, r.want)
	case r.copied != r.atPod:
		return fmt.Sprintf("%d %s, but %d copies", r.atPod, what, r.copied)
	case r.identical != r.copied:
		return fmt.Sprintf("%d copies of %s, but only %d identical to them", r.copied, what, r.identical)
	}
	return ""
}

func (r row) direction() string {
	if r.sent {
		return "sent"
	}
	return "received"
}

// total sums up the judged rows: packets that were to be copied, and faithful copies.
func total(rows []row) (want, identical int) {
	for _, r := range rows {
		if r.judged {
			want += r.want
			identical += r.identical
		}
	}
	return want, identical
}
