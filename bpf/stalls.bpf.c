// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

//go:build ignore

/*
 * Where tasks stall for memory: reclaim, memory.high, throttling, compaction.
 * These events come by the ten thousand a second, so they are counted in the
 * kernel, per cgroup and kind, and only a long one is told by itself; none of
 * them wakes user space.
 */
#include "common.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* A single stall is told from this long on. */
volatile const __u64 min_stall_ns = 10000000;
/* Has this kernel task storage, and the current task as a pointer with a type? */
volatile const bool task_storage = true;
/* Do the begin events have (gfp, order, memcg)? Before 7.x: (order, gfp). */
volatile const bool begin_has_memcg = false;

/* What the current task is in. */
struct stall_state {
	__u64 begin_ns[WIRE_STALL_KINDS];
	__u64 owner_id;
};

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct stall_state);
} stall_storage SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u32); /* tid */
	__type(value, struct stall_state);
} stall_hash SEC(".maps");

/* Sized by user space: a value for each possible CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct wire_stall_key);
	__type(value, struct wire_stalls);
} stalls SEC(".maps");

/* Counted up with each stall: user space looks at it before it asks for more. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} stall_activity SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32); /* NUMA node */
	__type(value, struct wire_kswapd);
} kswapd SEC(".maps");

struct retries {
	__u64 reclaim_ns;
	__u64 compact_ns;
	__u64 reclaimable, available, min_watermark;
	struct zoneref *zoneref;
	__u32 no_progress_loops, order, watermark_ok;
	__u32 compact_order, compact_priority, compact_result, compact_retries, compact_max_retries, compact_again;
};

/* The last answers to a task that asked whether to go on; see wire_gave_up. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 512);
	__type(key, __u32); /* tid */
	__type(value, struct retries);
} retries SEC(".maps");

/* bpf2go: see oomtrace.bpf.c. */
const struct {
	struct wire_stall stall;
	struct wire_stall_key key;
	struct wire_stalls stalls;
	struct wire_kswapd kswapd;
	struct wire_gave_up gave_up;
	enum wire_stall_kind kind;
} *stall_wire __attribute__((unused));

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

/*
 * The cgroup with the memory controller that the current task is charged to. The
 * verifier knows the type of the current task where there is task storage, and then
 * reads are plain loads: half the time of the whole program.
 */
static __always_inline __u64 current_memory_cgroup_id(void)
{
	struct cgroup_subsys_state **css;
	struct task_struct *task;

	if (!task_storage)
		return BPF_CORE_READ(task_memory_css(current_task()), cgroup, kn, id);
	task = (void *)bpf_get_current_task_btf();
	css = (void *)task->cgroups + memory_css_offset();
	return (*css)->cgroup->kn->id;
}

static __always_inline bool current_is_killed(void)
{
	struct task_struct *task;

	if (!task_storage)
		return BPF_CORE_READ(current_task(), signal, flags) & SIGNAL_GROUP_EXIT;
	task = (void *)bpf_get_current_task_btf();
	return task->signal->flags & SIGNAL_GROUP_EXIT;
}

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

	/* User space clears it. It is written once only: the line is all CPUs'. */
	if (activity && !*activity)
		*activity = 1;
}

static __always_inline void count_stall(__u32 kind, __u64 duration_ns, __u64 reclaimed, bool reclaims,
					struct stall_state *state)
{
	struct wire_stall_key key = {
		.cgroup_id = current_memory_cgroup_id(),
		.owner_id = kind == WIRE_MEMCG_RECLAIM && state ? state->owner_id : 0,
		.hierarchy = memory_hierarchy,
		.kind = kind,
	};
	struct wire_stalls *sum;
	struct wire_stall *r;

	if (reclaims && current_is_killed())
		key.kind = WIRE_AFTER_KILL;
	sum = bpf_map_lookup_elem(&stalls, &key);
	if (!sum) {
		struct wire_stalls fresh = {};

		bpf_map_update_elem(&stalls, &key, &fresh, BPF_NOEXIST);
		sum = bpf_map_lookup_elem(&stalls, &key);
	}
	if (!sum) {
		count_lost(WIRE_STALL_STATE);
	} else {
		__u32 b = bucket(duration_ns);

		sum->count++;
		sum->total_ns += duration_ns;
		sum->reclaimed_pages += reclaimed;
		if (reclaims && !reclaimed)
			sum->fruitless++;
		if (duration_ns > sum->max_ns)
			sum->max_ns = duration_ns;
		if (b < WIRE_BUCKETS)
			sum->buckets[b]++;
	}
	show_activity();
	if (duration_ns < min_stall_ns)
		return;
	/* A flood of stalls leaves room for what comes once: the end of a victim. */
	if (bpf_ringbuf_query(&bulk, BPF_RB_AVAIL_DATA) > BULK_BYTES / 2)
		r = 0;
	else
		r = bpf_ringbuf_reserve(&bulk, sizeof(*r), 0);
	if (!r) {
		count_lost(WIRE_STALL);
		return;
	}
	fill_header(&r->h, WIRE_STALL, 0);
	r->kind = key.kind;
	r->hierarchy = key.hierarchy;
	r->owner_id = key.owner_id;
	r->duration_ns = duration_ns;
	r->reclaimed_pages = reclaimed;
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
}

