/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What all programs share: the rings, the counts of what was lost, and how a
 * task is told. User space gives all objects the same maps.
 */
#ifndef OOMTRACE_COMMON_H
#define OOMTRACE_COMMON_H

#include "compat.h"

/* Which hierarchy has the memory controller; 0 is cgroup v2. Set by user space. */
volatile const __u32 memory_hierarchy = 0;

/*
 * urgent wakes user space for what ends a story: a mark, a pass, a user's
 * SIGKILL, a cgroup's life. What comes before it in the same pass is seen with
 * it. bulk never wakes; it is drained on a deadline.
 */
#define URGENT_BYTES (1 << 21)

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, URGENT_BYTES);
} urgent SEC(".maps");

/* Half of it holds some 8000 stalls: what comes between two readings at 80 000 a second. */
#define BULK_BYTES (1 << 21)

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, BULK_BYTES);
} bulk SEC(".maps");

/*
 * Records that found their ring, or their map, full; by kind. User space maps it
 * into its memory: while a bpf() call holds a map, kprobe programs do not run on
 * that CPU (kernel/bpf/syscall.c: bpf_disable_instrumentation).
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, WIRE_KINDS);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

static __always_inline void count_lost(__u32 kind)
{
	__u64 *count = bpf_map_lookup_elem(&lost, &kind);

	if (count)
		__sync_fetch_and_add(count, 1);
}

static __always_inline struct task_struct *current_task(void)
{
	return (struct task_struct *)bpf_get_current_task();
}

static __always_inline __u32 current_tid(void)
{
	return (__u32)bpf_get_current_pid_tgid();
}

/* Where a css_set has the memory controller's css. */
static __always_inline __u64 memory_css_offset(void)
{
	return bpf_core_field_offset(struct css_set, subsys) +
	       bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id) * sizeof(void *);
}

static __always_inline struct cgroup_subsys_state *task_memory_css(struct task_struct *task)
{
	struct css_set *set = BPF_CORE_READ(task, cgroups);
	struct cgroup_subsys_state *css = 0;

	bpf_probe_read_kernel(&css, sizeof(css), (void *)set + memory_css_offset());
	return css;
}

/*
 * Where the task is. On cgroup v2 its own cgroup, which may lie below the memcg
 * that it is charged to: not every cgroup has the memory controller.
 */
static __always_inline struct cgroup *task_cgroup(struct task_struct *task)
{
	if (memory_hierarchy == 0)
		return BPF_CORE_READ(task, cgroups, dfl_cgrp);
	return BPF_CORE_READ(task_memory_css(task), cgroup);
}

static __always_inline void fill_task(struct wire_task *out, struct task_struct *task)
{
	struct task_struct *leader = BPF_CORE_READ(task, group_leader);
	struct cgroup *cgroup = task_cgroup(task);

	out->tgid = BPF_CORE_READ(task, tgid);
	out->tid = BPF_CORE_READ(task, pid);
	BPF_CORE_READ_INTO(&out->comm, task, comm);
	BPF_CORE_READ_INTO(&out->leader_comm, leader, comm);
	out->flags = BPF_CORE_READ(task, flags) & PF_KTHREAD ? WIRE_TASK_KTHREAD : 0;
	out->hierarchy = BPF_CORE_READ(cgroup, root, hierarchy_id);
	out->cgroup_id = BPF_CORE_READ(cgroup, kn, id);
}

static __always_inline void fill_header(struct wire_header *h, __u32 kind, __u64 pass)
{
	h->kind = kind;
	h->cpu = bpf_get_smp_processor_id();
	h->boot_ns = bpf_ktime_get_boot_ns();
	h->pass = pass;
	fill_task(&h->current_task, current_task());
}

#endif
