// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"maps"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

// shortage is who limited: whose limit was hit, or that the node ran out of memory, as far
// as the evidence goes.
type shortage struct {
	scope events.Scope
	// limiter and group are indexes in the victim's memcg ancestry, none if negative:
	// the owner of the limit, and the memcg whose memory.oom.group applied.
	limiter, group int
	// unsure names keys whose values were concluded rather than read.
	unsure []string
}

// unknownShortage applies where no record of the choice has come in.
var unknownShortage = shortage{scope: events.ScopeUnknown, limiter: -1, group: -1}

// ofNode reports whether the host or some of its NUMA nodes ran out of memory.
func (s *shortage) ofNode() bool {
	switch s.scope {
	case events.ScopeGlobal, events.ScopeSysrq, events.ScopeCpuset, events.ScopeMempolicy:
		return true
	}

	return false
}

// readShortage returns the shortage if oom_kill_process was seen: the kernel's own.
func readShortage(d *kernel.VictimChosen, cgroupV1 bool) shortage {
	s := shortage{scope: scopeOf(d.Constraint), limiter: -1}

	switch {
	case d.Sysrq:
		s.scope = events.ScopeSysrq
	case !s.ofNode():
		s.limiter = d.LimiterIndex
	}
	s.group = groupOf(d.Ancestry, s.limiter, cgroupV1)

	return s
}

// scopeOf maps the kernel's constraint. Constraints of future kernels keep their name.
func scopeOf(c kernel.Constraint) events.Scope {
	switch c {
	case kernel.ConstraintNone:
		return events.ScopeGlobal
	case kernel.ConstraintCpuset:
		return events.ScopeCpuset
	case kernel.ConstraintMempolicy:
		return events.ScopeMempolicy
	case kernel.ConstraintMemcg:
		return events.ScopeMemcg
	}

	return events.Scope(c)
}

// groupOf returns the highest memcg with memory.oom.group between the victim and the
// limiter (mm/memcontrol.c: mem_cgroup_get_oom_group), or -1. cgroup v1 has none.
func groupOf(ancestry []kernel.Memcg, limiter int, cgroupV1 bool) int {
	if cgroupV1 {
		return -1
	}

	top := limiter
	if top < 0 {
		top = len(ancestry) - 1
	}

	for i := top; i >= 0; i-- {
		if ancestry[i].OOMGroup {
			return i
		}
	}

	return -1
}

// concludeShortage returns the shortage if only oom:mark_victim was seen. hits are the
// indexes of the memcgs in the victim's ancestry whose limit was hit since the last
// choice (limitHits.since).
//
// The trigger's last reclaim decides between a memcg and the node: every charge that
// fails has reclaimed its memcg last, every allocation that fails has reclaimed the
// node. It does not distinguish a cpuset or a memory policy from the whole node.
func concludeShortage(d *kernel.VictimChosen, hits []int, cgroupV1 bool) shortage {
	s := shortage{scope: events.ScopeMemcg, limiter: -1}

	switch {
	case d.LastReclaim == kernel.ReclaimGlobal:
		s.scope = events.ScopeGlobal
		s.unsure = []string{"constraint"}
	case len(hits) == 1:
		s.limiter = hits[0]
	case len(hits) > 1:
		// Another ancestor hit its limit lately without a kill. The lowest one that is
		// full now is the most likely.
		s.limiter = lowestFull(d.Ancestry, hits)
		s.unsure = []string{"limiter"}
	case d.LastReclaim == kernel.ReclaimMemcg:
		s.limiter = lowestFull(d.Ancestry, everHit(d.Ancestry))
		s.unsure = []string{"limiter"}
	case d.Current.Kthread && strings.HasPrefix(d.Current.Comm, "kworker"):
		// drivers/tty/sysrq.c: moom_callback runs on a workqueue.
		s.scope = events.ScopeSysrq
	default:
		s.scope = events.ScopeUnknown
		s.unsure = []string{"scope", "limiter"}
	}
	s.group = groupOf(d.Ancestry, s.limiter, cgroupV1)

	return s
}

func everHit(ancestry []kernel.Memcg) []int {
	hits := make([]int, 0, len(ancestry))

	for i, memcg := range ancestry {
		if memcg.OOMLocal > 0 {
			hits = append(hits, i)
		}
	}

	return hits
}

func lowestFull(ancestry []kernel.Memcg, among []int) int {
	for _, i := range among {
		if nearLimit(ancestry[i].Memory) || nearLimit(ancestry[i].Swap) {
			return i
		}
	}

	return -1
}

// nearLimitPages is how far below its limit a full page_counter can be: the last charge
// fails as a batch (mm/memcontrol.c: MEMCG_CHARGE_BATCH).
const nearLimitPages = 64

func nearLimit(c kernel.Counter) bool {
	return c.Known && c.Max != kernel.NoLimit && c.Usage+nearLimitPages >= c.Max
}

// limitHits remembers how often each memcg hit its own limit. The kernel counts
// MEMCG_OOM in memory_events_local of the owner of the limit, and only there, before it
// chooses a victim (mm/memcontrol.c: mem_cgroup_oom).
type limitHits struct {
	last map[events.CgroupKey]uint64
}

func newLimitHits(counts map[events.CgroupKey]uint64) *limitHits {
	l := &limitHits{last: maps.Clone(counts)}
	if l.last == nil {
		l.last = make(map[events.CgroupKey]uint64)
	}

	return l
}

// observe starts the count of a new cgroup at 0.
func (l *limitHits) observe(change kernel.CgroupChange) {
	switch change.Op {
	case "mkdir":
		if _, known := l.last[change.Key]; !known {
			l.last[change.Key] = 0
		}
	case "rmdir":
		delete(l.last, change.Key)
	}
}

// learn takes in the counts of an invocation whose limiter does not depend on them.
func (l *limitHits) learn(memcgs ...kernel.Memcg) {
	for _, memcg := range memcgs {
		if memcg.EventsKnown {
			l.last[memcg.Key] = memcg.OOMLocal
		}
	}
}

// since returns the indexes of the memcgs whose limit was hit since their counts were
// taken in last, and takes in the new ones.
func (l *limitHits) since(ancestry []kernel.Memcg) (hits []int) {
	for i, memcg := range ancestry {
		if !memcg.EventsKnown {
			continue
		}

		last, known := l.last[memcg.Key]
		if known && memcg.OOMLocal > last || !known && memcg.OOMLocal > 0 && nearLimit(memcg.Memory) {
			hits = append(hits, i)
		}
		l.last[memcg.Key] = memcg.OOMLocal
	}

	return hits
}
