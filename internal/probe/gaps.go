// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"github.com/oomtrace/oomtrace/bpf"
	"github.com/oomtrace/oomtrace/internal/events"
)

// gaps tells what is lost where a hook is not attached, or not in the best way.
var gaps = map[string]string{
	"out_of_memory": "OOM passes that kill nobody (no killable task, waiting for a victim)",
	"oom_kill_process": "the allocation's order and flags, badness points, cpuset and memory policy; " +
		"the limiter is concluded from its event counter",
	"signal:signal_generate, of users":      "who killed a container or a service that no OOM explains",
	"exit_mmap":                             "when the victim's memory was given back",
	"sched:sched_process_exit":              "how long the victim took to die",
	"cgroup:cgroup_mkdir":                   "paths of cgroups made during the trace",
	"cgroup:cgroup_rmdir":                   "that cgroups are gone: memory of oomtrace itself",
	"cgroup:cgroup_rename":                  "new names of renamed cgroups",
	"vmscan:mm_vmscan_memcg_reclaim_begin":  "memcg told from node, where counters do not tell",
	"vmscan:mm_vmscan_direct_reclaim_begin": "memcg told from node, where counters do not tell",
	"vmscan:mm_vmscan_memcg_reclaim":        "reclaim against a cgroup's limit",
	"vmscan:mm_vmscan_direct_reclaim":       "direct reclaim for the node",
	"vmscan:mm_vmscan_node_reclaim":         "reclaim of one NUMA node",
	"vmscan:mm_vmscan_throttled":            "throttling in reclaim",
	"vmscan:mm_vmscan_kswapd":               "when kswapd was awake",
	"compaction:mm_compaction":              "compaction",
	"memory.high":                           "time that tasks slept over memory.high",
	"try_to_free_mem_cgroup_pages":          "whose limit a task reclaimed for, if not its own cgroup's",
	"oom:reclaim_retry_zone":                "why the allocator gave up reclaiming",
	"oom:compact_retry":                     "why the allocator gave up compacting",
	"oom:mark_victim, evidence":             "why the allocator gave up",
}

// Lost tells what the state of a hook costs, in words; empty: nothing.
func Lost(h events.Hook) string {
	if h.Tier == "" || h.Name == decision.name && h.Tier == events.TierTracepoint {
		return gaps[h.Name]
	}

	return ""
}

// Remedy tells how the loss could be avoided.
func Remedy(h events.Hook) string {
	switch h.Name {
	case "out_of_memory", "oom_kill_process", "exit_mmap", "memory.high", "try_to_free_mem_cgroup_pages":
		return "a kernel with CONFIG_FUNCTION_TRACER and DYNAMIC_FTRACE_WITH_DIRECT_CALLS (fentry), or with CONFIG_KPROBES, " +
			"that lets root use them"
	}

	return "a kernel with this tracepoint"
}

// lostNames are the published names of the kinds of record that can be lost.
var lostNames = [bpf.KindCount]string{
	bpf.KindVictimChosen:   "decision",
	bpf.KindCharge:         "charge",
	bpf.KindKill:           "sigkill",
	bpf.KindMark:           "mark_victim",
	bpf.KindOOMReturn:      "out_of_memory",
	bpf.KindExit:           "exit",
	bpf.KindReleased:       "released",
	bpf.KindCgroupChange:   "cgroup",
	bpf.KindState:          "state",
	bpf.KindStall:          "stall",
	bpf.KindStallState:     "stalls of further cgroups",
	bpf.KindGaveUp:         "why the allocator gave up",
	bpf.KindUserKill:       "user_kill",
	bpf.KindTargetAncestry: "ladder",
}
