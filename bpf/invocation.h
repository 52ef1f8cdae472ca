/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The OOM invocation that a thread is in, and its state until it returns. */
#ifndef OOMTRACE_INVOCATION_H
#define OOMTRACE_INVOCATION_H

#include "kernel.h"
#include "task.h"
#include "wire.h"
#include <bpf/bpf_helpers.h>

/* An enum wire_attach_mode, set by user space. With tracepoints only, a choice is seen at mark_victim. */
volatile const __u32 attach_mode = 0;

/*
 * Set by user space when all programs are attached, which takes a while. Before, a kill
 * would be an invocation whose SIGKILL nobody saw: one that chose nobody. An invocation
 * that has begun then is without a number, as where the kernel skips its kprobe.
 */
volatile bool attached;

/*
 * One call of out_of_memory. Where that function is not hooked, or its kprobe was
 * skipped, the thread's last SIGKILL by the kernel, with the number 0.
 */
struct invocation {
	__u64 number;
	struct oom_control *oc;
	struct mem_cgroup *limiter;
	struct task_struct *target; /* of the last SIGKILL; valid until the next record of this thread */
	struct mm_struct *marked_mm;
	struct mm_struct *target_mm;
	__u64 target_ns; /* of that SIGKILL */
	__u32 target_tid;
	__u32 chosen; /* TGID */
	__u32 kills;
	__u32 marks;
	__u32 choice_sent;
	__u32 charge_sent;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32); /* tid */
	__type(value, struct invocation);
} invocations SEC(".maps");

/* Written only under oom_lock, at the entry of out_of_memory. */
static __u64 invocation_number;

static __always_inline struct invocation *current_invocation(void)
{
	__u32 tid = current_tid();

	return bpf_map_lookup_elem(&invocations, &tid);
}

static __always_inline long set_current_invocation(struct invocation *invocation)
{
	__u32 tid = current_tid();

	return bpf_map_update_elem(&invocations, &tid, invocation, BPF_ANY);
}

#endif
