package inventory

import (
	"encoding/json"
	"errors"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/mirror"
	"github.com/podtap/podtap/pkg/tap"
)

func TestMain(m *testing.M) {
	_ = os.Setenv("GORACE", "atexit_sleep_ms=0 "+os.Getenv("GORACE"))
	lab.Main(m.Run, false)
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestWhatIsUnknownIsLeftOut(t *testing.T) {
	for name, c := range map[string]struct {
		list mirror.List
		want string
	}{
		"nothing": {mirror.List{}, `{"taps":[],"senders":[]}`},
		"a tap without counters": {mirror.List{Taps: []mirror.ListedTap{{Pod: "no-slash", Device: "mirror"}}},
			`{"taps":[{"pod":"no-slash","device":"mirror","directions":[]}],"senders":[]}`},
		"bytes": {mirror.List{Taps: []mirror.ListedTap{{Pod: "a/b", Counters: []mirror.Counters{{Direction: tap.Egress, Segments: true,
			Matched: mirror.Amount{Packets: 3, Bytes: 30}, Copied: mirror.Amount{Packets: 2, BytesUnknown: true},
			Dropped: map[string]mirror.Amount{mirror.DropMirror: {Packets: 1, BytesUnknown: true}}}}}}},
			`{"taps":[{"pod":"a/b","namespace":"a","name":"b","directions":[{"direction":"egress","matched":{"packets":3,"bytes":30},"copied":{"packets":2},"dropped":{"mirror":{"packets":1}},"unit":"segments"}]}],"senders":[]}`},
		"what a filter passed over, and a sample left out": {mirror.List{Taps: []mirror.ListedTap{{Device: "m", Counters: []mirror.Counters{
			{Direction: tap.Egress, PassedOver: &mirror.Amount{Packets: 5, Bytes: 50}, SampledOut: &mirror.Amount{Packets: 4, Bytes: 40}}, {Direction: tap.Ingress, SampledOut: &mirror.Amount{}}}}}},
			`{"taps":[{"device":"m","directions":[{"direction":"egress","passedOver":{"packets":5,"bytes":50},"sampledOut":{"packets":4,"bytes":40},"matched":{"packets":0,"bytes":0},"copied":{"packets":0,"bytes":0},"dropped":{},"unit":"packets"},` +
				`{"direction":"ingress","sampledOut":{"packets":0,"bytes":0},"matched":{"packets":0,"bytes":0},"copied":{"packets":0,"bytes":0},"dropped":{},"unit":"packets"}]}],"senders":[]}`},
		"what a deleted sender sent": {mirror.List{Senders: []mirror.Sender{{Device: "x", Taps: 1, Missing: true}, {Device: "y"}}},
			`{"taps":[],"senders":[{"device":"x","taps":1,"missing":true,"dropped":{}},{"device":"y","taps":0,"sent":{"packets":0,"bytes":0},"dropped":{}}]}`},
	} {
		if got := asJSON(t, Of(c.list)); got != c.want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, c.want)
		}
	}
}

func TestWhatCopiesLoseAndGainIsToldWhereTheyAreTrimmedOrCapped(t *testing.T) {
	trimmed := mirror.Trimmed{Cut: mirror.Amount{Packets: 7, Bytes: 700}, Segments: 6, Lost: 5}
	for name, c := range map[string]struct {
		tap  mirror.ListedTap
		want string
	}{
		"trimmed":         {mirror.ListedTap{NetNS: "/n", SnapLength: 96, Trimmed: &trimmed}, `"netns":"/n","snapLength":96,"directions":[],"cut":{"packets":7,"bytes":700},"segmentsAdded":6,"lost":{"packets":5}`},
		"made to fit":     {mirror.ListedTap{NetNS: "/n", Trimmed: &mirror.Trimmed{}}, `"netns":"/n","directions":[],"cut":{"packets":0,"bytes":0},"segmentsAdded":0,"lost":{"packets":0}`},
		"capped":          {mirror.ListedTap{NetNS: "/n", MaxBitrate: 10_000_000, Capped: 4, Lost: 3}, `"netns":"/n","maxBitrate":10000000,"directions":[],"capped":{"packets":4},"lost":{"packets":3}`},
		"both":            {mirror.ListedTap{NetNS: "/n", MaxBitrate: 64_000, Trimmed: &trimmed, Lost: 3}, `"netns":"/n","maxBitrate":64000,"directions":[],"cut":{"packets":7,"bytes":700},"segmentsAdded":6,"capped":{"packets":0},"lost":{"packets":8}`},
		"of no namespace": {mirror.ListedTap{SnapLength: 96, Trimmed: &trimmed}, `"snapLength":96,"directions":[],"cut":{"packets":7,"bytes":700},"segmentsAdded":6`},
		"whole":           {mirror.ListedTap{NetNS: "/n"}, `"netns":"/n","directions":[]`},
	} {
		if got, want := asJSON(t, Of(mirror.List{Taps: []mirror.ListedTap{c.tap}})), `{"taps":[{`+c.want+`}],"senders":[]}`; got != want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, want)
		}
	}
}

func TestTheTapsOfANodeAreRead(t *testing.T) {
	n := lab.NewNetwork(t, "", 1500)
	host := n.Host("node")
	pod := host.Pod("pod", 1430)
	host.Do(func() error {
		opened, err := mirror.OpenNode()
		if err != nil {
			t.Fatal(err)
		}
		defer opened.Close()
		inPod, err := opened.OpenPod(pod.Path())
		if err != nil {
			t.Fatal(err)
		}
		defer inPod.Close()
		taps, err := tap.Parse([]byte("veth: {hostInterface: sensor0}"))
		if err == nil {
			err = tap.Complete(taps, "eth0", func(string) bool { return false })
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := inPod.Add(mirror.Owner{Source: mirror.SourceCNI, Network: "pods", ContainerID: "c1", IfName: "eth0"}, taps[0], "default/web"); err != nil {
			t.Fatal(err)
		}
		got, err := Read()
		if err != nil || len(got.Taps) != 1 || len(got.Senders) != 0 || len(got.Errors) != 0 {
			t.Fatalf("%v: %+v", err, got)
		}
		is := got.Taps[0]
		if is.Pod != "default/web" || is.Namespace != "default" || is.Name != "web" || is.Sink != tap.SinkVeth || is.Destination != "sensor0" ||
			is.Node != "" || len(is.Directions) != 2 || time.Since(is.Since) > time.Minute || is.Since.Location() != time.UTC {
			t.Errorf("%+v", is)
		}
		return nil
	})
}

func TestAnErrorIsTheKernels(t *testing.T) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	none := limit
	none.Cur = 0
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	got, err := Read()
	if e := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); e != nil {
		t.Fatal(e)
	}
	if !errors.Is(err, unix.EMFILE) || asJSON(t, got) != `{"taps":[],"senders":[]}` {
		t.Errorf("%v: %+v", err, got)
	}
}
