// SPDX-License-Identifier: Apache-2.0

package flight

import (
	"cmp"
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

// Summary sums up the stalls of a set of cgroups in the window before an instant.
type Summary struct {
	Stalls  []Sum // by kind, the longest in total first; stalls of killed tasks come last
	Seconds []Second
	Long    []kernel.Stall // longest first
	Kswapd  []Kswapd       // of NUMA nodes on which it was awake, by number
}

// Sum sums up the stalls of one kind.
type Sum struct {
	What events.StallKind
	kernel.StallTotals
}

// Second sums up one second of the window. Stalls of killed tasks are left out: they did
// not lead to the kill.
type Second struct {
	BeforeNS                       uint64 // from this second to the instant
	Count, TotalNS, ReclaimedPages uint64
	HighNS                         uint64  // the part of TotalNS that was throttling by memory.high
	Sample                         *Sample // of the limiter; nil: none was taken
}

// Kswapd is the activity of kswapd on one NUMA node.
type Kswapd struct {
	Node int
	kernel.KswapdCount
}

// Before sums up the window before atNS over the tracks that in selects. Stalls that
// were counted by the first reading at or after atNS are included. Seconds get the
// samples of limiter; a zero limiter has none.
func (r *Recorder) Before(atNS uint64, limiter events.CgroupKey, in func(Key) bool) Summary {
	s := summing{recorder: r, atNS: atNS, limiter: limiter, sums: make(map[events.StallKind]*Sum),
		seconds: make(map[uint64]*Second)}

	for key, t := range r.tracks {
		if in(key) {
			s.add(t)
		}
	}

	return s.summary()
}

// summing is a Summary in the making.
type summing struct {
	recorder *Recorder
	atNS     uint64
	limiter  events.CgroupKey
	sums     map[events.StallKind]*Sum
	seconds  map[uint64]*Second // by the whole seconds before atNS
	long     []kernel.Stall
}

func (s *summing) add(t *track) {
	for _, slot := range t.slots {
		if slot.toNS+window <= s.atNS {
			continue
		}
		sec := s.second(slot.toNS)

		for _, k := range slot.kinds {
			sum := s.sums[k.What]
			if sum == nil {
				sum = &Sum{What: k.What}
				s.sums[k.What] = sum
			}

			sum.Add(k.StallTotals)
			sec.add(k)
		}
	}

	for _, stall := range t.long {
		if stall.BootNS+window > s.atNS {
			s.long = append(s.long, stall)
		}
	}
}

// second returns the second that a slot belongs to by its end.
func (s *summing) second(toNS uint64) *Second {
	before := (s.atNS - min(toNS, s.atNS)) / second

	sec := s.seconds[before]
	if sec == nil {
		sec = &Second{BeforeNS: before * second}
		if sample, ok := s.recorder.sampleAt(s.limiter, toNS+second/2); ok {
			sec.Sample = &sample
		}

		s.seconds[before] = sec
	}

	return sec
}

func (s *Second) add(k Sum) {
	if k.What == events.StallAfterKill {
		return
	}

	s.Count += k.Count
	s.TotalNS += k.TotalNS
	s.ReclaimedPages += k.ReclaimedPages

	if k.What == events.StallMemoryHigh {
		s.HighNS += k.TotalNS
	}
}

func (s *summing) summary() Summary {
	out := Summary{Long: s.long, Kswapd: s.recorder.kswapdBefore(s.atNS)}

	for _, sum := range s.sums {
		out.Stalls = append(out.Stalls, *sum)
	}

	for _, sec := range s.seconds {
		if sec.Count > 0 {
			out.Seconds = append(out.Seconds, *sec)
		}
	}

	slices.SortFunc(out.Stalls, func(a, b Sum) int {
		return cmp.Or(cmp.Compare(afterKill(a), afterKill(b)), cmp.Compare(b.TotalNS, a.TotalNS),
			cmp.Compare(a.What, b.What))
	})
	slices.SortFunc(out.Seconds, func(a, b Second) int { return cmp.Compare(b.BeforeNS, a.BeforeNS) })
	slices.SortFunc(out.Long, func(a, b kernel.Stall) int { return cmp.Compare(b.DurationNS, a.DurationNS) })
	out.Long = out.Long[:min(len(out.Long), Longest)]

	return out
}

// afterKill is 1 for stalls of killed tasks, which are listed last, else 0.
func afterKill(s Sum) int {
	if s.What == events.StallAfterKill {
		return 1
	}

	return 0
}

// kswapdBefore returns the activity of kswapd since the last reading before the window.
// Without such a reading, counts start at 0 with the tracer.
func (r *Recorder) kswapdBefore(atNS uint64) []Kswapd {
	if len(r.kswapd) == 0 {
		return nil
	}

	var from map[int]kernel.KswapdCount
	if first := r.kswapd[0]; first.bootNS+window <= atNS {
		from = first.nodes
	}

	var out []Kswapd

	for node, now := range r.kswapd[len(r.kswapd)-1].nodes {
		if now != from[node] {
			out = append(out, Kswapd{node, now.Since(from[node])})
		}
	}

	slices.SortFunc(out, func(a, b Kswapd) int { return cmp.Compare(a.Node, b.Node) })

	return out
}

// Recent sums up the stalls of each cgroup in the last windowNS before atNS, over all
// owners of limits.
func (r *Recorder) Recent(atNS, windowNS uint64) map[events.CgroupKey][]Sum {
	out := make(map[events.CgroupKey][]Sum)

	for key, t := range r.tracks {
		if t.lastNS+windowNS <= atNS {
			continue
		}
		sums := out[key.Cgroup]

		for _, s := range t.slots {
			if s.toNS+windowNS <= atNS {
				continue
			}

			for _, k := range s.kinds {
				i := slices.IndexFunc(sums, func(s Sum) bool { return s.What == k.What })
				if i < 0 {
					i = len(sums)
					sums = append(sums, Sum{What: k.What})
				}

				sums[i].Add(k.StallTotals)
			}
		}

		if len(sums) > 0 {
			out[key.Cgroup] = sums
		}
	}

	return out
}
