package mirror

import (
	"strings"
	"testing"
)

// offloads are those that the tap's device has.
func (s *scene) offloads(t *testing.T) string {
	t.Helper()
	var on []string
	s.pod.Do(func() error {
		list, err := features("mirror")
		for _, f := range list {
			if f.active {
				on = append(on, "offload "+f.name)
			}
		}
		return err
	})
	if len(on) == 0 {
		t.Fatal("a veth without any offload shows nothing")
	}
	return strings.Join(on, "\n")
}

// CHECK sees whether copies are sampled, cut, capped and made to fit as the tap asks.
func TestCheckSeesHowCopiesAreTrimmedSampledAndCapped(t *testing.T) {
	needsEBPF(t)
	s := newScene(t, 1450, 1500)
	_, p := open(t, s.node, s.pod)
	const made = "filter: udp, sampleRate: 4, snapLength: 96, maxBitrate: 10M"
	for _, v := range []struct{ text, fit string }{
		{"veth: {}", ""}, {"vxlan: {vni: 100, remote: COLLECTOR4}", "vxlan: {vni: 100, remote: COLLECTOR4, oversize: fragment}"},
	} {
		t.Run(v.text, func(t *testing.T) {
			add(t, p, ownerOf("c1"), s.want(t, v.text, made))
			healthy(t, p, ownerOf("c1"), s.want(t, v.text, made))
			for other, problem := range map[string]string{
				"filter: udp, sampleRate: 5, snapLength: 96, maxBitrate: 10M": "its rule has another program",
				"filter: udp, snapLength: 96, maxBitrate: 10M":                "its rule has another program",
				"filter: udp, sampleRate: 4, maxBitrate: 10M":                 "keeps 96 bytes of copies instead of all",
				"filter: udp, sampleRate: 4, snapLength: 97, maxBitrate: 10M": "keeps 96 bytes of copies instead of 97 bytes",
				"filter: udp, sampleRate: 4, snapLength: 96, maxBitrate: 20M": "is capped at 10M instead of 20M",
				"filter: udp, sampleRate: 4, snapLength: 96":                  "is capped at 10M instead of nothing",
			} {
				s.expectCheck(t, p, s.want(t, v.text, other), problem)
			}
			if v.fit != "" {
				s.expectCheck(t, p, s.want(t, v.fit, made), "makes copies fit the path, which the tap does not ask for")
			}
			remove(t, p, ownerOf("c1"))
		})
	}
}

// What somebody in the pod, or on the node, has changed of it, CHECK sees without the tap's text.
func TestCheckSeesWhatIsDamagedOfATrimmedTap(t *testing.T) {
	needsEBPF(t)
	for name, c := range map[string]struct {
		damage  func(s *scene, p *Pod, made Made)
		problem string
	}{
		"super-packets are let through": {func(s *scene, _ *Pod, _ Made) {
			s.pod.Offloads("mirror", true, "tx-udp-segmentation")
		}, "has tx-udp-segmentation switched on"},
		"another relay": {func(s *scene, p *Pod, made Made) {
			host := asLink(s.node.Link(made.Host.Name))
			at, err := p.node.trimAt(host)
			next := at.Spec
			next.Relay = host.index
			if err == nil {
				err = p.node.setTrim(host, at, next)
			}
			if err != nil {
				t.Fatal(err)
			}
		}, "sends parts of copies to another device than the relay"},
		"a rule that counts is gone": {func(s *scene, p *Pod, _ Made) {
			rules, err := p.rules(s.pod.Link("eth0").Attrs().Index, hookEgress)
			for _, r := range rules {
				if err == nil && r.mirred.role() == ofMatched {
					err = p.deleteRule(r)
				}
			}
			if err != nil {
				t.Fatal(err)
			}
		}, "has 0 rules that only count, instead of 1"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, 1450, 1500)
			_, p := open(t, s.node, s.pod)
			made := add(t, p, ownerOf("c1"), s.want(t, "vxlan: {vni: 100, remote: COLLECTOR4}", "sampleRate: 2"))
			if problems, err := p.CheckOwned(ownerOf("c1")); err != nil || len(problems) > 0 {
				t.Fatalf("a whole tap: %q (%v)", problems, err)
			}
			c.damage(s, p, made)
			if problems, err := p.CheckOwned(ownerOf("c1")); err != nil || len(problems) != 1 || !strings.Contains(problems[0], c.problem) {
				t.Errorf("CHECK says %q (%v), want %q", problems, err, c.problem)
			}
		})
	}
}

func TestCheckSeesCopiesThatAreNotMadeToFit(t *testing.T) {
	needsEBPF(t)
	s := newScene(t, 1450, 1500)
	_, p := open(t, s.node, s.pod)
	add(t, p, ownerOf("c1"), s.want(t, "vxlan: {vni: 100, remote: COLLECTOR4, oversize: fragment}", "direction: both"))
	s.expectCheck(t, p, s.want(t, "vxlan: {vni: 100, remote: COLLECTOR4, oversize: fit}", "direction: both"), "does not make copies fit the path")
	// Of a tap that leaves it open nobody can tell what the kernel could do when it was made.
	healthy(t, p, ownerOf("c1"), s.want(t, variants[1].text, "direction: both"))
}
