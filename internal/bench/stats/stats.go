// Package stats sums up measurements by their median and quartiles: a round in
// which the machine did something else moves neither.
package stats

import (
	"math"
	"slices"
)

// Spread is the middle of some values, and the range in which the middle half of
// them lies.
type Spread struct{ Low, Median, High float64 }

// Of sums values up. All of it is NaN where there are none.
func Of(values []float64) Spread {
	sorted := slices.Sorted(slices.Values(values))
	return Spread{Low: quantile(sorted, 0.25), Median: quantile(sorted, 0.5), High: quantile(sorted, 0.75)}
}

// quantile interpolates between the two nearest of sorted values, as R's type 7
// and NumPy's default do.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	at := q * float64(len(sorted)-1)
	below := int(at)
	above := min(below+1, len(sorted)-1)
	return sorted[below] + (at-float64(below))*(sorted[above]-sorted[below])
}

// Ratios divides what was measured in the same rounds: what slows a whole round
// down slows both sides. Rounds that only one of them has are left out.
func Ratios(over, under []float64) []float64 {
	out := make([]float64, 0, len(over))
	for i := range min(len(over), len(under)) {
		out = append(out, over[i]/under[i])
	}
	return out
}

// Means is the mean of two measurements in each round.
func Means(a, b []float64) []float64 {
	out := make([]float64, 0, len(a))
	for i := range min(len(a), len(b)) {
		out = append(out, (a[i]+b[i])/2)
	}
	return out
}
