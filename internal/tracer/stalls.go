// SPDX-License-Identifier: Apache-2.0

package tracer

import (
	"cmp"
	"slices"
	"strings"

	"github.com/oomtrace/oomtrace/internal/alert"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/flight"
	"github.com/oomtrace/oomtrace/internal/host"
	"github.com/oomtrace/oomtrace/internal/kernel"
	"github.com/oomtrace/oomtrace/internal/resolve"
)

const (
	// readIntervalNS is the shortest time between two readings of the counts for kills. In
	// a burst, one reading serves many kills.
	readIntervalNS = 300e6
	// maxGaveUps is how many decisions of the allocator wait for the kills that follow
	// them.
	maxGaveUps = 64
	// samplesPerSecond bounds the files that are read while many cgroups stall.
	samplesPerSecond = 64
	// forgetAfterNS is how long the stalls of a removed cgroup are kept: a little longer
	// than the window of the flight recorder.
	forgetAfterNS = 65e9
	// gaveUpWithinNS is the longest time between the decision of the allocator to give up
	// and the kill that it led to: the allocator calls the OOM killer in the same round.
	gaveUpWithinNS = 10e9
)

// stallHistory is the enricher that reports the stalls before a kill. It owns the flight
// recorder.
type stallHistory struct {
	enabled  bool
	counts   stallCounts
	unseen   []string // kinds of stall that no hook reports
	tree     resolve.NamedTree
	layout   host.Layout
	clock    *host.BootClock
	page     uint64
	envelope func(kind string) events.Envelope
	critical func(events.CgroupKey) (unit string)

	recorder *flight.Recorder
	splits   *splits            // of the samples in the recorder
	kills    []*events.Incident // waiting for their history
	recent   recentKills
	readNS   uint64          // when the counts were last read for kills
	gone     []goneCgroup    // oldest first
	gaveUp   []kernel.GaveUp // oldest first, at most maxGaveUps
	err      error           // of the last reading of the counts
}

// stallCounts reads the counts of the kernel side. *probe.Probe implements it.
type stallCounts interface {
	Stalls() (*kernel.StallCounts, error)
	ForgetStalls(map[events.CgroupKey]bool)
}

// goneCgroup is a removed cgroup, whose stalls are forgotten after forgetAfterNS.
type goneCgroup struct {
	key    events.CgroupKey
	bootNS uint64
}

func (s *stallHistory) start(inc *events.Incident) bool {
	if !s.enabled || inc.Outcome != events.OutcomeKilled {
		return false
	}
	s.kills = append(s.kills, inc)
	s.recent.add(inc, s.clock.BootNS(inc.Time))

	return true
}

// findings returns the histories of all waiting kills. Reading the counts takes system
// calls, so it waits until no records are waiting to be read.
func (s *stallHistory) findings(nowNS uint64, quiet bool) []finding {
	if len(s.kills) == 0 || !quiet || nowNS-min(s.readNS, nowNS) < readIntervalNS {
		return nil
	}
	s.readNS = nowNS

	counts, err := s.counts.Stalls()
	if err != nil {
		s.err = err
		return nil
	}

	if counts != nil {
		s.recorder.Counts(*counts)
	}

	s.splits.moveTo(s.recorder)

	var found []finding
	for _, inc := range s.kills {
		found = append(found, finding{&events.Incident{ID: inc.ID, Before: s.before(inc)}, true})
	}
	s.kills = nil

	return found
}

// dropped returns the tracks that the recorder evicted: the next histories of their
// cgroups are incomplete.
func (s *stallHistory) dropped() (string, uint64) { return events.LostStallHistory, s.recorder.Evicted }

// add keeps the reason why the allocator gave up, until the kill that follows is reported.
func (s *stallHistory) add(g kernel.GaveUp) {
	if len(s.gaveUp) == maxGaveUps {
		s.gaveUp = slices.Delete(s.gaveUp, 0, 1)
	}
	s.gaveUp = append(s.gaveUp, g)
}

// removed schedules the stalls of a removed cgroup to be forgotten, once they are older
// than the history of any kill to come.
func (s *stallHistory) removed(key events.CgroupKey, bootNS uint64) {
	if s.enabled {
		s.gone = append(s.gone, goneCgroup{key, bootNS})
	}
}

