// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
	"github.com/oomtrace/oomtrace/internal/kernel"
)

// verdict is who limited, as far as the evidence goes.
type verdict struct {
	scope events.Scope
	// limiter and group are places in the decision's chain, none if negative:
	// the owner of the limit, and the cgroup whose memory.oom.group counted.
	limiter, group int
	// unsure names what was concluded rather than read.
	unsure []string
}

var lostVerdict = verdict{scope: events.ScopeUnknown, limiter: -1, group: -1}

// judge reads the verdict where oom_kill_process was seen.
func (c *Correlator) judge(d *kernel.VictimChosen) verdict {
	v := verdict{limiter: -1}

	switch {
	case d.Sysrq:
		v.scope = events.ScopeSysrq
	case d.Constraint == kernel.ConstraintNone:
		v.scope = events.ScopeGlobal
	case d.Constraint == kernel.ConstraintCpuset:
		v.scope = events.ScopeCpuset
	case d.Constraint == kernel.ConstraintMempolicy:
		v.scope = events.ScopeMempolicy
	case d.Constraint == kernel.ConstraintMemcg:
		v.scope, v.limiter = events.ScopeMemcg, d.LimiterIndex
	default:
		v.scope, v.limiter = events.Scope(d.Constraint), d.LimiterIndex
	}
	v.group = c.groupOf(d, v.limiter)

	return v
}

// groupOf is the highest memcg with memory.oom.group between the victim and the
// limiter (mm/memcontrol.c: mem_cgroup_get_oom_group); cgroup v1 has none.
func (c *Correlator) groupOf(d *kernel.VictimChosen, limiter int) int {
	if c.cfg.CgroupV1 {
		return -1
	}

	top := limiter
	if top < 0 {
		top = len(d.Ancestry) - 1
	}

	for i := top; i >= 0; i-- {
		if d.Ancestry[i].OOMGroup {
			return i
		}
	}

	return -1
}

// localEvents finds the owner of the limit with tracepoints only: the kernel
// counts MEMCG_OOM at it, and at it alone, in memory_events_local before it
// chooses (mm/memcontrol.c: mem_cgroup_oom).
type localEvents struct {
	last map[events.CgroupKey]uint64
}

func (l *localEvents) observe(change kernel.CgroupChange) {
	switch change.Op {
	case "mkdir":
		if _, known := l.last[change.Key]; !known {
			l.last[change.Key] = 0
		}
	case "rmdir":
		delete(l.last, change.Key)
	}
}

// learn takes the counts of cgroups whose part in a decision is known without them.
func (l *localEvents) learn(levels ...kernel.Memcg) {
	for _, level := range levels {
		if level.EventsKnown {
			l.last[level.Key] = level.OOMLocal
		}
	}
}

// nearLimitPages: a page_counter at its limit may lack what the last charge
// could not have, a batch at most (mm/memcontrol.c: MEMCG_CHARGE_BATCH).
const nearLimitPages = 64

func nearLimit(c kernel.Counter) bool {
	return c.Known && c.Max != kernel.NoLimit && c.Usage+nearLimitPages >= c.Max
}

// judge concludes the verdict of a decision seen at mark_victim. grown tells
// whether a limit was hit since the last one: if not, this victim was not chosen
// but belongs to a group.
//
// Reclaim decides between a memcg and the node: every charge that fails has
// reclaimed its memcg last, every allocation that fails the node. It cannot
// tell a cpuset or a memory policy from the whole node.
func (l *localEvents) judge(c *Correlator, d *kernel.VictimChosen) (v verdict, grown bool) {
	var candidates []int

	for i, level := range d.Ancestry {
		if !level.EventsKnown {
			continue
		}

		last, known := l.last[level.Key]
		if known && level.OOMLocal > last || !known && level.OOMLocal > 0 && nearLimit(level.Memory) {
			candidates = append(candidates, i)
		}
		l.last[level.Key] = level.OOMLocal
	}
	grown = len(candidates) > 0
	v = verdict{scope: events.ScopeMemcg, limiter: -1}

	switch {
	case d.LastReclaim == kernel.ReclaimGlobal:
		v.scope = events.ScopeGlobal
		v.unsure = []string{"constraint"}
	case len(candidates) == 1:
		v.limiter = candidates[0]
	case grown:
		// Another ancestor was at its limit lately, without a kill. The lowest
		// that is full now is the likeliest.
		v.limiter = lowestFull(d.Ancestry, candidates)
		v.unsure = []string{"limiter"}
	case d.LastReclaim == kernel.ReclaimMemcg:
		all := make([]int, 0, len(d.Ancestry))
		for i, level := range d.Ancestry {
			if level.OOMLocal > 0 {
				all = append(all, i)
			}
		}
		v.limiter = lowestFull(d.Ancestry, all)
		v.unsure = []string{"limiter"}
	case d.Current.Kthread && strings.HasPrefix(d.Current.Comm, "kworker"):
		// drivers/tty/sysrq.c: moom_callback runs on a workqueue.
		v.scope = events.ScopeSysrq
	default:
		v.scope = events.ScopeUnknown
		v.unsure = []string{"scope", "limiter"}
	}
	v.group = c.groupOf(d, v.limiter)

	return v, grown
}

func lowestFull(chain []kernel.Memcg, among []int) int {
	for _, i := range among {
		if nearLimit(chain[i].Memory) || nearLimit(chain[i].Swap) {
			return i
		}
	}

	return -1
}