static __always_inline void begin_stall(__u32 kind)
{
	struct stall_state *state = stall_state(true);

	if (!state) {
		count_lost(WIRE_STALL_STATE);
		return;
	}
	state->begin_ns[kind] = bpf_ktime_get_ns();
}

static __always_inline void end_stall(__u32 kind, __u64 reclaimed, bool reclaims)
{
	struct stall_state *state = stall_state(false);
	__u64 begin;

	if (!state)
		return;
	begin = state->begin_ns[kind];
	if (!begin)
		return; /* it began before us, or it is not one that counts */
	state->begin_ns[kind] = 0;
	count_stall(kind, bpf_ktime_get_ns() - begin, reclaimed, reclaims, state);
	if (kind == WIRE_MEMCG_RECLAIM)
		state->owner_id = 0;
}

static __always_inline void set_owner(struct mem_cgroup *memcg)
{
	struct stall_state *state = stall_state(true);
	struct cgroup *cgroup = BPF_CORE_READ(memcg, css.cgroup);

	if (!state)
		return;
	state->owner_id = BPF_CORE_READ(cgroup, kn, id);
}

/*
 * On its way back to user space a task that took its cgroup over memory.high
 * reclaims and sleeps (mm/memcontrol.c). Up to 6.12 the function is called for
 * every task, mostly with nothing to do.
 */
static __always_inline void begin_high(void)
{
	struct stall_state *state;

	if (BPF_CORE_READ(current_task(), memcg_nr_pages_over_high)) {
		begin_stall(WIRE_MEMORY_HIGH);
		return;
	}
	/* One whose end was skipped must not end here. */
	state = stall_state(false);
	if (state)
		state->begin_ns[WIRE_MEMORY_HIGH] = 0;
}

SEC("tp_btf/mm_vmscan_memcg_reclaim_begin")
int stall_memcg_begin(__u64 *ctx)
{
	begin_stall(WIRE_MEMCG_RECLAIM);
	if (begin_has_memcg)
		set_owner((void *)ctx[2]);
	return 0;
}

SEC("tp_btf/mm_vmscan_memcg_reclaim_end")
int stall_memcg_end(__u64 *ctx)
{
	end_stall(WIRE_MEMCG_RECLAIM, ctx[0], true);
	return 0;
}

SEC("tp_btf/mm_vmscan_direct_reclaim_begin")
int stall_direct_begin(void *ctx)
{
	begin_stall(WIRE_DIRECT_RECLAIM);
	return 0;
}

SEC("tp_btf/mm_vmscan_direct_reclaim_end")
int stall_direct_end(__u64 *ctx)
{
	end_stall(WIRE_DIRECT_RECLAIM, ctx[0], true);
	return 0;
}

SEC("tp_btf/mm_vmscan_node_reclaim_begin")
int stall_node_begin(void *ctx)
{
	begin_stall(WIRE_NODE_RECLAIM);
	return 0;
}

SEC("tp_btf/mm_vmscan_node_reclaim_end")
int stall_node_end(__u64 *ctx)
{
	end_stall(WIRE_NODE_RECLAIM, ctx[0], true);
	return 0;
}

SEC("tp_btf/mm_compaction_begin")
int stall_compaction_begin(void *ctx)
{
	begin_stall(WIRE_COMPACTION);
	return 0;
}

SEC("tp_btf/mm_compaction_end")
int stall_compaction_end(void *ctx)
{
	end_stall(WIRE_COMPACTION, 0, false);
	return 0;
}

/* (nid, usec_timeout, usec_delayed, reason): it comes after the sleep. */
SEC("tp_btf/mm_vmscan_throttled")
int stall_throttled(__u64 *ctx)
{
	count_stall(WIRE_THROTTLE, (__u64)(__u32)ctx[2] * 1000, 0, false, 0);
	return 0;
}

SEC("tp_btf/mm_vmscan_kswapd_wake")
int stall_kswapd_wake(__u64 *ctx)
{
	__u32 node = ctx[0];
	struct wire_kswapd fresh = {}, *k;

	bpf_map_update_elem(&kswapd, &node, &fresh, BPF_NOEXIST);
	k = bpf_map_lookup_elem(&kswapd, &node);
	if (!k)
		return 0;
	/* Each node has one kswapd: nobody else writes here. */
	k->wakeups++;
	if (!k->awake_since_ns)
		k->awake_since_ns = bpf_ktime_get_boot_ns();
	show_activity();
	return 0;
}