// forget drops the stalls of cgroups that were removed more than forgetAfterNS ago.
func (s *stallHistory) forget(nowNS uint64) {
	s.recent.forget(nowNS)

	due := make(map[events.CgroupKey]bool)
	for len(s.gone) > 0 && nowNS-min(s.gone[0].bootNS, nowNS) > forgetAfterNS {
		due[s.gone[0].key] = true
		s.gone = s.gone[1:]
	}

	if len(due) > 0 {
		s.counts.ForgetStalls(due)
		s.recorder.Forget(due)
	}
}

// sample samples the cgroups in which tasks stalled in the last second, and calls also with
// the path of each. Other cgroups cost nothing.
func (s *stallHistory) sample(nowNS uint64, also func(path string)) {
	s.splits.moveTo(s.recorder)

	for _, key := range s.recorder.Active(nowNS, samplesPerSecond) {
		path, ok := s.tree.Path(key)
		if !ok {
			continue
		}

		sample := host.SampleCgroup(s.layout, path)
		s.recorder.Sample(key, flight.Sample{BootNS: nowNS, Sample: sample})

		if sample.LimitBytes != nil { // a limiter to be
			s.splits.request(splitRequest{key, path, nowNS})
		}

		also(path)
	}
}

// before returns the stalls before a kill: in the limiter's subtree, or on the whole node if
// no cgroup was the limiter.
func (s *stallHistory) before(inc *events.Incident) *events.Before {
	in := func(flight.Key) bool { return true }

	if of := subtree(inc); of != nil {
		limiter := *of
		below := func(key events.CgroupKey) bool {
			path, ok := s.tree.Path(key)
			return key == limiter.CgroupKey || ok && limiter.Path != "" && strings.HasPrefix(path, limiter.Path+"/")
		}
		// A task outside of the subtree may reclaim for its limit: one that lowers it.
		in = func(k flight.Key) bool { return below(k.Cgroup) || below(k.Owner) }
	}

	at := s.clock.BootNS(inc.Time)
	history := s.recorder.Before(at, subtreeKey(inc), in)

	out := &events.Before{WindowNS: flight.Seconds * 1e9, Stalls: []events.StallSum{}, Unseen: s.unseen}

	alone := s.recent.alone(inc)

	for _, sum := range history.Stalls {
		if sum.What == events.StallAfterKill && !alone {
			continue
		}
		out.Stalls = append(out.Stalls, events.StallSum{
			What: string(sum.What), Count: sum.Count, Fruitless: sum.NoProgress, TotalNS: sum.TotalNS, MaxNS: sum.MaxNS,
			ReclaimedBytes: sum.ReclaimedPages * s.page,
		})
	}

	for _, second := range history.Seconds {
		out.Timeline = append(out.Timeline, stallSecond(second, s.page))
	}

	for _, stall := range history.Long {
		if ofOther(inc, stall.What, stall.Current.TGID) {
			continue
		}
		line := s.line(stall)
		out.Longest = append(out.Longest, events.LongStall{
			What: line.What, BeforeNS: at - min(stall.BootNS, at), DurationNS: line.DurationNS,
			ReclaimedBytes: line.ReclaimedBytes, Task: line.Task, Limiter: line.Limiter,
		})
	}

	out.Guardians = s.criticalServices(at)

	if subtreeKey(inc).ID == 0 {
		for _, n := range history.Kswapd {
			out.Kswapd = append(out.Kswapd, events.Kswapd{Node: n.Node, Wakeups: n.Wakeups, AwakeNS: n.AwakeNS})
		}
		out.GaveUp = s.gaveUpOf(inc, at)
	}

	return out
}

func stallSecond(s flight.Second, page uint64) events.StallSecond {
	out := events.StallSecond{
		BeforeNS: s.BeforeNS, Count: s.Count, TotalNS: s.TotalNS, HighNS: s.HighNS,
		ReclaimedBytes: s.ReclaimedPages * page,
	}
	if s.Sample != nil {
		out.UsageBytes, out.LimitBytes = s.Sample.UsageBytes, s.Sample.LimitBytes
		out.MaxEvents, out.HighEvents = s.Sample.MaxEvents, s.Sample.HighEvents
		out.PSISomeNS, out.PSIFullNS = nanoseconds(s.Sample.PSISomeUS), nanoseconds(s.Sample.PSIFullUS)

		if split := s.Sample.Split; split != nil {
			out.AnonBytes, out.FileBytes, out.ShmemBytes = new(split.AnonBytes), new(split.FileBytes), new(split.ShmemBytes)
			out.KernelBytes = split.KernelBytes
		}
	}

	return out
}

