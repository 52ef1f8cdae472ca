/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Differences between kernels, each behind one getter. A getter that can fail
 * reports it; nothing here turns "unknown" into 0.
 */
#ifndef OOMTRACE_COMPAT_H
#define OOMTRACE_COMPAT_H

#include "kernel.h"
#include "wire.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

/* The number of possible CPU IDs; set by user space before the load. */
volatile const __u32 possible_cpus = 0;

/*
 * Addresses of kernel data, set by user space, which reads the kernel's symbols
 * anyway. 0 where unknown: /proc/kallsyms has them only with CONFIG_KALLSYMS_ALL.
 */
volatile const __u64 mem_cgroup_stats_index = 0;
volatile const __u64 __per_cpu_offset = 0;

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

/* Since 6.2 the page counts of a process are per-CPU counters (f1a7941243c1). */
struct percpu_counter {
	__s64 count;
	__s32 *counters;
};

struct mm_struct___percpu {
	struct percpu_counter rss_stat[1];
};

struct mm_rss_stat {
	atomic_long_t count[1];
};

struct mm_struct___atomic {
	struct mm_rss_stat rss_stat;
};

/* The counters of a memcg: within it (5.10), in a struct (5.13), behind a pointer (6.1). */
struct memcg_vmstats {
	long state[1];
};

struct mem_cgroup___pointer {
	struct memcg_vmstats *vmstats;
};

struct mem_cgroup___struct {
	struct memcg_vmstats vmstats;
};

struct mem_cgroup___array {
	atomic_long_t vmstats[1];
};

/* Since 6.15 a kernfs node's parent is protected by RCU, and called so (633488947ef6). */
struct kernfs_node___plain {
	struct kernfs_node *parent;
};

struct kernfs_node___rcu {
	struct kernfs_node *__parent;
};

#pragma clang attribute pop

struct rss { /* pages */
	__s64 file, anon, swap, shmem;
};

static __always_inline void *rss_counter(struct mm_struct *mm, int member)
{
	struct mm_struct___percpu *m = (void *)mm;

	return (void *)__builtin_preserve_access_index(&m->rss_stat) +
	       member * bpf_core_type_size(struct percpu_counter);
}

/*
 * The sum of a counter's parts, one for each CPU. A global function: it is verified
 * once, and not for each state of its callers, which would exceed the verifier's
 * limit on machines with hundreds of CPUs.
 */
__noinline long percpu_sum(__u64 parts)
{
	long sum = 0;

	if (!parts)
		return 0;
	for (__u32 cpu = 0; cpu < possible_cpus; cpu++) {
		unsigned long offset = 0;
		__s32 part = 0;

		if (bpf_probe_read_kernel(&offset, sizeof(offset), (void *)__per_cpu_offset + cpu * sizeof(offset)))
			break;
		bpf_probe_read_kernel(&part, sizeof(part), (void *)parts + offset);
		sum += part;
	}
	return sum;
}

static __always_inline __s64 rss_atomic(struct mm_struct *mm, int member)
{
	struct mm_struct___atomic *m = (void *)mm;
	__s64 count = 0;

	bpf_probe_read_kernel(&count, sizeof(count),
			      (void *)__builtin_preserve_access_index(&m->rss_stat.count) +
				      member * sizeof(count));
	return count;
}

static __always_inline __s64 not_negative(__s64 count)
{
	return count < 0 ? 0 : count;
}

/*
 * The page counts of mm. With exact, per-CPU counters are summed where __per_cpu_offset
 * is known; else each count may be off by a batch (2 * CPUs, at least 32) per CPU, as
 * in oom:mark_victim and /proc/PID/status.
 */
static __always_inline bool mm_rss(struct mm_struct *mm, struct rss *rss, bool exact)
{
	if (bpf_core_field_exists(((struct mm_struct___percpu *)0)->rss_stat)) {
		struct percpu_counter *f = rss_counter(mm, MM_FILEPAGES), *a = rss_counter(mm, MM_ANONPAGES);
		struct percpu_counter *w = rss_counter(mm, MM_SWAPENTS), *s = rss_counter(mm, MM_SHMEMPAGES);

		rss->file = BPF_CORE_READ(f, count);
		rss->anon = BPF_CORE_READ(a, count);
		rss->swap = BPF_CORE_READ(w, count);
		rss->shmem = BPF_CORE_READ(s, count);
		if (exact && __per_cpu_offset) {
			rss->file += percpu_sum((__u64)BPF_CORE_READ(f, counters));
			rss->anon += percpu_sum((__u64)BPF_CORE_READ(a, counters));
			rss->swap += percpu_sum((__u64)BPF_CORE_READ(w, counters));
			rss->shmem += percpu_sum((__u64)BPF_CORE_READ(s, counters));
		}
	} else if (bpf_core_field_exists(((struct mm_struct___atomic *)0)->rss_stat)) {
		rss->file = rss_atomic(mm, MM_FILEPAGES);
		rss->anon = rss_atomic(mm, MM_ANONPAGES);
		rss->swap = rss_atomic(mm, MM_SWAPENTS);
		rss->shmem = rss_atomic(mm, MM_SHMEMPAGES);
	} else {
		return false;
	}
	rss->file = not_negative(rss->file);
	rss->anon = not_negative(rss->anon);
	rss->swap = not_negative(rss->swap);
	rss->shmem = not_negative(rss->shmem);
	return true;
}

