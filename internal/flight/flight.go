// SPDX-License-Identifier: Apache-2.0

// Package flight is the flight recorder: of every cgroup in which tasks stalled
// for memory lately, the last 60 seconds, second by second, and its longest single
// stalls. Its memory is bounded whatever the number of cgroups; quiet ones cost
// nothing.
package flight

import (
	"cmp"
	"maps"
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

const (
	// Seconds is how far back the recorder remembers.
	Seconds = 60
	// Longest is how many single stalls are kept for each cgroup.
	Longest = 32
	// DefaultCgroups is how many cgroups are remembered at most.
	DefaultCgroups = 2048
)

const second = 1_000_000_000

// Recorder belongs to one goroutine.
type Recorder struct {
	max     int
	cgroups map[Who]*track
	// last are the counts of the previous call, of all keys of the kernel side: also of those
	// whose past was evicted.
	last map[kernel.StallKey]kernel.StallCount
	// Evicted counts cgroups that were forgotten although their last stall was
	// not yet out of the window.
	Evicted uint64
	samples map[events.CgroupKey][]Sample // oldest first
	kswapd  []kswapdReading               // oldest first; one may be older than the window
	// Unsampled counts samples that there was no room or time for.
	Unsampled uint64
}

// Who stalled, and for whose limit; a zero Owner is the node, or not known.
type Who struct{ Cgroup, Owner events.CgroupKey }

// New returns a recorder for at most so many cgroups; 0 is DefaultCgroups.
func New(maxCgroups int) *Recorder {
	if maxCgroups <= 0 {
		maxCgroups = DefaultCgroups
	}

	return &Recorder{max: maxCgroups, cgroups: make(map[Who]*track), last: make(map[kernel.StallKey]kernel.StallCount), samples: make(map[events.CgroupKey][]Sample)}
}

// kswapdReading is what kswapd had done by an instant.
type kswapdReading struct {
	bootNS uint64
	nodes  map[int]kernel.KswapdCount
}

// track is one cgroup's past.
type track struct {
	lastNS uint64
	past   []slot         // oldest first, only seconds with stalls
	long   []kernel.Stall // longest first
}

// slot is what happened between two readings of the counts.
type slot struct {
	fromNS, toNS uint64
	kinds        []kindSum
}

type kindSum struct {
	what                                             events.StallKind
	count, fruitless, totalNS, maxNS, reclaimedPages uint64
}

// Counts takes in a reading of all counts. Since the last one is in r.
func (r *Recorder) Counts(c kernel.StallCounts) {
	slots := make(map[Who]*slot)

	for key, now := range c.Counts {
		before := r.last[key]
		if now.Count == before.Count {
			continue
		}

		r.last[key] = now
		if now.Count < before.Count {
			before = kernel.StallCount{} // the kernel side began anew
		}
		who := Who{key.Cgroup, key.Owner}

		t := r.cgroups[who]
		if t == nil {
			t = r.track(who, c.BootNS)
		}

		s := slots[who]
		if s == nil {
			s = &slot{fromNS: t.lastNS, toNS: c.BootNS}
			slots[who] = s
		}
		s.kinds = append(s.kinds, kindSum{
			what: key.What, count: now.Count - before.Count, fruitless: now.Fruitless - before.Fruitless,
			totalNS: now.TotalNS - before.TotalNS, maxNS: longest(before, now), reclaimedPages: now.ReclaimedPages - before.ReclaimedPages,
		})
	}

	for who, s := range slots {
		t := r.cgroups[who]
		if t == nil {
			continue // evicted: more cgroups stall at once than are remembered
		}
		t.lastNS = c.BootNS
		t.past = append(t.past, *s)
		t.forget(c.BootNS)
	}

	r.kswapd = append(r.kswapd, kswapdReading{c.BootNS, c.Kswapd})
	for len(r.kswapd) > 2 && r.kswapd[1].bootNS+Seconds*second <= c.BootNS {
		r.kswapd = slices.Delete(r.kswapd, 0, 1)
	}
}

// kswapdBefore is what kswapd did in the window, from the last reading before it;
// counts begin at 0 with the tracer.
func (r *Recorder) kswapdBefore(atNS uint64) []Kswapd {
	if len(r.kswapd) == 0 {
		return nil
	}

	var from map[int]kernel.KswapdCount
	if first := r.kswapd[0]; first.bootNS+Seconds*second <= atNS {
		from = first.nodes
	}
	var out []Kswapd

	for node, now := range r.kswapd[len(r.kswapd)-1].nodes {
		if now != from[node] {
			out = append(out, Kswapd{node, now.Wakeups - from[node].Wakeups, now.AwakeNS - from[node].AwakeNS})
		}
	}

	slices.SortFunc(out, func(a, b Kswapd) int { return cmp.Compare(a.Node, b.Node) })

	return out
}

// longest is the longest stall between two readings: exact if it is the longest of
// all, else the upper end of the highest bucket that grew.
func longest(before, now kernel.StallCount) uint64 {
	if now.MaxNS > before.MaxNS {
		return now.MaxNS
	}

	for b := kernel.StallBuckets - 1; b >= 0; b-- {
		if now.Buckets[b] > before.Buckets[b] {
			return min(uint64(2000)<<b, now.MaxNS)
		}
	}

	return 0
}

// Stall takes in a single long stall.
func (r *Recorder) Stall(s kernel.Stall) {
	who := Who{s.Current.Cgroup, s.Owner}

	t := r.cgroups[who]
	if t == nil {
		t = r.track(who, s.BootNS)
	}
	t.lastNS = max(t.lastNS, s.BootNS)

	i, _ := slices.BinarySearchFunc(t.long, s.DurationNS, func(a kernel.Stall, d uint64) int { return cmp.Compare(d, a.DurationNS) })
	if i >= Longest {
		return
	}

	t.long = slices.Insert(t.long, i, s)
	if len(t.long) > Longest {
		t.long = t.long[:Longest]
	}
}

// track makes room for a cgroup: the one that has been quiet for longest goes.
func (r *Recorder) track(who Who, now uint64) *track {
	if len(r.cgroups) >= r.max {
		var oldest Who

		at := ^uint64(0)
		for k, t := range r.cgroups {
			if t.lastNS < at {
				oldest, at = k, t.lastNS
			}
		}

		if now-min(at, now) < Seconds*second {
			r.Evicted++
		}

		delete(r.cgroups, oldest)
	}
	t := &track{lastNS: now - min(now, second)}
	r.cgroups[who] = t

	return t
}

func (t *track) forget(now uint64) {
	const window = Seconds * second

	old := slices.IndexFunc(t.past, func(s slot) bool { return s.toNS+window > now })
	if old < 0 {
		old = len(t.past)
	}
	t.past = slices.Delete(t.past, 0, old)
	t.long = slices.DeleteFunc(t.long, func(s kernel.Stall) bool { return s.BootNS+window <= now })
}

// Forget drops cgroups that are gone for good.
func (r *Recorder) Forget(gone map[events.CgroupKey]bool) {
	maps.DeleteFunc(r.cgroups, func(who Who, _ *track) bool { return gone[who.Cgroup] })
	maps.DeleteFunc(r.last, func(key kernel.StallKey, _ kernel.StallCount) bool { return gone[key.Cgroup] })
	maps.DeleteFunc(r.samples, func(key events.CgroupKey, _ []Sample) bool { return gone[key] })
}

// Len is the number of cgroups that are remembered.
func (r *Recorder) Len() int { return len(r.cgroups) }

// Summary is what stalled in a set of cgroups before an instant.
type Summary struct {
	Stalls  []Sum // by kind, the longest in total first, reclaim after a kill last
	Seconds []Second
	Long    []kernel.Stall // longest first
	Kswapd  []Kswapd       // of NUMA nodes on which it was awake, by number
}

// Kswapd is what kswapd did on one NUMA node.
type Kswapd struct {
	Node             int
	Wakeups, AwakeNS uint64
}

// Sum is one kind of stalls.
type Sum struct {
	What                                             events.StallKind
	Count, Fruitless, TotalNS, MaxNS, ReclaimedPages uint64
}

// Second is one second, by how long it was before the instant.
type Second struct {
	BeforeNS                       uint64
	Count, TotalNS, ReclaimedPages uint64
	HighNS                         uint64  // of TotalNS, held up over memory.high
	Sample                         *Sample // of the limiter, if there is one
}

// Recent sums up the stalls of each cgroup in the last windowNS before atNS, whose
// limit they were for left aside.
func (r *Recorder) Recent(atNS, windowNS uint64) map[events.CgroupKey][]Sum {
	out := make(map[events.CgroupKey][]Sum)

	for who, t := range r.cgroups {
		if t.lastNS+windowNS <= atNS {
			continue
		}
		sums := out[who.Cgroup]

		for _, s := range t.past {
			if s.toNS+windowNS <= atNS {
				continue
			}

			for _, k := range s.kinds {
				i := slices.IndexFunc(sums, func(s Sum) bool { return s.What == k.what })
				if i < 0 {
					i = len(sums)
					sums = append(sums, Sum{What: k.what})
				}

				sums[i].add(k)
			}
		}

		if len(sums) > 0 {
			out[who.Cgroup] = sums
		}
	}

	return out
}

func (s *Sum) add(k kindSum) {
	s.Count += k.count
	s.Fruitless += k.fruitless
	s.TotalNS += k.totalNS
	s.MaxNS = max(s.MaxNS, k.maxNS)
	s.ReclaimedPages += k.reclaimedPages
}

// Before sums up the last 60 seconds before atNS, of the cgroups that in says
// belong to it. What was counted up to the reading at or after atNS is included.
//
// limiter is whose samples go with the seconds; zero for none.
func (r *Recorder) Before(atNS uint64, limiter events.CgroupKey, in func(Who) bool) Summary {
	var out Summary
	sums := make(map[events.StallKind]*Sum)
	seconds := make(map[uint64]*Second)

	for who, t := range r.cgroups {
		if !in(who) {
			continue
		}

		for _, s := range t.past {
			if s.toNS+Seconds*second <= atNS {
				continue
			}
			before := (atNS - min(s.toNS, atNS)) / second

			sec := seconds[before]
			if sec == nil {
				sec = &Second{BeforeNS: before * second}
				if sample, ok := r.sampleAt(limiter, s.toNS+second/2); ok {
					sec.Sample = &sample
				}
				seconds[before] = sec
			}

			for _, k := range s.kinds {
				sum := sums[k.what]
				if sum == nil {
					sum = &Sum{What: k.what}
					sums[k.what] = sum
				}

				sum.add(k)

				if k.what == events.StallAfterKill {
					continue // not of the way there
				}
				sec.Count += k.count

				sec.TotalNS += k.totalNS
				if k.what == events.StallMemoryHigh {
					sec.HighNS += k.totalNS
				}
				sec.ReclaimedPages += k.reclaimedPages
			}
		}

		for _, s := range t.long {
			if s.BootNS+Seconds*second > atNS {
				out.Long = append(out.Long, s)
			}
		}
	}

	for _, s := range sums {
		out.Stalls = append(out.Stalls, *s)
	}

	slices.SortFunc(out.Stalls, func(a, b Sum) int {
		late := func(s Sum) int {
			if s.What == events.StallAfterKill {
				return 1
			}

			return 0
		}

		return cmp.Or(cmp.Compare(late(a), late(b)), cmp.Compare(b.TotalNS, a.TotalNS), cmp.Compare(a.What, b.What))
	})

	for _, s := range seconds {
		if s.Count == 0 {
			continue
		}
		out.Seconds = append(out.Seconds, *s)
	}

	slices.SortFunc(out.Seconds, func(a, b Second) int { return cmp.Compare(b.BeforeNS, a.BeforeNS) })
	slices.SortFunc(out.Long, func(a, b kernel.Stall) int { return cmp.Compare(b.DurationNS, a.DurationNS) })
	out.Long = out.Long[:min(len(out.Long), Longest)]
	out.Kswapd = r.kswapdBefore(atNS)

	return out
}
