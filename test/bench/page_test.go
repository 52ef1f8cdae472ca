// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"testing"
)

// A goal that compares with a tracer that measured nothing is missed, not met.
func TestNothingMeasuredMeetsNoGoal(t *testing.T) {
	for name, of := range map[string]func([]float64) float64{"median": median, "p90": p90} {
		if got := of(nil); !math.IsNaN(got) {
			t.Errorf("%s of nothing: got %v, want NaN", name, got)
		}
	}

	if got := p90([]float64{5, 1, 2, 3, 4, 6, 7, 8, 10, 9}); got != 10 {
		t.Errorf("p90 of 1 to 10: got %v, want 10", got)
	}
}
