/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What a thread last reclaimed for, which is whose limit its allocation failed at:
 * an allocation that fails has just reclaimed for the same memcg (mm/memcontrol.c:
 * try_charge_memcg, memory_max_write), or the same nodes (mm/page_alloc.c:
 * __alloc_pages_slowpath). It stands in for oom_control where out_of_memory cannot
 * be hooked, or its kprobe was skipped.
 */
#ifndef OOMTRACE_RECLAIM_H
#define OOMTRACE_RECLAIM_H

#include "compat.h"
#include "kernel.h"
#include "task.h"
#include "wire.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

struct last_reclaim {
	__u64 boot_ns;
	struct mem_cgroup *memcg; /* may be freed meanwhile: compared, never followed */
	nodemask_t *policy;	  /* the nodes of a memory policy; valid until the allocation returns */
	enum wire_reclaim kind;
	unsigned int gfp;
	__u32 charge_sent;
	__u32 pad;
};

/*
 * A reclaim this old has nothing to do with what the thread does now, unless the kernel
 * wrote its report to a slow console meanwhile.
 */
#define LATE_RECLAIM_NS NSEC_PER_SEC

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32); /* tid */
	__type(value, struct last_reclaim);
} last_reclaims SEC(".maps");

/* The current thread's; 0 if it has not reclaimed. */
static __always_inline struct last_reclaim *last_reclaim(void)
{
	__u32 tid = current_tid();

	return bpf_map_lookup_elem(&last_reclaims, &tid);
}

static __always_inline void on_reclaim(enum wire_reclaim kind)
{
	struct last_reclaim reclaim = { .boot_ns = bpf_ktime_get_boot_ns(), .kind = kind };
	struct scan_control *control = current_reclaim(current_task());
	__u32 tid = current_tid();

	if (control && kind == WIRE_RECLAIM_MEMCG) {
		reclaim.memcg = BPF_CORE_READ(control, target_mem_cgroup);
	} else if (control) {
		reclaim.policy = BPF_CORE_READ(control, nodemask);
		reclaim.gfp = BPF_CORE_READ(control, gfp_mask);
	}
	bpf_map_update_elem(&last_reclaims, &tid, &reclaim, BPF_ANY);
}

/*
 * Whether the current thread may be in the OOM killer: it reclaims before, or is a
 * kernel thread (sysrq-f, kswapd).
 */
static __always_inline bool may_run_oom_killer(void)
{
	struct last_reclaim *reclaim = last_reclaim();

	if (reclaim && bpf_ktime_get_boot_ns() - reclaim->boot_ns < LATE_RECLAIM_NS)
		return true;

	return BPF_CORE_READ(current_task(), flags) & PF_KTHREAD;
}

/* At a thread's exit: a later thread with its ID has not reclaimed. */
static __always_inline void forget_reclaim(void)
{
	__u32 tid = current_tid();

	bpf_map_delete_elem(&last_reclaims, &tid);
}

#endif
