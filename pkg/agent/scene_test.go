package agent

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/podtap/podtap/api/node"
	"github.com/podtap/podtap/internal/lab"
	"github.com/podtap/podtap/pkg/mirror"
	"github.com/podtap/podtap/pkg/tap"
)

// scene is a node with two pods.
type scene struct {
	t         *testing.T
	node      *lab.Host
	pod, next *lab.Pod
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{t: t, node: lab.NewNetwork(t, "", 1500).Host("node")}
	s.pod, s.next = s.node.Pod("pod", 1450), s.node.Pod("next", 1450)
	return s
}

// tap makes a pod's taps, as the plugin would.
func (s *scene) tap(at *lab.Pod, id, name, text string) []mirror.Made {
	s.t.Helper()
	taps, err := tap.Parse([]byte(text))
	if err == nil {
		err = tap.Complete(taps, "eth0", func(string) bool { return false })
	}
	if err != nil {
		s.t.Fatal(err)
	}
	var made []mirror.Made
	s.node.Do(func() error {
		n, err := mirror.OpenNode()
		if err != nil {
			return err
		}
		defer n.Close()
		p, err := n.OpenPod(at.Path())
		if err != nil {
			return err
		}
		defer p.Close()
		for _, t := range taps {
			m, err := p.Add(mirror.Owner{Source: mirror.SourceCNI, Network: "net", ContainerID: id, IfName: "eth0"}, t, name)
			if err != nil {
				return err
			}
			made = append(made, m)
		}
		return nil
	})
	return made
}

// date is what the alias of a device has for the time when it was made.
var date = regexp.MustCompile(` at=\d+`)

// age makes a tap older than it is; without an age, as an older podtap would have made it.
func (s *scene) age(at *lab.Pod, m mirror.Made, by time.Duration) {
	s.t.Helper()
	written := ""
	if by != 0 {
		written = " at=" + strconv.FormatInt(time.Now().Add(-by).Unix(), 10)
	}
	change := func(in *lab.Space, device string) {
		l := in.Link(device)
		if err := in.Netlink.LinkSetAlias(l, date.ReplaceAllString(l.Attrs().Alias, written)); err != nil {
			s.t.Fatal(err)
		}
	}
	change(at.Space, m.Device.Name)
	if m.Host != nil {
		change(s.node.Space, m.Host.Name)
	}
}

// inventory lists the node's taps, as podtapd would.
func (s *scene) inventory() (out node.Taps, err error) {
	s.node.Do(func() error {
		n, err := mirror.OpenNode()
		if err != nil {
			return err
		}
		defer n.Close()
		list, err := n.List()
		for _, t := range list.Taps {
			namespace, name, _ := strings.Cut(t.Pod, "/")
			out.Taps = append(out.Taps, node.Tap{Pod: t.Pod, Namespace: namespace, Name: name, ContainerID: t.Owner.ContainerID, NetNS: t.NetNS,
				Device: t.Device, Interface: t.Interface, Direction: t.Direction, Sink: t.Sink, Placement: t.Placement, Destination: t.Destination})
		}
		return err
	})
	return out, err
}
