// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"slices"

	"github.com/oomtrace/oomtrace/bpf"
	"github.com/oomtrace/oomtrace/internal/events"
)

// hook is a place in the kernel that programs attach to.
type hook struct {
	name  string
	modes []mode // best first
	// when is the condition on which the hook is used at all.
	when condition
	// required hooks are those without which Open fails.
	required bool
	// without names the information that is missing where the hook is not attached, or
	// another one stands in.
	without string
	// remedy is the kernel feature that the hook needs.
	remedy string
	// stall is the kind of stall that no other hook reports, if any.
	stall events.StallKind
	// lost are the names of the records that this hook sends, for reports of lost ones.
	lost map[bpf.Kind]string
}

// mode is one way to attach a hook: all of its programs, or none. Without programs
// another hook stands in.
type mode struct {
	tier     events.Tier
	programs []string
	function string // to attach to, where it is not the one that the programs name
}

type condition uint8

const (
	always condition = iota
	// withStalls is for hooks of stall tracing.
	withStalls
	// onV1 and onV2 are for hooks of one version of cgroups.
	onV1
	onV2
	// withoutFentry is for hooks that complete what kprobes and tracepoints miss.
	withoutFentry
)

const (
	remedyFunction = "a kernel that permits root to use fentry (CONFIG_FUNCTION_TRACER and " +
		"CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS) or kprobes (CONFIG_KPROBE_EVENTS)"
	remedyTracepoint = "a kernel with this tracepoint"
)

// The hook of the OOM invocation decides how the others work. The choice of a victim needs
// it: out_of_memory numbers the invocations.
const (
	invocationHook = "out_of_memory"
	choiceHook     = "oom_kill_process"
)

