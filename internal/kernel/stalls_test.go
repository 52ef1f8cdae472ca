// SPDX-License-Identifier: Apache-2.0

package kernel

import "testing"

func TestSinceReturnsWhatWasCountedAfter(t *testing.T) {
	before := StallCount{StallTotals: StallTotals{Count: 10, NoProgress: 4, TotalNS: 9000, MaxNS: 5000, ReclaimedPages: 70}}
	before.Buckets[1], before.Buckets[2] = 9, 1

	for name, test := range map[string]struct {
		now  StallTotals
		grew int // the bucket of the newest stall
		want StallTotals
	}{
		"the longest of all is new": {
			now:  StallTotals{Count: 11, NoProgress: 5, TotalNS: 19000, MaxNS: 10000, ReclaimedPages: 70},
			grew: 3, want: StallTotals{Count: 1, NoProgress: 1, TotalNS: 10000, MaxNS: 10000},
		},
		"a shorter one is new": {
			now:  StallTotals{Count: 11, NoProgress: 4, TotalNS: 12500, MaxNS: 5000, ReclaimedPages: 75},
			grew: 1, want: StallTotals{Count: 1, TotalNS: 3500, MaxNS: 4000, ReclaimedPages: 5},
		},
	} {
		t.Run(name, func(t *testing.T) {
			now := StallCount{StallTotals: test.now, Buckets: before.Buckets}
			now.Buckets[test.grew]++

			if got := now.Since(before); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestSinceReturnsTheWholeCountOfProgramsAttachedAnew(t *testing.T) {
	now := StallCount{StallTotals: StallTotals{Count: 2, TotalNS: 20, MaxNS: 15}}

	if got := now.Since(StallCount{StallTotals: StallTotals{Count: 50, TotalNS: 500, MaxNS: 90}}); got != now.StallTotals {
		t.Errorf("got %+v, want %+v", got, now.StallTotals)
	}
}
