// SPDX-License-Identifier: Apache-2.0

package perfetto

import (
	"fmt"

	"github.com/oomtrace/oomtrace/internal/answer"
	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/phrase"
)

// kill writes the slice of an incident.
func (w *Writer) kill(t *track, inc *events.Incident, at uint64) {
	name := answer.Killed(inc)
	if len(inc.Victims) > 0 {
		name = "killed " + name
	}

	if why := answer.Why(inc); why != "" {
		name += ": " + why
	}

	w.slice(t, slice{
		begin: at, end: after(at, tookNS(inc)), name: name, category: "oom", args: incidentArgs(inc),
	})
}

// tookNS is the time until the memory of all victims was given back, or else until they had exited; 0
// if that is not known.
func tookNS(inc *events.Incident) uint64 {
	var took uint64

	for i := range inc.Victims {
		v := &inc.Victims[i]
		for _, ns := range []*uint64{v.ExitAfterNS, v.ReleasedAfterNS} {
			if ns != nil {
				took = max(took, *ns)
			}
		}
	}

	if w := inc.Wait; w != nil && w.EndedAfterNS != nil {
		took = max(took, *w.EndedAfterNS)
	}

	return took
}

// before writes what preceded a kill, other than counters: the longest stalls, and what kswapd did.
func (w *Writer) before(node *track, inc *events.Incident, at uint64) {
	b := inc.Before
	if b == nil {
		return
	}

	owners := ownersIn(inc)
	for i := range b.Longest {
		w.stall(node, &b.Longest[i], since(at, b.Longest[i].BeforeNS), owners)
	}

	for _, k := range b.Kswapd {
		w.slice(w.track(node, trackOf{name: fmt.Sprintf("kswapd of NUMA node %d", k.Node), rank: rankKswapd}), slice{
			begin: since(at, b.WindowNS), end: at, category: "kswapd",
			name: fmt.Sprintf("awake %s, %s", phrase.Duration(k.AwakeNS), phrase.Plural(k.Wakeups, "wakeup")),
			args: args{}.uint("awake_ns", k.AwakeNS).uint("wakeups", k.Wakeups).uint("window_ns", b.WindowNS).
				text("incident", inc.ID),
		})
	}
}

// stall identifies a single stall: one that has a line of its own may also be among the longest of
// several incidents.
type stall struct {
	node       uint64
	what       string
	pid, tid   int
	durationNS uint64
}

// maxSeen bounds the stalls that are kept to write each once. One that was forgotten is written twice.
const maxSeen = 1 << 16

// sameStall is how much the end of a stall may differ between two lines: the times of both are
// converted from the clock of the boot on their own.
const sameStall = uint64(1e9)

// stall writes a single stall that ended at a time, unless it was written before. Owners, which may be
// nil, are cgroups that are known by more than their path.
func (w *Writer) stall(node *track, s *events.LongStall, end uint64, owners map[events.Cgroup]owner) {
	key := stall{node.uuid, start(s.What), s.Task.PID, s.Task.TID, s.DurationNS}
	if seen, ok := w.seen[key]; ok && max(seen, end)-min(seen, end) < sameStall {
		return
	}

	if len(w.seen) >= maxSeen {
		clear(w.seen)
	}

	w.seen[key] = end

	of := stallOwner(&s.Task, s.Limiter, owners)
	t := w.track(w.owner(node, of), trackOf{name: "stalls: " + phrase.Stall(s.What), rank: rankStall})

	w.slice(t, slice{
		begin: since(end, s.DurationNS), end: end, category: "stall",
		name: phrase.Task(s.Task.Comm, s.Task.PID) + ": " + phrase.Stall(s.What),
		args: args{}.text("kind", s.What).uint("duration_ns", s.DurationNS).uint("reclaimed_bytes", s.ReclaimedBytes).
			dict("task", taskArgs(&s.Task)).text("limiter_cgroup", cgroupPath(s.Limiter)),
	})
}

// pressure writes the window that a warning is about.
func (w *Writer) pressure(l *events.PressureLine, end uint64) {
	o := w.owner(w.node(&l.Envelope), cgroupOwner("", l.Workload, &l.Cgroup))

	w.slice(w.track(o, trackOf{name: "early warnings", rank: rankPressure}), slice{
		begin: since(end, l.WindowNS), end: end, name: warning(l.What), category: "pressure",
		args: args{}.text("kind", l.What).uint("window_ns", l.WindowNS).uint("total_ns", l.TotalNS).
			uint("count", l.Count).uint("fruitless_count", l.Fruitless).text("cgroup", l.Cgroup.Path),
	})
}

func warning(what string) string {
	switch what {
	case events.PressureMemoryHigh:
		return "throttled by memory.high"
	case events.PressureNoProgress:
		return "reclaim makes no progress"
	case events.PressureCritical:
		return "critical service stalled"
	}

	return phrase.Spaced(what)
}
