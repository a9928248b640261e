package trim

import (
	"testing"

	"github.com/cilium/ebpf"

	"github.com/podtap/podtap/internal/lab"
)

func TestMain(m *testing.M) { lab.Main(m.Run, false) }

func TestANameTellsWhatItsProgramIsFor(t *testing.T) {
	for _, s := range []Spec{
		{}, {Snap: 64}, {Snap: 65535}, {Path: 1464, Longest: 1514, Relay: 7}, {Snap: 96, Path: 1464, Longest: 9014}, {Path: 1, Longest: 2, Relay: 1<<31 - 1},
	} {
		if got, ok := ParseName(s.Name()); !ok || got != s {
			t.Errorf("%+v is read back as %+v, %t", s, got, ok)
		}
		if len(s.Name()) >= 256 { // CLS_BPF_NAME_LEN
			t.Errorf("%q has %d bytes", s.Name(), len(s.Name()))
		}
		short := Spec{Snap: s.Snap}
		if got, ok := ParseShortName(s.ShortName()); !ok || got != short {
			t.Errorf("%+v is read back as %+v, %t", short, got, ok)
		}
		if len(s.ShortName()) >= 16 { // BPF_OBJ_NAME_LEN
			t.Errorf("%q has %d bytes", s.ShortName(), len(s.ShortName()))
		}
	}
}

func TestOthersNamesAreNotTakenForPodtaps(t *testing.T) {
	good := Spec{Snap: 96, Path: 1464, Longest: 1514, Relay: 7}
	for _, name := range []string{
		"", "cil_to_container", "podtap", "podtap/1", "podtap/1 snap=96", good.Name() + " ", " " + good.Name(), good.Name() + "\n", good.Name() + " more",
		"podtap/2 snap=96 path=1464 longest=1514 relay=7", "podtap/1 snap=096 path=1464 longest=1514 relay=7", "podtap/1 snap=+96 path=1464 longest=1514 relay=7",
		"podtap/1  snap=96 path=1464 longest=1514 relay=7", "podtap/1 snap=96 path=1464 longest=1514 relay=x", "podtap/1 snap= path=1464 longest=1514 relay=7",
		"podtap/1 snap=99999999999999999999 path=1464 longest=1514 relay=7",
	} {
		if s, ok := ParseName(name); ok {
			t.Errorf("%q is taken for %+v", name, s)
		}
	}
	for _, name := range []string{"", "podtap", "podtap_", "podtap_trim", "podtap_x", "podtap_096", "podtap_+96", "podtap_ 96", "podtap_96 ", "podtap_96x", "Podtap_96", "podtap_0x60"} {
		if s, ok := ParseShortName(name); ok {
			t.Errorf("%q is taken for %+v", name, s)
		}
	}
}

// A second half is large enough for the first one to fit, a multiple of 4, and not larger
// than a program's stack holds.
func TestWhatTheSecondHalfTakesIsBounded(t *testing.T) {
	for path := 500; path < 1600; path++ {
		for _, longest := range []int{1, path - 1, path, path + 1, path + 50, path + 70, path + 73, path + 367, path + 368, path + 369, path + 9000} {
			n := int(Spec{Path: path, Longest: longest}.split())
			if n%4 != 0 || n < minSplit || n > maxSplit {
				t.Fatalf("of %d to %d bytes it takes %d", longest, path, n)
			}
			if over := longest - path; over <= maxSplit && n < over || n > minSplit && n > over+8 {
				t.Fatalf("of %d to %d bytes it takes %d", longest, path, n)
			}
		}
	}
}

func TestTheShorterLimitCounts(t *testing.T) {
	for _, c := range []struct {
		Spec
		limit       int
		trims, fits bool
	}{
		{Spec{}, 0, false, false}, {Spec{Snap: 96}, 96, true, false}, {Spec{Path: 1464}, 1464, true, true},
		{Spec{Snap: 96, Path: 1464}, 96, true, false}, {Spec{Snap: 9000, Path: 1464}, 1464, true, false},
	} {
		if c.limit != c.Spec.limit() || c.trims != c.Trims() || c.fits != c.Fits() {
			t.Errorf("of %+v the limit is %d; it trims: %t, fits: %t", c.Spec, c.Spec.limit(), c.Trims(), c.Fits())
		}
	}
}

// loaded is a program in the kernel, and what it counts.
type loaded struct {
	*ebpf.Program
	counts *ebpf.Map
}

// load loads a tap's program, of either kind.
func load(t *testing.T, kind ebpf.ProgramType, s Spec) loaded {
	t.Helper()
	if !lab.Privileged() {
		t.Skip("eBPF programs take the machine's own root")
	}
	counts, err := ebpf.NewMap(Map())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = counts.Close() })
	spec := &ebpf.ProgramSpec{Type: kind, Name: "test", License: "Apache-2.0", Instructions: Veth(s, counts.FD())}
	if kind == ebpf.SchedCLS {
		spec.Instructions = Relay(s, counts.FD())
	}
	p, err := ebpf.NewProgram(spec)
	if err != nil {
		t.Fatalf("%+v: %+v", s, err)
	}
	t.Cleanup(func() { _ = p.Close() })
	return loaded{p, counts}
}

// counted is what a program has counted on all CPUs.
func (l loaded) counted(t *testing.T) (sum Counts) {
	t.Helper()
	var each []Counts
	if err := l.counts.Lookup(uint32(0), &each); err != nil {
		t.Fatal(err)
	}
	for _, c := range each {
		sum.CutPackets += c.CutPackets
		sum.CutBytes += c.CutBytes
		sum.Segments += c.Segments
		sum.Lost += c.Lost
	}
	return sum
}

// Whatever the MTUs are, the kernel's verifier takes the program.
func TestTheKernelTakesTheProgramOfAnySpec(t *testing.T) {
	for _, path := range []int{0, 72, 200, 562, 1266, 1414, 1444, 1464, 8986, 65000} {
		for _, longest := range []int{82, 1294, 1514, 9014, 65549} {
			for _, snap := range []int{0, 64, 96, 256, 2000, 65535} {
				if s := (Spec{Snap: snap, Path: path, Longest: longest, Relay: 3}); s.Trims() {
					_ = load(t, ebpf.SchedCLS, s).Close()
				}
			}
		}
	}
	for _, snap := range []int{64, 96, 1514, 65535} {
		_ = load(t, ebpf.XDP, Spec{Snap: snap}).Close()
	}
}
