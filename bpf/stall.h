/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Stalls: how long tasks wait for memory. There can be tens of thousands a second,
 * so they are counted in the kernel, per cgroup and kind. Only long ones are also
 * sent, and none of them wakes user space.
 */
#ifndef OOMTRACE_STALL_H
#define OOMTRACE_STALL_H

#include "compat.h"
#include "kernel.h"
#include "memcg.h"
#include "rings.h"
#include "task.h"
#include "wire.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

/* Stalls at least this long are also reported individually. */
volatile const __u64 min_stall_ns = 10000000;
/* Whether the kernel has task storage, and gives the current task as a typed pointer. */
volatile const bool task_storage = true;

/* What the current task stalls in: one kind may be nested in another. */
struct stall_state {
	__u64 begin_ns[WIRE_STALL_KINDS]; /* 0: not in one */
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct stall_state);
} stall_storage SEC(".maps");

/* In its place where there is no task storage. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32); /* tid */
	__type(value, struct stall_state);
} stall_hash SEC(".maps");

/* User space sets the size: there is a value for each possible CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct wire_stall_key);
	__type(value, struct wire_stall_count);
} stalls SEC(".maps");

/* Not 0 if there were stalls since user space last cleared it. It reads the counts only then. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} stall_activity SEC(".maps");

static __always_inline struct stall_state *stall_state(bool create)
{
	struct stall_state fresh = {};
	struct stall_state *state;
	__u32 tid;

	if (task_storage)
		return bpf_task_storage_get(&stall_storage, (void *)bpf_get_current_task_btf(), 0,
					    create ? BPF_LOCAL_STORAGE_GET_F_CREATE : 0);

	tid = current_tid();
	state = bpf_map_lookup_elem(&stall_hash, &tid);
	if (state || !create)
		return state;

	bpf_map_update_elem(&stall_hash, &tid, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(&stall_hash, &tid);
}

/* What is counted of the current task when a stall ends. */
struct stalled {
	__u64 cgroup_id; /* of the memcg that it is charged to */
	__u64 owner_id;	 /* of the limit that it reclaims for; 0: none, or unknown */
	bool killed;
};

/* Most limits are those of the task's own memcg, or of one just above it. */
#define NEAR_LIMITS 4

/*
 * Where there is task storage, the verifier knows the type of the current task, and
 * reads are plain loads: that halves the run time of the whole program.
 */
static __always_inline void read_typed(struct stalled *s, bool memcg_reclaim)
{
	struct task_struct *task = (void *)bpf_get_current_task_btf();
	struct cgroup_subsys_state *css = *(struct cgroup_subsys_state **)((void *)task->cgroups + memory_css_offset());
	struct scan_control *reclaim;
	struct mem_cgroup *owner;

	s->cgroup_id = css->cgroup->kn->id;
	s->killed = task->signal->flags & SIGNAL_GROUP_EXIT;
	s->owner_id = 0;
	if (!memcg_reclaim || !has_reclaim_state())
		return;

	reclaim = reclaim_of(task->reclaim_state);
	owner = reclaim ? BPF_CORE_READ(reclaim, target_mem_cgroup) : 0;
	if (!owner)
		return;

	if (css_memcg(css) == owner) {
		s->owner_id = s->cgroup_id;
		return;
	}

	for (int i = 0; i < NEAR_LIMITS; i++) {
		css = css->parent;
		if (css_memcg(css) == owner) {
			s->owner_id = css->cgroup->kn->id;
			return;
		}
	}

	/* One further up, or of another task: memory.max was lowered, memory.reclaim written. */
	s->owner_id = BPF_CORE_READ(owner, css.cgroup, kn, id);
}

static __always_inline void read_untyped(struct stalled *s, bool memcg_reclaim)
{
	struct task_struct *task = current_task();
	struct scan_control *reclaim = memcg_reclaim ? current_reclaim(task) : 0;
	struct mem_cgroup *owner = reclaim ? BPF_CORE_READ(reclaim, target_mem_cgroup) : 0;

	s->cgroup_id = BPF_CORE_READ(task_memory_css(task), cgroup, kn, id);
	s->owner_id = owner ? BPF_CORE_READ(owner, css.cgroup, kn, id) : 0;
	s->killed = BPF_CORE_READ(task, signal, flags) & SIGNAL_GROUP_EXIT;
}

/*
 * kswapd and kcompactd compact and are throttled for the whole node, in the root cgroup:
 * nothing waits for them there (mm/compaction.c: compact_zone, mm/vmscan.c:
 * reclaim_throttle have one event for all callers).
 */
static __always_inline bool current_is_kthread(void)
{
	if (!task_storage)
		return BPF_CORE_READ(current_task(), flags) & PF_KTHREAD;

	return ((struct task_struct *)bpf_get_current_task_btf())->flags & PF_KTHREAD;
}

