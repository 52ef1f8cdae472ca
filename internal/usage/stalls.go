// SPDX-License-Identifier: Apache-2.0

package usage

import (
	"time"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

// stallTicks is the number of intervals over which shares of stalls are computed: the counts
// come by a clock of their own, so that an interval may have none and the next one two.
const stallTicks = 3

// stallTime is for how long tasks of a cgroup stalled, in nanoseconds. Reclaim may happen
// within a sleep for memory.high, so the two do not add up.
type stallTime struct{ reclaim, high uint64 }

// all is the time in which tasks stalled, for whatever reason.
func (t stallTime) all() uint64 { return max(t.reclaim, t.high) }

// stallWindow sums up counts of stalls by cgroup over the last intervals.
type stallWindow struct {
	hierarchy uint32
	last      kernel.StallCounts
	current   map[uint64]stallTime // since the last tick
	ticks     [stallTicks]struct {
		took   time.Duration
		stalls map[uint64]stallTime
	}
}

// add takes the counts since the start of the trace.
func (w *stallWindow) add(counts kernel.StallCounts) {
	if w.current == nil {
		w.current = map[uint64]stallTime{}
	}

	for k, count := range counts.Counts {
		if k.Cgroup.Hierarchy != w.hierarchy || count.Count == w.last.Counts[k].Count {
			continue
		}
		ns := count.Since(w.last.Counts[k]).TotalNS
		t := w.current[k.Cgroup.ID]

		switch k.What {
		case events.StallAfterKill, events.StallThrottle: // throttling is part of reclaim
			continue
		case events.StallMemoryHigh:
			t.high += ns
		default:
			t.reclaim += ns
		}

		w.current[k.Cgroup.ID] = t
	}

	w.last = counts
}

// tick ends an interval and calls add for each cgroup with stalls in the window, with the
// shares of the time.
func (w *stallWindow) tick(took time.Duration, add func(id uint64, stalled, high float64)) {
	copy(w.ticks[1:], w.ticks[:stallTicks-1])
	w.ticks[0].took, w.ticks[0].stalls = took, w.current
	w.current = nil

	var window time.Duration
	sums := map[uint64]stallTime{}

	for _, t := range w.ticks {
		window += t.took

		for id, stalls := range t.stalls {
			sums[id] = stallTime{sums[id].reclaim + stalls.reclaim, sums[id].high + stalls.high}
		}
	}

	if window <= 0 {
		return
	}

	for id, t := range sums {
		add(id, float64(t.all())/float64(window), float64(t.high)/float64(window))
	}
}
