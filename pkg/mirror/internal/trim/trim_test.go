package trim

import (
	"testing"

	"github.com/cilium/ebpf"

	"github.com/podtap/podtap/internal/lab"
)

func TestMain(m *testing.M) { lab.Main(m.Run, false) }

func TestANameTellsWhatItsProgramIsFor(t *testing.T) {
	for _, s := range []Spec{
		{}, {Snap: 64}, {Snap: 65535}, {Path: 1464, Longest: 1514, Relay: 7}, {Snap: 96, Path: 1464}, {Snap: 65535, Path: 65535}, {Path: 1, Longest: 2, Relay: 1<<31 - 1},
	} {
		if got, ok := ParseName(s.Name()); !s.Cuts() && (!ok || got != s) {
			t.Errorf("%+v is read back as %+v, %t", s, got, ok)
		}
		if len(s.Name()) >= 256 { // CLS_BPF_NAME_LEN
			t.Errorf("%q has %d bytes", s.Name(), len(s.Name()))
		}
		if got, ok := ParseShortName(s.ShortName()); ok != s.Cuts() || ok && got != (Spec{Snap: s.Snap, Path: s.Path}) {
			t.Errorf("%+v is read back as %+v, %t", s, got, ok)
		}
		if len(s.ShortName()) >= 16 { // BPF_OBJ_NAME_LEN
			t.Errorf("%q has %d bytes", s.ShortName(), len(s.ShortName()))
		}
	}
}

func TestOthersNamesAreNotTakenForPodtaps(t *testing.T) {
	good := Spec{Path: 1464, Longest: 1514, Relay: 7}
	for _, name := range []string{
		"", "cil_to_container", "podtap", "podtap/1", "podtap/1 path=96", good.Name() + " ", " " + good.Name(), good.Name() + "\n", good.Name() + " more",
		"podtap/2 path=1464 longest=1514 relay=7", "podtap/1 path=01464 longest=1514 relay=7", "podtap/1 path=+1464 longest=1514 relay=7",
		"podtap/1  path=1464 longest=1514 relay=7", "podtap/1 path=1464 longest=1514 relay=x", "podtap/1 path= longest=1514 relay=7",
		"podtap/1 path=99999999999999999999 longest=1514 relay=7",
	} {
		if s, ok := ParseName(name); ok {
			t.Errorf("%q is taken for %+v", name, s)
		}
	}
	for _, name := range []string{"", "podtap", "podtap_fit", "podtap0060", "podtap00600000x", "podtap0060000g", "Podtap00600000", "podtap00600000 ", "podtap0060 000", "podtap00000000", "podtap000005b8", "podtap0x600000", "podtap006000000"} {
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

func TestWhatIsToBeDoneFollowsFromTheSpec(t *testing.T) {
	for _, c := range []struct {
		Spec
		trims, cuts, fits bool
	}{
		{Spec{}, false, false, false}, {Spec{Snap: 96}, true, true, false}, {Spec{Path: 1464}, true, false, true}, {Spec{Snap: 96, Path: 1464}, true, true, false},
	} {
		if c.trims != c.Trims() || c.cuts != c.Cuts() || c.fits != c.Fits() {
			t.Errorf("%+v trims: %t, cuts: %t, fits: %t", c.Spec, c.Trims(), c.Cuts(), c.Fits())
		}
	}
}

// loaded is a program in the kernel, and what it counts.
type loaded struct {
	*ebpf.Program
	counts *ebpf.Map
}

// needsRoot skips a test that has the kernel run programs.
func needsRoot(t *testing.T) {
	t.Helper()
	if !lab.Privileged() {
		t.Skip("only the machine's own root may load eBPF programs, which this test runs")
	}
}

// load loads a tap's program.
func load(t *testing.T, s Spec) loaded {
	t.Helper()
	needsRoot(t)
	counts, err := ebpf.NewMap(Map())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = counts.Close() })
	spec := &ebpf.ProgramSpec{Type: ebpf.SchedCLS, Name: "test", License: "Apache-2.0"}
	if s.Cuts() {
		spec.Type, spec.Instructions = ebpf.XDP, Cut(s, counts.FD())
	} else {
		spec.Instructions = Fit(s, counts.FD())
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
					_ = load(t, s).Close()
				}
			}
		}
	}
}