SEC("tp_btf/mm_vmscan_kswapd_sleep")
int stall_kswapd_sleep(__u64 *ctx)
{
	__u32 node = ctx[0];
	struct wire_kswapd *k = bpf_map_lookup_elem(&kswapd, &node);

	if (!k || !k->awake_since_ns)
		return 0;
	k->awake_ns += bpf_ktime_get_boot_ns() - k->awake_since_ns;
	k->awake_since_ns = 0;
	show_activity();
	return 0;
}

static __always_inline struct retries *task_retries(void)
{
	struct retries fresh = {}, *r;
	__u32 tid = current_tid();

	r = bpf_map_lookup_elem(&retries, &tid);
	if (r)
		return r;
	bpf_map_update_elem(&retries, &tid, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(&retries, &tid);
}

/* (zoneref, order, reclaimable, available, min_wmark, no_progress_loops, wmark_check) */
SEC("tp_btf/reclaim_retry_zone")
int retry_reclaim(__u64 *ctx)
{
	struct retries *r = task_retries();

	if (!r)
		return 0;
	r->reclaim_ns = bpf_ktime_get_boot_ns();
	r->zoneref = (void *)ctx[0];
	r->order = ctx[1];
	r->reclaimable = ctx[2];
	r->available = ctx[3];
	r->min_watermark = ctx[4];
	r->no_progress_loops = ctx[5];
	r->watermark_ok = (__u8)ctx[6];
	return 0;
}

/* (order, priority, result, retries, max_retries, again) */
SEC("tp_btf/compact_retry")
int retry_compact(__u64 *ctx)
{
	struct retries *r = task_retries();

	if (!r)
		return 0;
	r->compact_ns = bpf_ktime_get_boot_ns();
	r->compact_order = ctx[0];
	r->compact_priority = ctx[1];
	r->compact_result = ctx[2];
	r->compact_retries = ctx[3];
	r->compact_max_retries = ctx[4];
	r->compact_again = (__u8)ctx[5];
	return 0;
}

/*
 * The trigger is the current task. This one is attached before the one that tells
 * of the mark, whose wakeup is for both.
 */
SEC("tp_btf/mark_victim")
int gave_up(void *ctx)
{
	__u32 tid = current_tid();
	struct retries *r = bpf_map_lookup_elem(&retries, &tid);
	struct wire_gave_up *w;
	struct zoneref *zoneref;
	struct zone *zone;

	if (!r)
		return 0;
	w = bpf_ringbuf_reserve(&urgent, sizeof(*w), 0);
	if (!w) {
		count_lost(WIRE_GAVE_UP);
		return 0;
	}
	fill_header(&w->h, WIRE_GAVE_UP, 0);
	w->reclaim_ns = r->reclaim_ns;
	w->reclaimable_pages = r->reclaimable;
	w->available_pages = r->available;
	w->min_watermark_pages = r->min_watermark;
	zoneref = r->zoneref; /* r itself is ours: it is not relocated */
	zone = BPF_CORE_READ(zoneref, zone);
	w->node = zone_node(zone);
	__builtin_memset(w->zone, 0, sizeof(w->zone));
	bpf_probe_read_kernel_str(w->zone, sizeof(w->zone), BPF_CORE_READ(zone, name));
	w->no_progress_loops = r->no_progress_loops;
	w->order = r->order;
	w->watermark_ok = r->watermark_ok;
	w->compact_ns = r->compact_ns;
	w->compact_order = r->compact_order;
	w->compact_priority = r->compact_priority;
	w->compact_result = r->compact_result;
	w->compact_retries = r->compact_retries;
	w->compact_max_retries = r->compact_max_retries;
	w->compact_again = r->compact_again;
	bpf_ringbuf_submit(w, BPF_RB_NO_WAKEUP);
	bpf_map_delete_elem(&retries, &tid);
	return 0;
}

SEC("fentry/mem_cgroup_handle_over_high")
int fentry_high(void *ctx)
{
	begin_high();
	return 0;
}

SEC("fexit/mem_cgroup_handle_over_high")
int fexit_high(void *ctx)
{
	end_stall(WIRE_MEMORY_HIGH, 0, false);
	return 0;
}

SEC("kprobe/mem_cgroup_handle_over_high")
int kprobe_high(void *ctx)
{
	begin_high();
	return 0;
}

SEC("kretprobe/mem_cgroup_handle_over_high")
int kretprobe_high(void *ctx)
{
	end_stall(WIRE_MEMORY_HIGH, 0, false);
	return 0;
}

SEC("fentry/try_to_free_mem_cgroup_pages")
int fentry_owner(__u64 *ctx)
{
	set_owner((void *)ctx[0]);
	return 0;
}

SEC("kprobe/try_to_free_mem_cgroup_pages")
int kprobe_owner(struct pt_regs *ctx)
{
	set_owner((void *)PARAMETER_1(ctx));
	return 0;
}
