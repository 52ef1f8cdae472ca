// SPDX-License-Identifier: Apache-2.0

package kernel

// StallTotals sums up stalls of one kind.
type StallTotals struct {
	Count          uint64
	NoProgress     uint64 // those that reclaimed nothing
	TotalNS, MaxNS uint64
	ReclaimedPages uint64
}

// Add adds the stalls of o to t.
func (t *StallTotals) Add(o StallTotals) {
	t.Count += o.Count
	t.NoProgress += o.NoProgress
	t.TotalNS += o.TotalNS
	t.MaxNS = max(t.MaxNS, o.MaxNS)
	t.ReclaimedPages += o.ReclaimedPages
}

// StallCount sums up stalls since the programs were attached.
type StallCount struct {
	StallTotals
	Buckets [StallBuckets]uint64 // by log2(microseconds)
}

// Since returns the stalls that were counted after before was read. A count that is lower
// than before comes from programs that were attached anew, and is returned whole. MaxNS
// is exact if the longest stall of all is among them, else it is the upper end of the
// highest bucket that grew.
func (c StallCount) Since(before StallCount) StallTotals {
	if c.Count < before.Count {
		before = StallCount{}
	}

	return StallTotals{
		Count: c.Count - before.Count, NoProgress: c.NoProgress - before.NoProgress, TotalNS: c.TotalNS - before.TotalNS,
		MaxNS: c.longestSince(before), ReclaimedPages: c.ReclaimedPages - before.ReclaimedPages,
	}
}

func (c StallCount) longestSince(before StallCount) uint64 {
	if c.MaxNS > before.MaxNS {
		return c.MaxNS
	}

	for b := StallBuckets - 1; b >= 0; b-- {
		if c.Buckets[b] > before.Buckets[b] {
			return min(uint64(2000)<<b, c.MaxNS)
		}
	}

	return 0
}

// Since returns what kswapd did after before was read, in the same run of the programs.
func (c KswapdCount) Since(before KswapdCount) KswapdCount {
	return KswapdCount{Wakeups: c.Wakeups - before.Wakeups, AwakeNS: c.AwakeNS - before.AwakeNS}
}