/*
 * Whether state[] has an element for each item. Not inlined: the compiler could move
 * inlined code ahead of the check that the type exists.
 */
static __noinline bool state_has_all(void)
{
	return bpf_core_field_size(((struct memcg_vmstats *)0)->state) / sizeof(long) ==
	       bpf_core_enum_value(enum memcg_stat_item, MEMCG_NR_STAT);
}

/* The index of a counter in a memcg's state[]; -1 where it is unknown, or the kernel does not keep the counter. */
static __always_inline int memcg_slot(int item)
{
	if (mem_cgroup_stats_index) {
		__u8 slot = 0xff, first = 0;

		bpf_probe_read_kernel(&slot, sizeof(slot), (void *)mem_cgroup_stats_index + item);
		bpf_probe_read_kernel(&first, sizeof(first), (void *)mem_cgroup_stats_index +
				      bpf_core_enum_value(enum node_stat_item, NR_INACTIVE_ANON));
		if (first == 1) /* 6.10 and 6.11 count from 1, and have 0 for counters that are not kept */
			return (int)slot - 1;
		return slot == 0xff ? -1 : slot;
	}
	/* Before 6.10 every item has an element. */
	if (bpf_core_type_exists(struct memcg_vmstats) && !state_has_all())
		return -1;
	return item;
}

/*
 * One counter of a memcg including its descendants, in the kernel's own unit; -1
 * where it is unknown. A global function for the same reason as percpu_sum.
 */
__noinline long memcg_counter(__u64 memcg, int item)
{
	int slot = memcg_slot(item);
	void *state = 0;
	long value = 0;

	if (slot < 0)
		return -1;
	if (bpf_core_field_exists(((struct mem_cgroup___pointer *)0)->vmstats)) {
		struct mem_cgroup___pointer *m = (void *)memcg;

		state = BPF_CORE_READ(m, vmstats);
		if (state)
			state = __builtin_preserve_access_index(&((struct memcg_vmstats *)state)->state);
	} else if (bpf_core_field_exists(((struct mem_cgroup___struct *)0)->vmstats)) {
		struct mem_cgroup___struct *m = (void *)memcg;

		state = __builtin_preserve_access_index(&m->vmstats.state);
	} else if (bpf_core_field_exists(((struct mem_cgroup___array *)0)->vmstats)) {
		struct mem_cgroup___array *m = (void *)memcg;

		state = __builtin_preserve_access_index(&m->vmstats);
	}
	if (!state || bpf_probe_read_kernel(&value, sizeof(value), state + slot * sizeof(long)))
		return -1;
	return not_negative(value);
}

/* How often a process was killed in a memcg's subtree. The index of an event differs between kernels. */
static __always_inline bool memcg_oom_kill(struct mem_cgroup *memcg, __u64 *count)
{
	int event = bpf_core_enum_value(enum memcg_memory_event, MEMCG_OOM_KILL);
	void *array;

	if (!bpf_core_field_exists(memcg->memory_events))
		return false;

	array = (void *)__builtin_preserve_access_index(&memcg->memory_events);
	return !bpf_probe_read_kernel(count, sizeof(*count), array + event * sizeof(*count));
}

static __always_inline bool has_pagetables(void)
{
	return bpf_core_enum_value_exists(enum node_stat_item, NR_PAGETABLE);
}

/* Since 5.9. */
static __always_inline bool has_percpu_charge(void)
{
	return bpf_core_enum_value_exists(enum memcg_stat_item, MEMCG_PERCPU_B);
}

/* Not in 6.12, in 6.18. Kept where cgroup2 is mounted with memory_hugetlb_accounting, else 0. */
static __always_inline bool has_hugetlb_charge(void)
{
	return bpf_core_enum_value_exists(enum node_stat_item, NR_HUGETLB);
}

