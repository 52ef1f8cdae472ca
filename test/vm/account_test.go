// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/oomtrace/oomtrace/internal/events"
)

// checkKeys: each required key has a value or is named as unknown, and only keys that may
// be unknown to this tier are.
func (c *Check) checkKeys(inc *events.Incident) {
	text, err := json.Marshal(inc)

	var tree map[string]any
	if err == nil {
		err = json.Unmarshal(text, &tree)
	}

	if err != nil {
		c.errorf("%v", err)
		return
	}

	for _, key := range requiredKeys(inc) {
		unknown := namesUnknown(inc, key)

		switch has := hasKey(tree, strings.Split(key, ".")); {
		case has && unknown && key != "limiter" && key != "scope":
			c.errorf("%s: got a value, but it is named as unknown", key)
		case !has && !unknown:
			c.errorf("%s: got neither a value nor its name in unknown", key)
		}
	}

	for _, key := range inc.Unknown {
		if !c.mayBeUnknown(key, inc) {
			c.errorf("%s: got it as unknown, want a value", key)
		}
	}
}

var (
	requiredOfAll = strings.Fields(`scope outcome tier trigger.pid trigger.tid trigger.comm allocation.class allocation.order
		allocation.gfp allocation.total_pages limiter.level limiter.which limiter.usage_bytes limiter.limit_bytes ladder memory`)
	requiredOfKills = strings.Fields(`killer.kind killer.path passes.killed audit.text victims.pid victims.tid victims.comm
		victims.role victims.anon_rss_bytes victims.file_rss_bytes victims.shmem_rss_bytes victims.swap_bytes
		victims.pgtables_bytes victims.total_vm_bytes victims.oom_score_adj victims.uid victims.start_time
		victims.is_container_init victims.exit_after_ns victims.released_after_ns victims.cgroup.path`)
	requiredOfExiting    = strings.Fields(`exiting.pid exiting.tid exiting.comm exiting.cgroup.path`)
	requiredOfMemcgKills = strings.Fields(`limiter.cgroup.path ladder.usage_bytes ladder.peak_bytes ladder.cgroup.path
		memory.anon_bytes memory.file_bytes memory.slab_bytes memory.kernel_stack_bytes memory.pagetables_bytes
		memory.sock_bytes memory.file_dirty_bytes memory.file_writeback_bytes memory.active_file_bytes
		memory.inactive_file_bytes memory.unevictable_bytes memory.anon_thp_bytes memory.slab_reclaimable_bytes
		memory.slab_unreclaimable_bytes memory.percpu_bytes`)
	requiredOfWaits = strings.Fields(`scope outcome tier trigger.pid trigger.tid trigger.comm trigger.cgroup.path limiter.level
		limiter.which limiter.usage_bytes limiter.limit_bytes limiter.cgroup.path limiter.oom_kill_disable limiter.under_oom
		ladder.usage_bytes ladder.peak_bytes ladder.cgroup.path memory.anon_bytes memory.file_bytes wait.since wait.tasks`)
	keysOfRepeat        = strings.Fields(`trigger limiter.usage_ limiter.limit_ limiter.swap_ limiter.protected_ allocation.`)
	requiredOfSenders   = strings.Fields(`killer.pid killer.comm killer.uid`)
	requiredOfUserKills = strings.Fields(`scope outcome tier ladder ladder.usage_bytes ladder.peak_bytes ladder.cgroup.path
		killer.kind killer.path victims.pid victims.tid victims.comm
		victims.anon_rss_bytes victims.file_rss_bytes victims.shmem_rss_bytes victims.swap_bytes victims.pgtables_bytes
		victims.total_vm_bytes victims.oom_score_adj victims.uid victims.start_time victims.is_container_init
		victims.cgroup.path`)
)

func requiredKeys(inc *events.Incident) []string {
	switch {
	case byUser(inc) && inc.Killer != nil && inc.Killer.Kind == events.KillerKernel:
		return requiredOfUserKills // no process sent it
	case byUser(inc):
		return slices.Concat(requiredOfUserKills, requiredOfSenders)
	case inc.Outcome == events.OutcomeAlreadyExiting:
		return slices.Concat(requiredOfAll, requiredOfExiting)
	case inc.Outcome == events.OutcomeOOMKillDisabled:
		return requiredOfWaits
	case inc.Outcome != events.OutcomeKilled:
		return requiredOfAll
	case inc.Scope != events.ScopeMemcg:
		return slices.Concat(requiredOfAll, requiredOfKills)
	default:
		return slices.Concat(requiredOfAll, requiredOfKills, requiredOfMemcgKills)
	}
}