// hooks are all hooks, in the order in which they are attached. The OOM invocation comes
// first: other programs are loaded with its attach mode as a constant. The reason for
// giving up comes before the mark, whose record wakes user space for both.
var hooks = []hook{
	{
		name: invocationHook,
		modes: []mode{
			fentry("fentry_out_of_memory", "fexit_out_of_memory"),
			kprobe("kprobe_out_of_memory", "kretprobe_out_of_memory"),
		},
		without: "OOM invocations without a kill (no killable task, waiting for an earlier victim); the allocation's " +
			"order and gfp flags, and badness points",
		remedy: remedyFunction,
		lost:   map[bpf.Kind]string{bpf.KindOOMReturn: "out_of_memory"},
	},
	{
		name: choiceHook,
		modes: []mode{
			fentry("fentry_oom_kill_process"),
			kprobe("kprobe_oom_kill_process"),
			tracepoint(), // the first SIGKILL of the invocation stands in, or oom:mark_victim
		},
		without: "the moment of the choice, before the SIGKILL",
		remedy:  remedyFunction,
		lost:    map[bpf.Kind]string{bpf.KindVictimChosen: "decision"},
	},
	// A thread's last reclaim shows whose limit was hit where out_of_memory is not hooked, or
	// its kprobe was skipped. Before the SIGKILLs, which come after it.
	{
		name: "vmscan:mm_vmscan_memcg_reclaim_begin", modes: []mode{tracepoint("memcg_reclaim_begin")}, when: withoutFentry,
		without: "whose limit was hit",
		remedy:  remedyTracepoint,
	},
	{
		name: "vmscan:mm_vmscan_direct_reclaim_begin", modes: []mode{tracepoint("direct_reclaim_begin")}, when: withoutFentry,
		without: "whether the node ran out of memory, or some of its NUMA nodes",
		remedy:  remedyTracepoint,
	},
	{
		name: "oom:mark_victim, evidence", modes: []mode{tracepoint("gave_up")}, when: withStalls,
		without: "why the allocator gave up",
		remedy:  remedyTracepoint,
		lost:    map[bpf.Kind]string{bpf.KindGaveUp: "why the allocator gave up"},
	},
	{
		name: "signal:signal_generate", modes: []mode{tracepoint("signal_generate")}, required: true,
		without: "no kill can be observed",
		remedy:  remedyTracepoint,
		lost:    map[bpf.Kind]string{bpf.KindKill: "sigkill", bpf.KindCharge: "charge", bpf.KindState: "state"},
	},
	{
		name: "signal:signal_generate, of users", modes: []mode{tracepoint("user_signal")},
		without: "SIGKILLs to containers and services that the OOM killer did not send, and their senders",
		remedy:  remedyTracepoint,
		lost:    map[bpf.Kind]string{bpf.KindUserKill: "user_kill", bpf.KindTargetAncestry: "ladder"},
	},
	{
		name: "oom:mark_victim", modes: []mode{tracepoint("mark_victim")}, required: true,
		without: "no kill can be observed",
		remedy:  remedyTracepoint,
		lost:    map[bpf.Kind]string{bpf.KindMark: "mark_victim"},
	},
	{
		name: "cgroup:cgroup_mkdir", modes: []mode{tracepoint("cgroup_mkdir")},
		without: "paths of cgroups created during the trace",
		remedy:  remedyTracepoint,
		lost:    map[bpf.Kind]string{bpf.KindCgroupChange: "cgroup"},
	},
	{
		name: "cgroup:cgroup_rmdir", modes: []mode{tracepoint("cgroup_rmdir")},
		without: "removals of cgroups; oomtrace keeps their entries and uses more memory",
		remedy:  remedyTracepoint,
	},
	{
		name: "cgroup:cgroup_rename", modes: []mode{tracepoint("cgroup_rename")},
		without: "new names of renamed cgroups",
		remedy:  remedyTracepoint,
	},
	{
		name: "sched:sched_process_exit", modes: []mode{tracepoint("sched_process_exit")},
		without: "time from SIGKILL to the victim's exit",
		remedy:  remedyTracepoint,
		lost:    map[bpf.Kind]string{bpf.KindExit: "exit"},
	},
	{
		name: "exit_mmap", modes: []mode{fentry("fexit_exit_mmap"), kprobe("kprobe_exit_mmap", "kretprobe_exit_mmap")},
		without: "time from SIGKILL until the victim's memory is freed",
		remedy:  remedyFunction,
		lost:    map[bpf.Kind]string{bpf.KindReleased: "released"},
	},
	{
		name: "oom:task_reaping", modes: []mode{tracepoint("finish_task_reaping", "skip_task_reaping")},
		without: "when the kernel's oom_reaper took the memory of a victim that does not exit",
		remedy:  remedyTracepoint,
		lost:    map[bpf.Kind]string{bpf.KindReaped: "reaped", bpf.KindReapSkipped: "reap_skipped"},
	},
	{
		name: "memory_max_write", when: onV2,
		modes:   []mode{fentry("fentry_memory_max_write"), kprobe("kprobe_memory_max_write")},
		without: "who lowered memory.max before a kill, unless the kill was during the write",
		remedy:  remedyFunction,
		lost:    map[bpf.Kind]string{bpf.KindLimitWrite: "limit_write"},
	},
	{
		name: "memory_high_write", when: onV2,
		modes:   []mode{fentry("fentry_memory_high_write"), kprobe("kprobe_memory_high_write")},
		without: "who lowered memory.high before a kill",
		remedy:  remedyFunction,
	},
	{
		name: "mem_cgroup_write", when: onV1,
		modes:   []mode{fentry("fentry_mem_cgroup_write"), kprobe("kprobe_mem_cgroup_write")},
		without: "who lowered memory.limit_in_bytes or memory.memsw.limit_in_bytes before a kill",
		remedy:  remedyFunction,
	},
	{
		name: "vmscan:mm_vmscan_memcg_reclaim", modes: []mode{tracepoint("stall_memcg_begin", "stall_memcg_end")}, when: withStalls,
		without: "stalls in reclaim for a cgroup's limit",
		remedy:  remedyTracepoint,
		stall:   events.StallMemcgReclaim,
		lost: map[bpf.Kind]string{
			bpf.KindStall: "stall", bpf.KindStallState: "start of a stall", bpf.KindStallCount: "stalls of further cgroups",
		},
	},
	{
		name: "vmscan:mm_vmscan_direct_reclaim", modes: []mode{tracepoint("stall_direct_begin", "stall_direct_end")}, when: withStalls,
		without: "stalls in direct reclaim for the node",
		remedy:  remedyTracepoint,
		stall:   events.StallDirectReclaim,
	},
	{
		name: "vmscan:mm_vmscan_node_reclaim", modes: []mode{tracepoint("stall_node_begin", "stall_node_end")}, when: withStalls,
		without: "stalls in reclaim of one NUMA node",
		remedy:  remedyTracepoint,
		stall:   events.StallNodeReclaim,
	},
	{
		name: "vmscan:mm_vmscan_throttled", modes: []mode{tracepoint("stall_throttled")}, when: withStalls,
		without: "throttling in reclaim",
		remedy:  remedyTracepoint,
		stall:   events.StallThrottle,
	},
	{
		name: "vmscan:mm_vmscan_kswapd", modes: []mode{tracepoint("stall_kswapd_wake", "stall_kswapd_sleep")}, when: withStalls,
		without: "times when kswapd was awake",
		remedy:  remedyTracepoint,
	},
	{
		name: "compaction:mm_compaction", modes: []mode{tracepoint("stall_compaction_begin", "stall_compaction_end")}, when: withStalls,
		without: "stalls in compaction",
		remedy:  remedyTracepoint,
		stall:   events.StallCompaction,
	},
	{
		name: "oom:reclaim_retry_zone", modes: []mode{tracepoint("retry_reclaim")}, when: withStalls,
		without: "why the allocator gave up on reclaim",
		remedy:  remedyTracepoint,
	},
	{
		name: "oom:compact_retry", modes: []mode{tracepoint("retry_compact")}, when: withStalls,
		without: "why the allocator gave up on compaction",
		remedy:  remedyTracepoint,
	},
	// From 6.18 on the work is done in a function with two underscores before its name,
	// and the other one is inlined.
	{
		name: "memory.high", when: withStalls,
		modes: []mode{
			fentry("fentry_high", "fexit_high").to("__mem_cgroup_handle_over_high"),
			fentry("fentry_high", "fexit_high"),
			kprobe("kprobe_high", "kretprobe_high").to("__mem_cgroup_handle_over_high"),
			kprobe("kprobe_high", "kretprobe_high"),
		},
		without: "time that tasks were throttled by memory.high",
		remedy:  remedyFunction,
		stall:   events.StallMemoryHigh,
		lost:    map[bpf.Kind]string{bpf.KindStallEnd: "end of a stall"},
	},
}

