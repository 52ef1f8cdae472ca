// SPDX-License-Identifier: Apache-2.0

package flight

import (
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Sample is a cgroup's memory at an instant; what could not be read is nil.
type Sample struct {
	BootNS                 uint64
	UsageBytes, LimitBytes *uint64
	// PSISomeUS and PSIFullUS are the kernel's sums since the cgroup was made, in
	// microseconds.
	PSISomeUS, PSIFullUS *uint64
	// MaxEvents counts how often the limit was reached, since it was made, and
	// HighEvents how often memory.high made its tasks reclaim.
	MaxEvents, HighEvents *uint64
}

// Active lists cgroups in which something stalled at the reading of atNS, and those
// whose limits it was for: they are worth a sample. At most max, the busiest first
// left to chance; how many were left out is counted in Unsampled.
func (r *Recorder) Active(atNS uint64, most int) []events.CgroupKey {
	var keys []events.CgroupKey
	add := func(key events.CgroupKey) {
		switch {
		case key.ID == 0 || slices.Contains(keys, key):
		case len(keys) < most:
			keys = append(keys, key)
		default:
			r.Unsampled++
		}
	}

	for who, t := range r.cgroups {
		if n := len(t.past); n > 0 && t.past[n-1].toNS == atNS {
			add(who.Cgroup)
			add(who.Owner)
		}
	}

	return keys
}

// Sample remembers a sample of a cgroup.
func (r *Recorder) Sample(key events.CgroupKey, s Sample) {
	list := r.samples[key]
	if list == nil && len(r.samples) >= r.max {
		for k, old := range r.samples {
			if old[len(old)-1].BootNS+Seconds*second <= s.BootNS {
				delete(r.samples, k)
			}
		}

		if len(r.samples) >= r.max {
			r.Unsampled++
			return
		}
	}

	old := slices.IndexFunc(list, func(o Sample) bool { return o.BootNS+Seconds*second > s.BootNS })
	if old > 0 {
		list = slices.Delete(list, 0, old)
	}

	r.samples[key] = append(list, s)
}

// sampleAt is the newest sample of a cgroup within a second before an instant.
func (r *Recorder) sampleAt(key events.CgroupKey, atNS uint64) (Sample, bool) {
	for _, s := range slices.Backward(r.samples[key]) {
		if s.BootNS <= atNS {
			return s, atNS-s.BootNS < second
		}
	}

	return Sample{}, false
}
