// SPDX-License-Identifier: Apache-2.0

package phrase

import (
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// Outcome is the outcome of an incident as a headline has it. A kill from user space is
// no OOM.
func Outcome(scope events.Scope, o events.Outcome) string {
	if scope == events.ScopeUser {
		return "KILLED"
	}

	switch o {
	case events.OutcomeKilled:
		return "OOM KILL"
	case events.OutcomeNoKillable:
		return "OOM, NO KILLABLE PROCESS"
	case events.OutcomeWaiting:
		return "OOM, WAITING FOR EARLIER VICTIM"
	case events.OutcomeAlreadyExiting:
		return "OOM, VICTIM ALREADY EXITING"
	case events.OutcomeOOMKillDisabled:
		return "OOM, KILLER DISABLED, TASKS WAIT"
	case events.OutcomeSuspending:
		return "OOM, NODE SUSPENDING"
	case events.OutcomeSkipped:
		return "OOM, SELECTION SKIPPED"
	case "":
		return "OOM"
	}

	return "OOM, " + strings.ToUpper(Spaced(string(o)))
}

// WaitEnd is what ended a wait for memory, as a clause.
func WaitEnd(e events.WaitEnd) string {
	switch e {
	case events.WaitEndKillerEnabled:
		return "the OOM killer was enabled"
	case events.WaitEndLimitRaised:
		return "the limit was raised"
	case events.WaitEndTaskExited:
		return "a waiting task exited"
	case events.WaitEndMemoryFreed:
		return "memory was freed"
	case events.WaitEndCgroupRemoved:
		return "the cgroup was removed"
	}

	return Spaced(string(e))
}

// Shortage is what ran out; empty where the scope is not known. The limiter may be nil.
func Shortage(scope events.Scope, l *events.Limiter) string {
	numa := "NUMA nodes"
	if l != nil && len(l.Nodes) > 0 {
		numa = NUMANodes(l.Nodes)
	}

	switch scope {
	case events.ScopeMemcg:
		return "memcg limit"
	case events.ScopeGlobal:
		return "node out of memory"
	case events.ScopeCpuset:
		return numa + " of the cpuset out of memory"
	case events.ScopeMempolicy:
		return numa + " of the memory policy out of memory"
	case events.ScopeSysrq:
		return "requested by sysrq-f"
	case events.ScopeUnknown:
		return "limit unknown"
	}

	return Spaced(string(scope))
}

// Class is what the allocation was for (events.Allocation.Class).
func Class(c string) string {
	switch c {
	case "anon_fault":
		return "anonymous page fault"
	case "sock":
		return "socket buffers"
	case "pagetable":
		return "page tables"
	case "limit_lowered":
		return "limit lowered below usage"
	case "kswapd", "sysrq":
		return "no allocation"
	case "other":
		return "other memory"
	}

	return Spaced(c) // page_cache, tmpfs, slab
}

// Role is why a victim died.
func Role(r events.Role) string {
	switch r {
	case events.RoleGroup:
		return "group member"
	case events.RoleSharedMM:
		return "shares the victim's memory"
	case events.RoleUnknown:
		return "role ?"
	}

	return Spaced(string(r))
}

// Stall is a kind of stall (events.StallKind).
func Stall(kind string) string {
	switch events.StallKind(kind) {
	case events.StallMemoryHigh:
		return "memory.high"
	case events.StallAfterKill:
		return "reclaim after the kill"
	}

	return Spaced(kind)
}