func fentry(programs ...string) mode { return mode{tier: events.TierFentry, programs: programs} }

func kprobe(programs ...string) mode { return mode{tier: events.TierKprobe, programs: programs} }

func tracepoint(programs ...string) mode {
	return mode{tier: events.TierTracepoint, programs: programs}
}

// to is the same mode with another function to attach to.
func (m mode) to(function string) mode {
	m.function = function
	return m
}

func hookNamed(name string) *hook {
	i := slices.IndexFunc(hooks, func(h hook) bool { return h.name == name })
	if i < 0 {
		return nil
	}

	return &hooks[i]
}

// Lost returns what the state of a hook costs, in words; empty if nothing.
func Lost(state events.Hook) string {
	h := hookNamed(state.Name)
	if h == nil || state.Tier != "" {
		return ""
	}

	return h.without
}

// Remedy returns what would avoid the loss.
func Remedy(state events.Hook) string {
	if h := hookNamed(state.Name); h != nil {
		return h.remedy
	}

	return ""
}

// UnseenStalls returns the kinds of stall that no attached hook reports, sorted. Hooks
// that were not requested do not count.
func (p *Probe) UnseenStalls() []events.StallKind {
	var kinds []events.StallKind

	for _, state := range p.hooks {
		if h := hookNamed(state.Name); state.Tier == "" && h != nil && h.stall != "" {
			kinds = append(kinds, h.stall)
		}
	}

	slices.Sort(kinds)

	return kinds
}

// lostNames are the published names of the kinds of record that can be lost.
var lostNames = func() (names [bpf.KindCount]string) {
	for _, h := range hooks {
		for kind, name := range h.lost {
			names[kind] = name
		}
	}

	return names
}()
