// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"testing"

	"github.com/oomtrace/oomtrace/internal/events"
)

func TestTheBoundIsWithinTheLimitsOfTheOwnCgroup(t *testing.T) {
	ladder := []events.Rung{{}, {MaxBytes: new(uint64(400))}, {MaxBytes: new(uint64(100))}}

	for bound, want := range map[uint64]uint64{0: 0, 50: 50, 256: 75} {
		if got := withinLimits(bound, ladder); got != want {
			t.Errorf("bound %d: got %d, want %d", bound, got, want)
		}
	}
}
