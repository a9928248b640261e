package report

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sample is a report of two rounds.
func sample() Report {
	return Report{
		Facts:  [][2]string{{"rounds", "2"}},
		Starts: []Case{{Name: "reference"}},
		Cases:  []Case{{Name: "bandwidth"}, {Name: "veth", Beside: "bandwidth"}},
		Times: Times{
			{"reference", "VERSION"}: {1, 1}, {"bandwidth", "ADD"}: {4, 8}, {"veth", "ADD"}: {2, 6},
			{"bandwidth", "CHECK"}: {1, 1}, {"veth", "CHECK"}: {1, 1}, {"bandwidth", "DEL"}: {1, 1}, {"veth", "DEL"}: {1, 1},
		},
		Targets: []Target{{What: "fast", Measured: "2", Limit: "1"}, {What: "small", Measured: "1", Limit: "1", Met: true}},
	}
}

func TestNotesSurvive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "benchmarks.md")
	if err := sample().Save(path); err != nil {
		t.Fatal(err)
	}
	first, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	noted := strings.Replace(string(first), opening+"\n", opening+"\nA person's words.\n\n- and a list\n", 1)
	if err := os.WriteFile(path, []byte(noted), 0o600); err != nil {
		t.Fatal(err)
	}
	changed := sample()
	changed.Facts[0][1] = "4"
	for range 2 {
		if err := changed.Save(path); err != nil {
			t.Fatal(err)
		}
	}
	last, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(noted, "| rounds | 2 |", "| rounds | 4 |", 1)
	if string(last) != want {
		t.Errorf("the document is\n%s\nwant\n%s", last, want)
	}
}

func TestNotesThatMightGetLostStopTheWriting(t *testing.T) {
	path := filepath.Join(t.TempDir(), "benchmarks.md")
	for _, damaged := range []string{opening + "\nwords", "words\n" + closing, closing + "words" + opening} {
		if err := os.WriteFile(path, []byte(damaged), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := sample().Save(path); err == nil || !strings.Contains(err.Error(), "both markers") {
			t.Errorf("%q: %v", damaged, err)
		}
		if left, _ := os.ReadFile(path); string(left) != damaged {
			t.Errorf("%q was overwritten", damaged)
		}
	}
}

func TestRatiosAreTakenRoundByRound(t *testing.T) {
	// 2/4 and 6/8; the medians' ratio would be 4/6.
	if s := sample().Tables(); !strings.Contains(s, "| veth | 0.62 (0.56–0.69) |") {
		t.Errorf("no ratio of the rounds in\n%s", s)
	}
}

func TestAMissedTargetIsSaidToBe(t *testing.T) {
	s := sample().Tables()
	for _, want := range []string{"1 of 2 are met.", "| fast   | 2        | 1     | **missed** |", "| small  | 1        | 1     | met        |"} {
		if !strings.Contains(s, want) {
			t.Errorf("no %q in\n%s", want, s)
		}
	}
}
