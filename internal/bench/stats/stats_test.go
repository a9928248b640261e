package stats

import (
	"math"
	"slices"
	"testing"
)

func TestMedianAndQuartiles(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   Spread
	}{
		{[]float64{7}, Spread{7, 7, 7}},
		{[]float64{2, 1}, Spread{1.25, 1.5, 1.75}},
		{[]float64{3, 1, 2}, Spread{1.5, 2, 2.5}},
		{[]float64{4, 1, 3, 2}, Spread{1.75, 2.5, 3.25}},
		{[]float64{5, 1, 4, 2, 3}, Spread{2, 3, 4}},
		{[]float64{1, 1, 1, 1, 1000}, Spread{1, 1, 1}},
	} {
		if got := Of(c.values); got != c.want {
			t.Errorf("of %v: %v, want %v", c.values, got, c.want)
		}
	}
}

func TestValuesKeepTheirOrder(t *testing.T) {
	values := []float64{3, 1, 2}
	Of(values)
	if !slices.Equal(values, []float64{3, 1, 2}) {
		t.Errorf("the values of the rounds are now %v", values)
	}
}

func TestNothingHasNoMedian(t *testing.T) {
	if got := Of(nil); !math.IsNaN(got.Median) || !math.IsNaN(got.Low) || !math.IsNaN(got.High) {
		t.Errorf("of nothing: %v", got)
	}
}

func TestRatiosAreThoseOfEachRound(t *testing.T) {
	if got := Ratios([]float64{2, 9, 5}, []float64{1, 3}); !slices.Equal(got, []float64{2, 3}) {
		t.Errorf("ratios %v", got)
	}
}

func TestMeansAreThoseOfEachRound(t *testing.T) {
	if got := Means([]float64{2, 9}, []float64{4, 3, 5}); !slices.Equal(got, []float64{3, 6}) {
		t.Errorf("means %v", got)
	}
}
