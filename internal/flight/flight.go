// SPDX-License-Identifier: Apache-2.0

// Package flight is the flight recorder. For each cgroup in which tasks stalled for
// memory lately it keeps the last 60 seconds, second by second, and the longest single
// stalls. Its memory is bounded whatever the number of cgroups; cgroups without stalls
// cost nothing.
package flight

import (
	"cmp"
	"maps"
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

const (
	// Seconds is the length of the recorder's window.
	Seconds = 60
	// Longest is how many single stalls are kept per track.
	Longest = 32
	// DefaultTracks is how many tracks a recorder keeps by default.
	DefaultTracks = 2048
)

const (
	second = 1_000_000_000
	window = Seconds * second
)

// Recorder keeps the recent stalls of cgroups, one track per Key. It belongs to one
// goroutine.
type Recorder struct {
	max    int
	tracks map[Key]*track
	// last has the newest reading of every key of the kernel side, also of those whose
	// track was evicted: the counts only grow, and their difference is what is new.
	last map[kernel.StallKey]kernel.StallCount
	// Evicted counts tracks that had to make room while their last stall was still in
	// the window.
	Evicted uint64
	samples map[events.CgroupKey][]Sample // oldest first
	kswapd  []kswapdReading               // oldest first; one may be older than the window
}

// Key identifies a track.
type Key struct {
	Cgroup events.CgroupKey // of the stalled tasks
	Owner  events.CgroupKey // of the limit that they reclaimed for; zero: the node, or unknown
}

// New returns a recorder of at most maxTracks tracks; 0 means DefaultTracks.
func New(maxTracks int) *Recorder {
	if maxTracks <= 0 {
		maxTracks = DefaultTracks
	}

	return &Recorder{
		max: maxTracks, tracks: make(map[Key]*track), last: make(map[kernel.StallKey]kernel.StallCount),
		samples: make(map[events.CgroupKey][]Sample),
	}
}

// kswapdReading has the activity of kswapd, per NUMA node, up to an instant.
type kswapdReading struct {
	bootNS uint64
	nodes  map[int]kernel.KswapdCount
}

// track is the recent history of one key.
type track struct {
	lastNS uint64         // of the last stall
	slots  []slot         // oldest first, only those with stalls
	long   []kernel.Stall // longest first
}

// slot sums up the stalls between two readings of the counts.
type slot struct {
	fromNS, toNS uint64
	kinds        []Sum
}

// Counts records a reading of all counts.
func (r *Recorder) Counts(c kernel.StallCounts) {
	slots := make(map[Key]*slot)

	for k, now := range c.Counts {
		before := r.last[k]
		if now.Count == before.Count {
			continue
		}

		r.last[k] = now
		key := Key{k.Cgroup, k.Owner}

		t := r.tracks[key]
		if t == nil {
			t = r.newTrack(key, c.BootNS)
		}

		s := slots[key]
		if s == nil {
			s = &slot{fromNS: t.lastNS, toNS: c.BootNS}
			slots[key] = s
		}

		s.kinds = append(s.kinds, Sum{k.What, now.Since(before)})
	}

	for key, s := range slots {
		t := r.tracks[key]
		if t == nil {
			continue // evicted: more cgroups stall at once than there are tracks
		}

		t.lastNS = c.BootNS
		t.slots = append(t.slots, *s)
		t.trim(c.BootNS)
	}

	r.kswapd = append(r.kswapd, kswapdReading{c.BootNS, c.Kswapd})
	for len(r.kswapd) > 2 && r.kswapd[1].bootNS+window <= c.BootNS {
		r.kswapd = slices.Delete(r.kswapd, 0, 1)
	}
}

// Stall records a single long stall.
func (r *Recorder) Stall(s kernel.Stall) {
	key := Key{s.Current.Cgroup, s.Owner}

	t := r.tracks[key]
	if t == nil {
		t = r.newTrack(key, s.BootNS)
	}
	t.lastNS = max(t.lastNS, s.BootNS)

	i, _ := slices.BinarySearchFunc(t.long, s.DurationNS,
		func(a kernel.Stall, d uint64) int { return cmp.Compare(d, a.DurationNS) })
	if i >= Longest {
		return
	}

	t.long = slices.Insert(t.long, i, s)
	if len(t.long) > Longest {
		t.long = t.long[:Longest]
	}
}

// newTrack adds a track. If there is no room, the one without stalls for longest is
// evicted.
func (r *Recorder) newTrack(key Key, nowNS uint64) *track {
	if len(r.tracks) >= r.max {
		var oldest Key

		at := ^uint64(0)
		for k, t := range r.tracks {
			if t.lastNS < at {
				oldest, at = k, t.lastNS
			}
		}

		if nowNS-min(at, nowNS) < window {
			r.Evicted++
		}

		delete(r.tracks, oldest)
	}

	t := &track{lastNS: nowNS - min(nowNS, second)}
	r.tracks[key] = t

	return t
}

// trim drops what is no longer in the window.
func (t *track) trim(nowNS uint64) {
	old := slices.IndexFunc(t.slots, func(s slot) bool { return s.toNS+window > nowNS })
	if old < 0 {
		old = len(t.slots)
	}

	t.slots = slices.Delete(t.slots, 0, old)
	t.long = slices.DeleteFunc(t.long, func(s kernel.Stall) bool { return s.BootNS+window <= nowNS })
}

// Forget drops everything about cgroups that were removed.
func (r *Recorder) Forget(gone map[events.CgroupKey]bool) {
	maps.DeleteFunc(r.tracks, func(key Key, _ *track) bool { return gone[key.Cgroup] })
	maps.DeleteFunc(r.last, func(key kernel.StallKey, _ kernel.StallCount) bool { return gone[key.Cgroup] })
	maps.DeleteFunc(r.samples, func(key events.CgroupKey, _ []Sample) bool { return gone[key] })
}