func nanoseconds(us *uint64) *uint64 {
	if us == nil {
		return nil
	}

	return new(*us * 1000)
}

// criticalServices returns the total stalls of each critical service before an instant.
func (s *stallHistory) criticalServices(atNS uint64) []events.GuardianStall {
	units := make(map[string]uint64)

	for key, sums := range s.recorder.Recent(atNS, flight.Seconds*1e9) {
		if unit := s.critical(key); unit != "" {
			units[unit] += alert.Stalled(sums)
		}
	}

	var out []events.GuardianStall
	for unit, total := range units {
		out = append(out, events.GuardianStall{Unit: unit, TotalNS: total})
	}

	slices.SortFunc(out, func(a, b events.GuardianStall) int {
		return cmp.Or(cmp.Compare(b.TotalNS, a.TotalNS), cmp.Compare(a.Unit, b.Unit))
	})

	return out
}

// gaveUpOf returns why the allocator gave up on the allocation of a kill's trigger, or nil if
// that is unknown.
func (s *stallHistory) gaveUpOf(inc *events.Incident, atNS uint64) *events.GaveUpLine {
	if inc.Trigger == nil {
		return nil
	}

	near := func(ns uint64) bool { return max(atNS, ns)-min(atNS, ns) < gaveUpWithinNS }

	for _, g := range slices.Backward(s.gaveUp) {
		if int(g.Current.TID) != inc.Trigger.TID || !near(g.BootNS) {
			continue
		}

		var line events.GaveUpLine
		if r := g.Reclaim; r != nil && near(r.BootNS) {
			line.Reclaim = &events.ReclaimAnswer{
				BeforeNS: atNS - min(r.BootNS, atNS), Order: r.Order, Zone: r.Zone, Node: r.Node,
				ReclaimableBytes: r.ReclaimablePages * s.page, AvailableBytes: r.AvailablePages * s.page,
				MinWatermarkBytes: r.MinWatermarkPages * s.page,
				NoProgressLoops:   r.NoProgressLoops, WatermarkOK: r.WatermarkOK,
			}
		}

		if c := g.Compact; c != nil && near(c.BootNS) {
			line.Compact = &events.CompactAnswer{
				BeforeNS: atNS - min(c.BootNS, atNS), Order: c.Order, Priority: c.Priority, Result: c.Result,
				Retries: c.Retries, MaxRetries: c.MaxRetries, Again: c.Again,
			}
		}

		if line.Reclaim != nil || line.Compact != nil {
			return &line
		}
	}

	return nil
}

// line returns the published line of a single stall.
func (s *stallHistory) line(stall kernel.Stall) *events.StallLine {
	task := stall.Current

	p := events.Process{PID: int(task.TGID), TID: int(task.TID), Comm: task.LeaderComm, IsKernel: task.Kthread}
	if task.Comm != task.LeaderComm {
		p.Thread = task.Comm
	}

	place, _, _ := s.tree.Place(task.Cgroup)
	p.Cgroup, p.Workload = s.cgroup(task.Cgroup), place.Workload

	envelope := s.envelope(events.KindStall)
	envelope.Time = s.clock.Time(stall.BootNS).UTC()

	return &events.StallLine{
		Envelope: envelope, What: string(stall.What), DurationNS: stall.DurationNS,
		ReclaimedBytes: stall.ReclaimedPages * s.page, Task: p, Limiter: s.cgroup(stall.Owner),
	}
}

func (s *stallHistory) cgroup(key events.CgroupKey) *events.Cgroup {
	if key.ID == 0 {
		return nil
	}
	path, _ := s.tree.Path(key)

	return &events.Cgroup{CgroupKey: key, Path: path}
}

// subtree returns the cgroup whose stalls belong to a kill: the limiter, or the cgroup of a
// process that was killed from user space. It returns nil for the node.
func subtree(inc *events.Incident) *events.Cgroup {
	switch {
	case inc.Limiter != nil:
		return inc.Limiter.Cgroup
	case inc.Scope == events.ScopeUser && len(inc.Victims) > 0:
		return inc.Victims[0].Cgroup
	}

	return nil
}

func subtreeKey(inc *events.Incident) events.CgroupKey {
	if of := subtree(inc); of != nil {
		return of.CgroupKey
	}

	return events.CgroupKey{}
}
