// SPDX-License-Identifier: Apache-2.0

package flight

import (
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/host"
)

// Sample is the state of a cgroup's memory at an instant.
type Sample struct {
	BootNS uint64
	host.Sample
	Split *host.Split // what the usage consisted of; nil: not read
}

// Active returns the cgroups to sample: those with stalls in the reading of atNS, and
// those whose limits these stalls were for. It returns at most a number of most, in no
// order.
func (r *Recorder) Active(atNS uint64, most int) []events.CgroupKey {
	var keys []events.CgroupKey
	add := func(key events.CgroupKey) {
		if key.ID != 0 && len(keys) < most && !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}

	for key, t := range r.tracks {
		if n := len(t.slots); n > 0 && t.slots[n-1].toNS == atNS {
			add(key.Cgroup)
			add(key.Owner)
		}
	}

	return keys
}

// Sample adds a sample of a cgroup, which must be newer than those before it. If too many
// cgroups have samples in the window, it is dropped: the seconds of this cgroup then have
// none.
func (r *Recorder) Sample(key events.CgroupKey, s Sample) {
	list := r.samples[key]
	if list == nil && len(r.samples) >= r.max {
		for k, old := range r.samples {
			if old[len(old)-1].BootNS+window <= s.BootNS {
				delete(r.samples, k)
			}
		}

		if len(r.samples) >= r.max {
			return
		}
	}

	old := slices.IndexFunc(list, func(o Sample) bool { return o.BootNS+window > s.BootNS })
	if old > 0 {
		list = slices.Delete(list, 0, old)
	}

	r.samples[key] = append(list, s)
}

// Split adds what a cgroup's usage consisted of to its sample of an instant, unless that is gone.
func (r *Recorder) Split(key events.CgroupKey, bootNS uint64, split *host.Split) {
	list := r.samples[key]
	if i := slices.IndexFunc(list, func(s Sample) bool { return s.BootNS == bootNS }); i >= 0 {
		list[i].Split = split
	}
}

// sampleAt returns the newest sample of a cgroup that was taken within the second before
// an instant.
func (r *Recorder) sampleAt(key events.CgroupKey, atNS uint64) (Sample, bool) {
	for _, s := range slices.Backward(r.samples[key]) {
		if s.BootNS <= atNS {
			return s, atNS-s.BootNS < second
		}
	}

	return Sample{}, false
}
