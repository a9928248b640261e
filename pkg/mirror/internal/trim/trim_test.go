package trim

import (
	"testing"

	"github.com/cilium/ebpf"
)

func TestPrograms(t *testing.T) {
	m, err := ebpf.NewMap(Map())
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for _, s := range []Spec{{Snap: 96}, {Path: 1464, Longest: 1514, Relay: 1}, {Path: 1464, Longest: 9014, Relay: 1}, {Snap: 2000, Path: 1464}, {Snap: 96, Path: 1464, Longest: 1514}} {
		p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, Name: "podtap_trim", License: "Apache-2.0", Instructions: Relay(s, m.FD())})
		if err != nil {
			t.Errorf("%+v: %+v", s, err)
			continue
		}
		i, _ := p.Info()
		t.Log(s, len(Relay(s, m.FD())), i.Name)
		p.Close()
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.XDP, Name: "podtap_64", License: "Apache-2.0", Instructions: Veth(Spec{Snap: 64}, m.FD())})
	if err != nil {
		t.Fatalf("%+v", err)
	}
	p.Close()
}