// hasKey follows a path of keys; in a list, every element must have the rest.
func hasKey(value any, path []string) bool {
	if list, ok := value.([]any); ok {
		return len(list) > 0 && !slices.ContainsFunc(list, func(e any) bool { return !hasKey(e, path) })
	}

	if len(path) == 0 {
		return value != nil
	}

	object, ok := value.(map[string]any)
	if !ok {
		return false
	}

	next, ok := object[path[0]]

	return ok && hasKey(next, path[1:])
}

// mayBeUnknown reports whether a key may be unknown in an incident of this case.
func (c *Check) mayBeUnknown(key string, inc *events.Incident) bool {
	if byUser(inc) || inc.Outcome == events.OutcomeOOMKillDisabled {
		return strings.HasPrefix(key, "ladder.swap_") && c.Kernel.CgroupV1 // without swap accounting
	}

	return slices.Contains(c.spec.Unknown, key) || c.unknownToAll(key, inc) || c.unknownOfRepeat(key, inc) || c.unknownBySkip(key) ||
		c.Tier == tierKprobe && key == "victims.released_after_ns" || // skipped where another BPF program is in the way
		c.Tier == tierTracepoint && c.unknownToTracepoints(key, inc)
}

// unknownToAll reports whether a key may be unknown to every tier.
func (c *Check) unknownToAll(key string, inc *events.Incident) bool {
	ofNode := inc.Scope != events.ScopeMemcg
	noVictim := inc.Outcome != events.OutcomeKilled

	switch key {
	case "limiter.usage_bytes", "limiter.swap_usage_bytes":
		return ofNode
	case "limiter.protected_min_bytes", "limiter.protected_low_bytes":
		return ofNode && noVictim // of the victim's ancestry
	case "limiter.limit_bytes":
		return inc.Scope == events.ScopeCpuset || inc.Scope == events.ScopeMempolicy
	case "memory":
		// Where the log is rate limited, the kernel does not flush the counters.
		return ofNode || noVictim || !c.isLogged(inc)
	case "memory.pagetables_bytes":
		return c.Kernel.is("5.10")
	case "allocation.class":
		return true // a compiler may have inlined the function that shows it
	case "ladder", "allocation.total_pages":
		return noVictim
	case "ladder.min_bytes", "ladder.low_bytes":
		return noVictim // the ladder is then the log's
	case "ladder.high_bytes", "ladder.peak_bytes", "ladder.oom_group": // the ancestry is from the kernel's log
		return noVictim
	}

	return false
}

// unknownOfRepeat reports whether a key may be unknown in a later run of invocations that
// found nobody to kill: of those the kernel side sends their number alone, and in a burst
// more than ten seconds may pass between two of one cgroup.
func (c *Check) unknownOfRepeat(key string, inc *events.Incident) bool {
	return c.spec.Burst && inc.Outcome == events.OutcomeNoKillable && namesUnknown(inc, "trigger") &&
		slices.ContainsFunc(keysOfRepeat, func(k string) bool { return strings.HasPrefix(key, k) })
}

// unknownBySkip reports whether the kernel skipped the program that records a key, and
// oomtrace reported that.
func (c *Check) unknownBySkip(key string) bool {
	skipped := func(suffix string) bool {
		return slices.ContainsFunc(c.Skipped, func(program string) bool { return strings.HasSuffix(program, suffix) })
	}

	return strings.HasSuffix(key, "_after_ns") && slices.Contains(c.Skipped, "sched_process_exit") ||
		key == "victims.released_after_ns" && skipped("exit_mmap")
}

// unknownToTracepoints reports whether a key may be unknown to tracepoints alone, though the
// kernel's own report completes their incidents.
func (c *Check) unknownToTracepoints(key string, inc *events.Incident) bool {
	switch key {
	case "victims.released_after_ns":
		return true
	case "victims.points", "allocation.total_pages": // not every report has what they follow from
		return true
	case "allocation.order", "allocation.gfp", "allocation.gfp_flags":
		return !c.isLogged(inc)
	}

	return false
}

// isLogged reports whether the kernel logged a whole report of an incident.
func (c *Check) isLogged(inc *events.Incident) bool {
	return slices.ContainsFunc(c.Log.Incidents, func(log *events.Incident) bool {
		return log.Trigger != nil && len(log.Victims) > 0 && isVictim(inc, log.Victims[0].TID)
	})
}
