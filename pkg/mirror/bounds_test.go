package mirror

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// makeActions makes mirrors that no rule has, as a pod may that administers its network.
func makeActions(t *testing.T, p *Pod, n int) {
	t.Helper()
	const atOnce = 32 // TCA_ACT_MAX_PRIO
	for done := 0; done < n; done += atOnce {
		table := nl.NewRtAttr(actionTable, nil)
		for i := range min(atOnce, n-done) {
			a := table.AddRtAttr(i+1, nil)
			a.AddRtAttr(nl.TCA_ACT_KIND, nl.ZeroTerminated("mirred"))
			a.AddRtAttr(nl.TCA_ACT_OPTIONS, nil).AddRtAttr(nl.TCA_MIRRED_PARMS, encode(mirredParameters{actionParameters{Action: actPipe}, mirredMirror, 1}))
		}
		if err := p.request(unix.RTM_NEWACTION, unix.NLM_F_CREATE, tcamsg{}, table); err != nil {
			t.Fatal(err)
		}
	}
}

// quickest is the shortest time of several.
func quickest(t *testing.T, do func() error) time.Duration {
	t.Helper()
	var took []time.Duration
	for range 5 {
		begin := time.Now()
		if err := do(); err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Since(begin))
	}
	return slices.Min(took)
}

func TestAPodWithManyMirrorsIsListedWithoutCounters(t *testing.T) {
	s := newScene(t, 1430, 1500)
	node, p := open(t, s.node, s.pod)
	_, q := open(t, s.node, s.node.Pod("z-other", 1430))
	for _, text := range []string{"veth: {}", "{device: far, vxlan: {vni: 7, remote: 198.18.0.9, placement: pod}}"} {
		add(t, p, ownerOf("c1"), parse(t, "%s", text))
	}
	add(t, q, ownerOf("c2"), parse(t, "veth: {}"))
	const many = 40000
	makeActions(t, p, many)
	all := quickest(t, func() error {
		list, err := p.actions("mirred", 2*many)
		if len(list) < many {
			t.Errorf("there are %d mirrors", len(list))
		}
		return err
	})
	var list List
	listing := quickest(t, func() error {
		var err error
		list, err = node.List()
		if err == nil || !strings.Contains(err.Error(), s.pod.Path()) || !errors.Is(err, errTooMuch) {
			t.Fatalf("error is %v, want one that names the pod's namespace", err)
		}
		return nil
	})
	t.Logf("all mirrors take %v, the list %v", all, listing)
	if listing > all {
		t.Errorf("the list takes %v, to read all of one pod's mirrors %v", listing, all)
	}
	if len(list.Taps) != 3 {
		t.Fatalf("listed are %+v", list.Taps)
	}
	for _, is := range list.Taps {
		if has := len(is.Counters) > 0; has != (is.Owner == ownerOf("c2")) || is.NetNS == "" || is.Destination == "" {
			t.Errorf("listed is %+v", is)
		}
	}
}

// What has more to tell than a few answers is given up when its time is over.
func TestALongAnswerIsGivenUpAfterItsTime(t *testing.T) {
	s := newScene(t, 1430, 1500)
	_, p := open(t, s.node, s.pod)
	makeActions(t, p, 3000)
	p.socket.until, p.socket.reads = time.Now().Add(-time.Second), 0
	if links, err := p.links(); err != nil || len(links) == 0 {
		t.Errorf("a short answer: %v", err)
	}
	if _, err := p.actions("mirred", maxActions); !errors.Is(err, errTooMuch) {
		t.Errorf("a long answer: %v", err)
	}
	if err := p.reopen(); err != nil {
		t.Fatal(err)
	}
	if links, err := p.links(); err != nil && !errors.Is(err, errTooMuch) || err == nil && len(links) == 0 {
		t.Errorf("with a new socket: %v", err)
	}
	p.socket.until = time.Time{}
	if list, err := p.actions("mirred", maxActions); err != nil || len(list) < 3000 {
		t.Errorf("with no limit %d are read: %v", len(list), err)
	}
}

// Taps of placement pod are the pods' word. Alone they would look like all there is.
func TestWhereTheNodesDevicesCannotBeReadNothingIsListed(t *testing.T) {
	s := newScene(t, 1430, 1500)
	node, p := open(t, s.node, s.pod)
	add(t, p, ownerOf("c1"), parse(t, "vxlan: {vni: 7, remote: 198.18.0.9, placement: pod}"))
	once := errInjected
	node.socket.before = func(kind int) error {
		err := once
		if once = nil; kind != unix.RTM_GETLINK && err != nil {
			t.Errorf("the first request is of kind %d", kind)
		}
		return err
	}
	if list, err := node.List(); !errors.Is(err, errInjected) || len(list.Taps)+len(list.Senders) > 0 {
		t.Errorf("listed are %+v, error %v", list, err)
	}
	if list := listOf(t, node); len(list.Taps) != 1 {
		t.Errorf("afterwards listed are %+v", list)
	}
}
