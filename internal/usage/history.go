// SPDX-License-Identifier: Apache-2.0

package usage

import "time"

const (
	// growthOver is the time over which growth is computed: shorter, page faults and page
	// cache would make it jump; longer, it would come after the kill.
	growthOver = 10 * time.Second
	// points is how many readings a history keeps: one per second of that time, and one that
	// is at least as old.
	points = 12
)

// history has the last readings of a cgroup's usage, at least a second apart.
type history struct {
	at   [points]time.Duration // since the start of the sampler
	used [points]uint64
	n    int // how many are kept
	next int // where the next one goes
}

// add keeps a reading, unless the last one is younger than a second.
func (h *history) add(at time.Duration, used uint64) {
	const apart = 900 * time.Millisecond // less than a second: ticks are not exact

	if h.n > 0 && at-h.at[(h.next+points-1)%points] < apart {
		return
	}

	h.at[h.next], h.used[h.next] = at, used
	h.next = (h.next + 1) % points
	h.n = min(h.n+1, points)
}

// growth returns the bytes per second from the oldest reading within growthOver to the
// newest; it is not known with less than two.
func (h *history) growth() Value[float64] {
	if h.n < 2 {
		return Value[float64]{}
	}

	last := (h.next + points - 1) % points
	first := last

	for i := 1; i < h.n; i++ {
		at := (h.next + points - 1 - i) % points
		first = at

		if h.at[last]-h.at[at] >= growthOver-growthOver/20 {
			break
		}
	}

	seconds := (h.at[last] - h.at[first]).Seconds()

	return Known((float64(h.used[last]) - float64(h.used[first])) / seconds)
}
