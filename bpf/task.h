/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Tasks: the current one, the cgroup of one, and its place in a record. */
#ifndef OOMTRACE_TASK_H
#define OOMTRACE_TASK_H

#include "kernel.h"
#include "wire.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

/* The hierarchy with the memory controller; 0 is cgroup v2. Set by user space. */
volatile const __u32 memory_hierarchy = 0;

static __always_inline struct task_struct *current_task(void)
{
	return (struct task_struct *)bpf_get_current_task();
}

static __always_inline __u32 current_tid(void)
{
	return (__u32)bpf_get_current_pid_tgid();
}

/* The offset of the memory controller's css within a css_set. */
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
 * The task's cgroup in the hierarchy of the memory controller. On cgroup v2 it may
 * lie below the memcg that the task is charged to: not every cgroup has the
 * controller enabled.
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
	unsigned int flags = BPF_CORE_READ(task, flags);
	struct cgroup *cgroup = task_cgroup(task);

	out->tgid = BPF_CORE_READ(task, tgid);
	out->tid = BPF_CORE_READ(task, pid);
	BPF_CORE_READ_INTO(&out->comm, task, comm);
	BPF_CORE_READ_INTO(&out->leader_comm, leader, comm);
	out->flags = (flags & PF_KTHREAD ? WIRE_TASK_KTHREAD : 0) | (flags & PF_EXITING ? WIRE_TASK_EXITING : 0);
	out->hierarchy = BPF_CORE_READ(cgroup, root, hierarchy_id);
	out->cgroup_id = BPF_CORE_READ(cgroup, kn, id);
}

static __always_inline void fill_header(struct wire_header *h, enum wire_kind kind, __u64 invocation)
{
	h->kind = kind;
	h->cpu = bpf_get_smp_processor_id();
	h->boot_ns = bpf_ktime_get_boot_ns();
	h->invocation = invocation;
	fill_task(&h->current_task, current_task());
}

#endif