/* log2 of the microseconds. */
static __always_inline __u32 bucket(__u64 ns)
{
	__u64 us = ns / 1000;
	__u32 log = 0;

	if (us >> 16) {
		us >>= 16;
		log += 16;
	}
	if (us >> 8) {
		us >>= 8;
		log += 8;
	}
	if (us >> 4) {
		us >>= 4;
		log += 4;
	}
	if (us >> 2) {
		us >>= 2;
		log += 2;
	}
	if (us >> 1)
		log += 1;

	return log < WIRE_BUCKETS ? log : WIRE_BUCKETS - 1;
}

static __always_inline void show_activity(void)
{
	__u32 zero = 0;
	__u64 *activity = bpf_map_lookup_elem(&stall_activity, &zero);

	/* Written only if needed: all CPUs share the cache line. */
	if (activity && !*activity)
		*activity = 1;
}

static __always_inline void count_stall(enum wire_stall_kind kind, __u64 duration_ns, __u64 reclaimed, bool reclaims)
{
	struct wire_stall_key key = { .hierarchy = memory_hierarchy, .kind = kind };
	struct wire_stall_count *sum;
	struct stalled stalled;
	struct wire_stall *r;

	if (task_storage)
		read_typed(&stalled, kind == WIRE_STALL_MEMCG_RECLAIM);
	else
		read_untyped(&stalled, kind == WIRE_STALL_MEMCG_RECLAIM);

	key.cgroup_id = stalled.cgroup_id;
	key.owner_id = stalled.owner_id;
	if (reclaims && stalled.killed)
		key.kind = WIRE_STALL_AFTER_KILL;

	sum = bpf_map_lookup_elem(&stalls, &key);
	if (!sum) {
		struct wire_stall_count fresh = {};

		bpf_map_update_elem(&stalls, &key, &fresh, BPF_NOEXIST);
		sum = bpf_map_lookup_elem(&stalls, &key);
	}
	if (!sum) {
		count_lost(WIRE_KIND_STALL_COUNT);
	} else {
		__u32 b = bucket(duration_ns);

		sum->count++;
		sum->total_ns += duration_ns;
		sum->reclaimed_pages += reclaimed;
		if (reclaims && !reclaimed)
			sum->no_progress++;
		if (duration_ns > sum->max_ns)
			sum->max_ns = duration_ns;
		if (b < WIRE_BUCKETS)
			sum->buckets[b]++;
	}
	show_activity();

	if (duration_ns < min_stall_ns)
		return;

	/* A flood of stalls leaves room for records that come once: the end of a victim. */
	if (bpf_ringbuf_query(&bulk, BPF_RB_AVAIL_DATA) > BULK_BYTES / 2)
		r = 0;
	else
		r = bpf_ringbuf_reserve(&bulk, sizeof(*r), 0);
	if (!r) {
		count_lost(WIRE_KIND_STALL);
		return;
	}

	fill_header(&r->h, WIRE_KIND_STALL, 0);
	r->kind = key.kind;
	r->hierarchy = key.hierarchy;
	r->owner_id = key.owner_id;
	r->duration_ns = duration_ns;
	r->reclaimed_pages = reclaimed;
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
}

static __always_inline void begin_stall(enum wire_stall_kind kind)
{
	struct stall_state *state = stall_state(true);

	if (!state) {
		count_lost(WIRE_KIND_STALL_STATE);
		return;
	}
	state->begin_ns[kind] = bpf_ktime_get_ns();
}

static __always_inline void end_stall(enum wire_stall_kind kind, __u64 reclaimed, bool reclaims)
{
	struct stall_state *state = stall_state(false);
	__u64 begin;

	if (!state)
		return;

	begin = state->begin_ns[kind];
	if (!begin)
		return; /* it began before the programs were attached, or does not count */

	state->begin_ns[kind] = 0;
	count_stall(kind, bpf_ktime_get_ns() - begin, reclaimed, reclaims);
}

/*
 * A task that exceeded its cgroup's memory.high reclaims and sleeps on its return to
 * user space (mm/memcontrol.c: mem_cgroup_handle_over_high). Up to 6.12 that function
 * is called for every task, mostly with nothing to do.
 *
 * By kprobe the end of such a sleep may not be seen: the kernel has a bounded number of
 * return probes, and each sleeping thread holds one (kernel/kprobes.c: maxactive). What
 * was left over is counted when the thread gets here again.
 */
static __always_inline void begin_high(void)
{
	struct stall_state *state = stall_state(false);

	if (state && state->begin_ns[WIRE_STALL_MEMORY_HIGH]) {
		state->begin_ns[WIRE_STALL_MEMORY_HIGH] = 0;
		count_lost(WIRE_KIND_STALL_END);
	}

	if (BPF_CORE_READ(current_task(), memcg_nr_pages_over_high))
		begin_stall(WIRE_STALL_MEMORY_HIGH);
}

#endif