/*
 * NR_ANON_THPS counts pages since 5.12 (69473e5de873), huge pages before. No type
 * shows that change, but NR_SWAPCACHE came with the same release, with CONFIG_SWAP
 * (b6038942480e), and struct memcg_vmstats with the next one. NR_PAGETABLE of a
 * node came one release earlier (f0c0c115fb81): without it the kernel is older.
 */
static __always_inline bool thp_in_pages(void)
{
	return bpf_core_enum_value_exists(enum node_stat_item, NR_SWAPCACHE) || bpf_core_type_exists(struct memcg_vmstats);
}

static __always_inline bool thp_in_huge_pages(void)
{
	return !thp_in_pages() && !has_pagetables();
}

/* The login user, also of sudo and su (pam_loginuid). Kept only with CONFIG_AUDIT. */
static __always_inline bool task_login(struct task_struct *task, __u32 *uid, __u32 *session)
{
	*uid = *session = 0;
	if (!bpf_core_field_exists(task->loginuid) || !bpf_core_field_exists(task->sessionid))
		return false;
	*uid = BPF_CORE_READ(task, loginuid.val);
	*session = BPF_CORE_READ(task, sessionid);
	return *uid != (__u32)-1; /* -1: not part of a login */
}

/* The NUMA nodes that a task's cpuset permits; 0 without CONFIG_CPUSETS. */
static __always_inline nodemask_t *task_mems_allowed(struct task_struct *task)
{
	return bpf_core_field_exists(task->mems_allowed) ? (void *)__builtin_preserve_access_index(&task->mems_allowed)
							 : 0;
}

/* Without CONFIG_NUMA a zone has no field for its node: there is only one. */
static __always_inline __u32 zone_node(struct zone *zone)
{
	return bpf_core_field_exists(zone->node) ? BPF_CORE_READ(zone, node) : 0;
}

/*
 * The argument of oom:mark_victim: a PID, or since 6.8, and in later stable
 * releases of older series, a task (72ba14deb40a). Kernel addresses are negative
 * numbers, PIDs are not. marked_task returns 0 for a PID.
 */
static __always_inline struct task_struct *marked_task(__u64 argument)
{
	return (__s64)argument < 0 ? (struct task_struct *)argument : 0;
}

static __always_inline __u32 marked_pid(__u64 argument)
{
	struct task_struct *task = marked_task(argument);

	return task ? BPF_CORE_READ(task, pid) : (int)argument;
}

/* How far a cgroup lies below its root. Deep, on a kernel that does not describe it. */
static __always_inline int cgroup_level(struct cgroup *cgroup)
{
	return bpf_core_field_exists(cgroup->level) ? BPF_CORE_READ(cgroup, level) : WIRE_MEMCGS;
}

/*
 * The user whose cgroup it is. Those that root made have no attributes of their own
 * (kernel/cgroup/cgroup.c: cgroup_kn_set_ugid). A kernel that does not describe them
 * has root's only.
 */
static __always_inline __u32 cgroup_owner(struct cgroup *cgroup)
{
	struct kernfs_iattrs *own;

	if (!bpf_core_field_exists(((struct kernfs_iattrs *)0)->ia_uid))
		return 0;

	own = BPF_CORE_READ(cgroup, kn, iattr);
	return own ? BPF_CORE_READ(own, ia_uid.val) : 0;
}

static __always_inline struct kernfs_node *kernfs_parent(struct kernfs_node *node)
{
	if (bpf_core_field_exists(((struct kernfs_node___rcu *)0)->__parent))
		return BPF_CORE_READ((struct kernfs_node___rcu *)node, __parent);

	return BPF_CORE_READ((struct kernfs_node___plain *)node, parent);
}

/*
 * What a task reclaims for, by its reclaim_state; 0 if unknown. Since 5.3 a scan_control
 * contains the reclaim_state that its task points to (mm/vmscan.c: set_task_reclaim_state,
 * 1732d2b01136), at the begin and end events of reclaim, too. Up to 6.18 nothing else
 * names the owner of the limit there.
 */
static __always_inline struct scan_control *reclaim_of(void *reclaim_state)
{
	if (!reclaim_state || !bpf_core_field_exists(((struct scan_control *)0)->reclaim_state))
		return 0;

	return reclaim_state - bpf_core_field_offset(struct scan_control, reclaim_state);
}

static __always_inline bool has_reclaim_state(void)
{
	return bpf_core_field_exists(((struct task_struct *)0)->reclaim_state);
}

static __always_inline struct scan_control *current_reclaim(struct task_struct *current)
{
	return has_reclaim_state() ? reclaim_of(BPF_CORE_READ(current, reclaim_state)) : 0;
}

#endif
