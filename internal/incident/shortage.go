// SPDX-License-Identifier: Apache-2.0

package incident

import (
	"slices"
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

// staleNS is how old a worker's last reclaim is at least if it has nothing to do with a
// kill.
const staleNS = 1e9

// concludeShortage returns the shortage if only oom:mark_victim was seen. The thread's last
// reclaim shows it: an allocation that fails has just reclaimed for the limit at which it
// failed (mm/memcontrol.c: try_charge_memcg, memory_max_write), or from the node
// (mm/page_alloc.c: __alloc_pages_slowpath), however long the kernel's report then took.
// Two callers of out_of_memory have not: the worker of sysrq-f, and kswapd, which keeps a
// working set (mm/vmscan.c: lru_gen_age_node, since 6.1).
func (c *Config) concludeShortage(d *kernel.VictimChosen) shortage {
	s := shortage{limiter: -1}

	switch {
	case c.isSysrq(d):
		s.scope = events.ScopeSysrq
	case d.Current.Kthread && strings.HasPrefix(d.Current.Comm, "kswapd"):
		s.scope = events.ScopeGlobal
	case d.LastReclaim == kernel.ReclaimGlobal:
		s.scope, s.unsure = c.concludeNodes(d)
	case d.LastReclaim == kernel.ReclaimMemcg:
		s.scope, s.limiter = events.ScopeMemcg, max(d.LimiterIndex, -1)
		if s.limiter < 0 {
			s.unsure = []string{"limiter"}
		}
	default:
		s.scope, s.unsure = events.ScopeUnknown, []string{"scope", "limiter"}
	}

	s.group = groupOf(d.Ancestry, s.limiter, c.CgroupV1)

	return s
}

// isSysrq reports whether sysrq-f requested a kill: drivers/tty/sysrq.c runs moom_callback
// on a workqueue. A worker may also allocate for others, and fail: it has reclaimed then.
func (c *Config) isSysrq(d *kernel.VictimChosen) bool {
	if !d.Current.Kthread || !strings.HasPrefix(d.Current.Comm, "kworker") {
		return false
	}

	if c.Symbol != nil {
		for _, address := range d.Stack {
			if name, ok := c.Symbol(address); ok && name == "moom_callback" {
				return true
			}
		}
	}

	return d.LastReclaim == kernel.ReclaimNone || d.BootNS-min(d.ReclaimNS, d.BootNS) > staleNS
}

// concludeNodes returns what restricted an allocation that failed for want of free pages,
// by the same test as the kernel (mm/oom_kill.c: constrained_alloc): whether a node with
// memory is missing among those that it may use. Without __GFP_HARDWALL, which the kernel's
// own memory has not, it may leave its cpuset: for all nodes on cgroup v2, for those of an
// ancestor on v1. So may a task that exits (kernel/cgroup/cpuset.c: cpuset_node_allowed).
func (c *Config) concludeNodes(d *kernel.VictimChosen) (scope events.Scope, unsure []string) {
	restricted := slices.ContainsFunc(c.MemoryNodes, func(node int) bool { return !slices.Contains(d.Nodes, node) })

	switch {
	case len(c.MemoryNodes) == 0, !d.NodesKnown:
		return events.ScopeGlobal, []string{"constraint"}
	case restricted && d.PolicyNodes:
		return events.ScopeMempolicy, nil
	case restricted && !d.Hardwall && c.CgroupV1:
		return events.ScopeGlobal, []string{"constraint"}
	case restricted && (!d.Hardwall || d.Current.Exiting):
		return events.ScopeGlobal, nil
	case restricted:
		return events.ScopeCpuset, nil
	case d.PolicyNodes: // of all nodes: the cpuset's were not read
		return events.ScopeGlobal, []string{"constraint"}
	}

	return events.ScopeGlobal, nil
}
