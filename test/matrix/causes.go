// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"

	"github.com/oomtrace/oomtrace/internal/events"
)

// firstCauses are what must be named first as the cause of a kill, by case.
var firstCauses = map[string][]string{
	"memcg-leaf":    {"own_limit"},
	"parent-limit":  {"ancestor_limit"},
	"oom-group":     {"group_kill"},
	"tmpfs":         {"tmpfs"},
	"swap-max":      {"swap_exhausted"},
	"limit-lowered": {"limit_lowered"},
	"no-killable":   {"no_killable"},
	"sysrq-f":       {"sysrq"},
	"cpuset":        {"cpuset_exhausted"},
	"mempolicy":     {"mempolicy_exhausted"},
	"global":        {"outside_containers"},
	"page-tables":   {"pagetables"},
	"dirty-cache":   {"page_cache_dirty"},
	"slab":          {"slab_unreclaimable", "slab_reclaimable"},
	"host-daemon":   {"outside_containers"},
}

// firstCause is what this tier and kernel can know of it.
func (cc *caseCheck) firstCause(inc *events.Incident) []string {
	switch cc.c.Name {
	case "cpuset", "mempolicy":
		if cc.tier == "tracepoint" { // told by the decision alone; that memory was free elsewhere is seen
			return []string{"outside_containers", "node_exhausted", "numa_imbalance"}
		}
	case "page-tables", "slab":
		if inc.Memory == nil || inc.Memory.PagetablesBytes == nil { // old kernels do not count them by cgroup
			return append([]string{"own_limit"}, firstCauses[cc.c.Name]...)
		}
	}

	return firstCauses[cc.c.Name]
}

// causes compares what is said to be the cause, of all incidents of a case.
func (cc *caseCheck) causes() {
	for _, inc := range cc.incidents {
		want := cc.firstCause(inc)
		if inc.Scope == events.ScopeUser || len(want) == 0 {
			continue
		}

		var ids []string
		for _, c := range inc.Causes {
			ids = append(ids, c.ID)
		}

		if len(ids) == 0 || !slices.Contains(want, ids[0]) {
			cc.problem("the causes are %q, the first is to be one of %q", ids, want)
		}
	}
}
