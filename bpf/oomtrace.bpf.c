// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

//go:build ignore

/*
 * The kernel side. Each hook has one body (static functions, below) and one
 * small program for each way of attaching it (at the end). User space loads
 * the programs of the tier that this kernel takes, and no others.
 *
 * The kill path runs under oom_lock, in a task that may be dying: it reads,
 * fills ring-buffer memory in place, and touches no lock but the ring's.
 */
#include "common.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/* enum wire_tier: how decisions are seen. With tracepoints only, at mark_victim. */
volatile const __u32 decision_tier = 0;

/* The run of out_of_memory that a thread is in, or its last kernel SIGKILL. */
struct pass {
	__u64 number; /* 0: not inside of out_of_memory */
	struct oom_control *oc;
	struct mem_cgroup *limiter;
	struct task_struct *target; /* of the last kernel SIGKILL; only to read from, at once */
	struct mm_struct *marked_mm;
	struct mm_struct *target_mm;
	__u32 target_tid;
	__u32 chosen; /* TGID */
	__u32 kills;
	__u32 marks;
	__u32 decided;
	__u32 charged;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32); /* tid */
	__type(value, struct pass);
} passes SEC(".maps");

/* Processes that the kernel sent SIGKILL, until they are gone. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u32); /* tgid */
	__type(value, __u64);
} dying SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64); /* struct mm_struct * */
	__type(value, __u32); /* tgid */
} dying_mm SEC(".maps");

/* kretprobes do not get the argument again: thread -> mm, only of dying ones. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32); /* tid */
	__type(value, __u64);
} exiting_mm SEC(".maps");

/* Passes that are so far apart are of two runs. */
#define FOLD_RUN_NS 10000000000ull

/* Passes that killed nobody, folded: there can be thousands in a second. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct wire_fold_key);
	__type(value, struct wire_fold);
} folds SEC(".maps");

/* What a thread reclaimed for last (tracepoint tier). */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32); /* tid */
	__type(value, __u32);
} last_reclaim SEC(".maps");

/* Only ever written under oom_lock, by out_of_memory's entry. */
static __u64 pass_number;

/* What bpf2go is to make Go types of must be reachable from a global, to be in the object's BTF. */
const struct {
	struct wire_decision decision;
	struct wire_charge charge;
	struct wire_kill kill;
	struct wire_mark mark;
	struct wire_pass pass;
	struct wire_exit exit;
	struct wire_cgroup cgroup;
	struct wire_cgroup_long cgroup_long;
	struct wire_user_kill user_kill;
	struct wire_ladder ladder;
	enum wire_kind kind;
	enum wire_tier tier;
	enum wire_reclaim reclaim;
	enum wire_limiter limiter;
	enum wire_outcome outcome;
	enum wire_cgroup_op cgroup_op;
	enum wire_charge_item charge_item;
	enum wire_task_flag task_flag;
	enum wire_level_flag level_flag;
	enum wire_decision_flag decision_flag;
	enum wire_kill_flag kill_flag;
	enum wire_sender_flag sender_flag;
} *wire __attribute__((unused));

static __always_inline void fill_counter(struct wire_counter *out, struct page_counter *counter)
{
	out->usage = BPF_CORE_READ(counter, usage.counter);
	out->max = BPF_CORE_READ(counter, max);
	out->high = BPF_CORE_READ(counter, high);
	out->watermark = BPF_CORE_READ(counter, watermark);
}

static __always_inline void fill_level(struct wire_level *out, struct mem_cgroup *memcg)
{
	struct cgroup *cgroup = BPF_CORE_READ(memcg, css.cgroup);
	const char *name = BPF_CORE_READ(cgroup, kn, name);
	long length;

	out->cgroup_id = BPF_CORE_READ(cgroup, kn, id);
	out->hierarchy = BPF_CORE_READ(cgroup, root, hierarchy_id);
	out->flags = WIRE_LEVEL_MEMORY;
	fill_counter(&out->memory, (void *)__builtin_preserve_access_index(&memcg->memory));
	if (bpf_core_field_exists(memcg->swap)) {
		fill_counter(&out->swap, (void *)__builtin_preserve_access_index(&memcg->swap));
		out->flags |= WIRE_LEVEL_SWAP;
	}
	if (bpf_core_field_exists(memcg->oom_group)) {
		out->flags |= WIRE_LEVEL_GROUP_KNOWN;
		if (BPF_CORE_READ(memcg, oom_group))
			out->flags |= WIRE_LEVEL_OOM_GROUP;
	}
	out->oom_local = 0;
	out->oom_kill = 0;
	if (memcg_event(memcg, true, bpf_core_enum_value(enum memcg_memory_event, MEMCG_OOM), &out->oom_local) &&
	    memcg_event(memcg, false, bpf_core_enum_value(enum memcg_memory_event, MEMCG_OOM_KILL), &out->oom_kill))
		out->flags |= WIRE_LEVEL_EVENTS;
	out->name[0] = 0;
	length = bpf_probe_read_kernel_str(out->name, sizeof(out->name), name);
	if (length >= (long)sizeof(out->name))
		out->flags |= WIRE_LEVEL_NAME_CUT;
}

static __always_inline struct mem_cgroup *css_memcg(struct cgroup_subsys_state *css)
{
	if (!css)
		return 0;
	return (void *)css - bpf_core_field_offset(struct mem_cgroup, css);
}

static __always_inline struct mem_cgroup *memcg_parent(struct mem_cgroup *memcg)
{
	return css_memcg(BPF_CORE_READ(memcg, css.parent));
}

static __always_inline void fill_nodes(struct wire_decision *r, nodemask_t *mask)
{
	__u32 size = bpf_core_field_size(((struct task_struct *)0)->mems_allowed);

	for (int i = 0; i < WIRE_NODE_WORDS; i++) {
		r->nodes[i] = 0;
		if (mask && i * sizeof(__u64) < size)
			bpf_probe_read_kernel(&r->nodes[i], sizeof(__u64), (void *)mask + i * sizeof(__u64));
	}
	if (mask)
		r->flags |= WIRE_DECISION_NODES;
}

/*
 * The kernel has chosen victim. oc is there where oom_kill_process is hooked
 * (mm/oom_kill.c); without it the limiter is left to user space, which compares
 * each level's oom_local with what it was (mm/memcontrol.c: memcg_memory_event
 * counts MEMCG_OOM at the owner of the limit).
 */
static __always_inline void send_decision(void *ctx, struct task_struct *victim, struct oom_control *oc,
					  __u64 pass, __u32 tier)
{
	struct wire_decision *r = bpf_ringbuf_reserve(&urgent, sizeof(*r), 0);
	struct mem_cgroup *limiter = 0, *memcg;
	__u32 tid = current_tid(), *reclaim;
	long size;

	if (!r) {
		count_lost(WIRE_DECISION);
		return;
	}
	fill_header(&r->h, WIRE_DECISION, pass);
	fill_task(&r->victim, victim);
	r->tier = tier;
	r->flags = 0;
	r->constraint = 0;
	r->order = 0;
	r->gfp = 0;
	r->total_pages = 0;
	r->points = 0;
	r->limiter = WIRE_LIMITER_UNKNOWN;
	r->pad = 0;
	if (oc) {
		nodemask_t *mask = BPF_CORE_READ(oc, nodemask);

		limiter = BPF_CORE_READ(oc, memcg);
		r->flags |= WIRE_DECISION_ALLOC;
		r->constraint = BPF_CORE_READ(oc, constraint);
		r->order = BPF_CORE_READ(oc, order);
		r->gfp = BPF_CORE_READ(oc, gfp_mask);
		r->total_pages = BPF_CORE_READ(oc, totalpages);
		r->points = BPF_CORE_READ(oc, chosen_points);
		r->limiter = limiter ? WIRE_LIMITER_UNKNOWN : WIRE_LIMITER_NODE;
		if (r->constraint == CONSTRAINT_CPUSET)
			mask = (void *)__builtin_preserve_access_index(&current_task()->mems_allowed);
		else if (r->constraint != CONSTRAINT_MEMORY_POLICY)
			mask = 0;
		fill_nodes(r, mask);
	} else {
		fill_nodes(r, 0);
	}
	size = bpf_get_stack(ctx, r->stack, sizeof(r->stack), 0);
	r->frames = size > 0 ? size / sizeof(r->stack[0]) : 0;
	reclaim = bpf_map_lookup_elem(&last_reclaim, &tid);
	r->last_reclaim = reclaim ? *reclaim : WIRE_RECLAIM_NONE;

	r->level_count = 0;
	memcg = css_memcg(task_memory_css(victim));
	for (int i = 0; i < WIRE_LEVELS; i++) {
		if (!memcg)
			break;
		fill_level(&r->levels[i], memcg);
		if (memcg == limiter)
			r->limiter = i;
		r->level_count = i + 1;
		memcg = memcg_parent(memcg);
	}
	if (memcg)
		r->flags |= WIRE_DECISION_CUT;
	/* A mark or the pass's end follows at once, and wakes. */
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
}

static __always_inline void charge_item(struct wire_charge_level *out, struct mem_cgroup *memcg, int place, int item)
{
	long value = memcg_counter((__u64)memcg, item);

	if (value >= 0)
		out->known |= 1 << place;
	out->items[place] = value < 0 ? 0 : value;
}

static __always_inline void fill_charge(struct wire_charge_level *out, struct mem_cgroup *memcg)
{
	struct cgroup *cgroup = BPF_CORE_READ(memcg, css.cgroup);

	out->cgroup_id = BPF_CORE_READ(cgroup, kn, id);
	out->hierarchy = BPF_CORE_READ(cgroup, root, hierarchy_id);
	out->known = 0;
	charge_item(out, memcg, WIRE_ANON, bpf_core_enum_value(enum node_stat_item, NR_ANON_MAPPED));
	charge_item(out, memcg, WIRE_FILE, bpf_core_enum_value(enum node_stat_item, NR_FILE_PAGES));
	charge_item(out, memcg, WIRE_SHMEM, bpf_core_enum_value(enum node_stat_item, NR_SHMEM));
	charge_item(out, memcg, WIRE_SLAB_RECLAIMABLE,
		    bpf_core_enum_value(enum node_stat_item, NR_SLAB_RECLAIMABLE_B));
	charge_item(out, memcg, WIRE_SLAB_UNRECLAIMABLE,
		    bpf_core_enum_value(enum node_stat_item, NR_SLAB_UNRECLAIMABLE_B));
	charge_item(out, memcg, WIRE_KERNEL_STACK, bpf_core_enum_value(enum node_stat_item, NR_KERNEL_STACK_KB));
	charge_item(out, memcg, WIRE_SOCK, bpf_core_enum_value(enum memcg_stat_item, MEMCG_SOCK));
	out->items[WIRE_PAGETABLES] = 0;
	if (has_pagetables())
		charge_item(out, memcg, WIRE_PAGETABLES, bpf_core_enum_value(enum node_stat_item, NR_PAGETABLE));
	charge_item(out, memcg, WIRE_FILE_DIRTY, bpf_core_enum_value(enum node_stat_item, NR_FILE_DIRTY));
	charge_item(out, memcg, WIRE_WRITEBACK, bpf_core_enum_value(enum node_stat_item, NR_WRITEBACK));
	charge_item(out, memcg, WIRE_ACTIVE_FILE, bpf_core_enum_value(enum node_stat_item, NR_ACTIVE_FILE));
	charge_item(out, memcg, WIRE_INACTIVE_FILE, bpf_core_enum_value(enum node_stat_item, NR_INACTIVE_FILE));
	charge_item(out, memcg, WIRE_UNEVICTABLE, bpf_core_enum_value(enum node_stat_item, NR_UNEVICTABLE));
	out->items[WIRE_ANON_THP] = out->items[WIRE_ANON_HUGEPAGES] = out->items[WIRE_PERCPU] = 0;
	if (thp_in_pages())
		charge_item(out, memcg, WIRE_ANON_THP, bpf_core_enum_value(enum node_stat_item, NR_ANON_THPS));
	else if (thp_in_huge_pages())
		charge_item(out, memcg, WIRE_ANON_HUGEPAGES, bpf_core_enum_value(enum node_stat_item, NR_ANON_THPS));
	if (bpf_core_enum_value_exists(enum memcg_stat_item, MEMCG_PERCPU_B))
		charge_item(out, memcg, WIRE_PERCPU, bpf_core_enum_value(enum memcg_stat_item, MEMCG_PERCPU_B));
}

/*
 * The charge split at a pass's first SIGKILL: the kernel has just flushed the
 * counters for its report, unless that was rate limited (mm/oom_kill.c:
 * dump_header). Of the limiter where it is known, else of the whole chain.
 *
 * A global function: it is verified once, and not for each state of its caller. It gets
 * no pointers; older kernels let none through.
 */
__noinline int send_charge(void)
{
	__u32 tid = current_tid();
	struct pass *pass = bpf_map_lookup_elem(&passes, &tid);
	struct mem_cgroup *limiter, *memcg;
	struct wire_charge *r;

	if (!pass)
		return 0;
	r = bpf_ringbuf_reserve(&urgent, sizeof(*r), 0);
	if (!r) {
		count_lost(WIRE_CHARGE);
		return 0;
	}
	fill_header(&r->h, WIRE_CHARGE, pass->number);
	r->level_count = 0;
	r->pad = 0;
	limiter = pass->limiter;
	memcg = limiter ?: css_memcg(task_memory_css(pass->target));
	for (int i = 0; i < WIRE_LEVELS; i++) {
		if (!memcg)
			break;
		fill_charge(&r->levels[i], memcg);
		r->level_count = i + 1;
		if (limiter)
			break;
		memcg = memcg_parent(memcg);
	}
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
	return 0;
}

/* A process's id in the pid namespace of a level. */
static __always_inline void pid_at(struct pid *pid, unsigned int level, int *nr, struct pid_namespace **ns)
{
	void *upid = (void *)__builtin_preserve_access_index(&pid->numbers) + level * bpf_core_type_size(struct upid);

	*nr = 0;
	*ns = 0;
	bpf_probe_read_kernel(nr, sizeof(*nr), upid + bpf_core_field_offset(struct upid, nr));
	bpf_probe_read_kernel(ns, sizeof(*ns), upid + bpf_core_field_offset(struct upid, ns));
}

/* The level of a process's own pid namespace; 0 is the first one, or not known. */
static __always_inline unsigned int pidns_level(struct pid *pid)
{
	unsigned int level = pid ? BPF_CORE_READ(pid, level) : 0;

	return level > 32 /* MAX_PID_NS_LEVEL */ ? 0 : level;
}

static __always_inline bool is_container_init(struct task_struct *leader)
{
	struct pid *pid = BPF_CORE_READ(leader, thread_pid);
	unsigned int level = pidns_level(pid);
	struct pid_namespace *ns;
	int nr = 0;

	if (level)
		pid_at(pid, level, &nr, &ns);
	return nr == 1;
}

/* How the sender stands to the target by their pid namespaces. */
static __always_inline __u32 pidns_flags(struct task_struct *sender, struct task_struct *target)
{
	struct pid *s = BPF_CORE_READ(sender, thread_pid), *t = BPF_CORE_READ(target, thread_pid);
	unsigned int level = pidns_level(s), below = pidns_level(t);
	struct pid_namespace *ns, *other;
	int nr, unused;

	if (!level || below < level)
		return 0;
	pid_at(s, level, &nr, &ns);
	pid_at(t, level, &unused, &other);
	if (!ns || ns != other)
		return 0;
	return (below == level ? WIRE_SENDER_SAME_PIDNS : 0) | (nr == 1 ? WIRE_SENDER_INIT : 0);
}

static __always_inline void fill_target_memory(struct wire_kill *r, struct mm_struct *mm)
{
	struct rss rss = {};

	r->anon_pages = r->file_pages = r->shmem_pages = r->swap_pages = 0;
	r->total_vm_pages = r->pgtables_bytes = 0;
	if (!mm || !mm_rss(mm, &rss))
		return;
	r->flags |= WIRE_KILL_MEMORY;
	r->anon_pages = rss.anon;
	r->file_pages = rss.file;
	r->shmem_pages = rss.shmem;
	r->swap_pages = rss.swap;
	r->total_vm_pages = BPF_CORE_READ(mm, total_vm);
	r->pgtables_bytes = BPF_CORE_READ(mm, pgtables_bytes.counter);
}

static __always_inline void fill_kill(struct wire_kill *r, __u32 kind, __u64 pass, void *info,
				      struct task_struct *target, bool group, int result)
{
	struct task_struct *leader = BPF_CORE_READ(target, group_leader);

	fill_header(&r->h, kind, pass);
	fill_task(&r->target, target);
	r->flags = (group ? WIRE_KILL_GROUP : 0) | (is_container_init(leader) ? WIRE_KILL_CONTAINER_INIT : 0);
	if (info == SEND_SIG_PRIV) {
		r->flags |= WIRE_KILL_FROM_KERNEL;
		r->code = SI_KERNEL;
	} else if (info == SEND_SIG_NOINFO) {
		r->code = SI_USER;
	} else {
		r->code = BPF_CORE_READ((struct kernel_siginfo *)info, si_code);
	}
	r->result = result;
	r->uid = BPF_CORE_READ(target, real_cred, uid.val);
	r->oom_score_adj = BPF_CORE_READ(target, signal, oom_score_adj);
	r->pad = 0;
	r->start_boot_ns = BPF_CORE_READ(leader, start_boottime);
	fill_target_memory(r, BPF_CORE_READ(target, mm));
}

#include "users.h"

/*
 * Is a SIGKILL the OOM killer's, as far as can be told here? Else sender tells of
 * who sent it.
 */
static __always_inline bool may_be_oom(void *info, struct task_struct *target, __u32 *sender)
{
	struct task_struct *current = current_task();
	__u32 tid = current_tid();
	struct pass *pass;
	bool exiting;

	if (info == SEND_SIG_PRIV) {
		pass = bpf_map_lookup_elem(&passes, &tid);
		if (pass && pass->number)
			return true;
		/* Who shares the memory of a victim is killed after its mark, without one. */
		if (pass && pass->marked_mm && pass->marked_mm == BPF_CORE_READ(target, mm))
			return true;
	}
	/*
	 * The init of a pid namespace ends all others in it on its way out
	 * (kernel/pid_namespace.c: zap_pid_ns_processes). What else the kernel sends
	 * outside of a pass may be the OOM killer's where there are none.
	 */
	exiting = BPF_CORE_READ(current, flags) & PF_EXITING;
	if (info == SEND_SIG_PRIV && !exiting && decision_tier == WIRE_TIER_TRACEPOINT)
		return true;
	*sender = pidns_flags(BPF_CORE_READ(current, group_leader), BPF_CORE_READ(target, group_leader));
	if (exiting)
		*sender |= WIRE_SENDER_EXITING;
	return info == SEND_SIG_PRIV && !(*sender & WIRE_SENDER_INIT) && decision_tier == WIRE_TIER_TRACEPOINT;
}

/* Its end will be told. */
static __always_inline void await_end(struct task_struct *target, struct mm_struct *mm)
{
	__u32 tgid = BPF_CORE_READ(target, tgid);
	__u64 now = bpf_ktime_get_boot_ns(), mm_key = (__u64)mm;

	if (bpf_map_update_elem(&dying, &tgid, &now, BPF_ANY))
		count_lost(WIRE_STATE);
	if (mm)
		bpf_map_update_elem(&dying_mm, &mm_key, &tgid, BPF_NOEXIST);
}

/* A SIGKILL of the OOM killer: they come between its decision and mark_victim. */
static __always_inline void on_oom_kill(void *ctx, void *info, struct task_struct *target, bool group, int result)
{
	__u32 tid = current_tid(), target_tid;
	struct pass *pass = bpf_map_lookup_elem(&passes, &tid);
	bool shares_mm = false;
	struct mm_struct *mm;
	struct wire_kill *r;
	__u64 number = 0;

	/* The kernel skips a kprobe that another program's run is in the way of. */
	if (pass && pass->number && !pass->decided) {
		pass->decided = 1;
		pass->chosen = BPF_CORE_READ(target, tgid);
		send_decision(ctx, target, pass->oc, pass->number, decision_tier);
	}
	mm = BPF_CORE_READ(target, mm);
	target_tid = BPF_CORE_READ(target, pid);
	pass = bpf_map_lookup_elem(&passes, &tid);
	if (!pass) {
		struct pass fresh = {};

		bpf_map_update_elem(&passes, &tid, &fresh, BPF_ANY);
		pass = bpf_map_lookup_elem(&passes, &tid);
	}
	if (!pass) {
		count_lost(WIRE_STATE);
	} else {
		number = pass->number;
		shares_mm = mm && pass->marked_mm == mm && pass->target_tid != target_tid;
		pass->target = target;
		pass->target_mm = mm;
		pass->target_tid = target_tid;
		pass->kills++;
		if (!pass->charged && (number || decision_tier == WIRE_TIER_TRACEPOINT))
			send_charge();
		/* Without a bracket there is no first kill of a pass: each is one. */
		pass->charged = number != 0;
	}
	await_end(target, mm);
	r = bpf_ringbuf_reserve(&urgent, sizeof(*r), 0);
	if (!r) {
		count_lost(WIRE_KILL);
		return;
	}
	fill_kill(r, WIRE_KILL, number, info, target, group, result);
	if (shares_mm)
		r->flags |= WIRE_KILL_SHARES_MM;
	/* The OOM killer's mark follows at once, and wakes; others have none. */
	bpf_ringbuf_submit(r, shares_mm ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP);
}

/*
 * A SIGKILL of the kernel outside of a pass: a mark will tell that it was in one,
 * and that the kernel skipped the kprobe at its beginning.
 */
static __always_inline void maybe_missed_pass(struct task_struct *target)
{
	struct pass missed = { .target = target, .target_mm = BPF_CORE_READ(target, mm), .target_tid = BPF_CORE_READ(target, pid) };
	__u32 tid = current_tid();

	bpf_map_update_elem(&passes, &tid, &missed, BPF_ANY);
}

static __always_inline void on_mark(void *ctx, __u32 pid)
{
	__u32 tid = current_tid();
	struct pass *pass = bpf_map_lookup_elem(&passes, &tid);
	struct wire_mark *r;

	if (pass) {
		pass->marks++;
		if (pass->target && pass->target_tid == pid) {
			pass->marked_mm = pass->target_mm;
			if (decision_tier == WIRE_TIER_TRACEPOINT) {
				send_decision(ctx, pass->target, 0, 0, WIRE_TIER_TRACEPOINT);
			} else if (decision_tier == WIRE_TIER_KPROBE && !pass->number) {
				await_end(pass->target, pass->target_mm);
				send_decision(ctx, pass->target, 0, 0, WIRE_TIER_TRACEPOINT);
			}
		}
		pass->target = 0;
	}
	r = bpf_ringbuf_reserve(&urgent, sizeof(*r), 0);
	if (!r) {
		count_lost(WIRE_MARK);
		return;
	}
	fill_header(&r->h, WIRE_MARK, pass ? pass->number : 0);
	r->pid = pid;
	r->pad = 0;
	bpf_ringbuf_submit(r, BPF_RB_FORCE_WAKEUP);
}

static __always_inline void on_out_of_memory(struct oom_control *oc)
{
	__u32 tid = current_tid();
	struct pass pass = { .oc = oc };

	pass.number = ++pass_number;
	/* The limiter is set by the caller; the constraint is not yet (it is 0). */
	pass.limiter = BPF_CORE_READ(oc, memcg);
	if (bpf_map_update_elem(&passes, &tid, &pass, BPF_ANY))
		count_lost(WIRE_STATE);
}

static __always_inline void on_oom_kill_process(void *ctx, struct oom_control *oc, __u32 tier)
{
	__u32 tid = current_tid();
	struct pass *pass = bpf_map_lookup_elem(&passes, &tid);
	struct task_struct *victim = BPF_CORE_READ(oc, chosen);

	if (pass) {
		pass->decided = 1;
		pass->chosen = BPF_CORE_READ(victim, tgid);
	}
	send_decision(ctx, victim, oc, pass ? pass->number : 0, tier);
}

static __always_inline void send_pass(struct pass *pass, struct oom_control *oc, __u32 outcome, __u32 constraint,
				      struct wire_fold *fold)
{
	struct wire_pass *r = bpf_ringbuf_reserve(&urgent, sizeof(*r), 0);

	if (!r) {
		count_lost(WIRE_PASS);
		return;
	}
	fill_header(&r->h, WIRE_PASS, pass->number);
	r->outcome = outcome;
	r->constraint = constraint;
	r->order = BPF_CORE_READ(oc, order);
	r->gfp = BPF_CORE_READ(oc, gfp_mask);
	r->chosen = pass->chosen;
	r->global = !pass->limiter;
	r->count = fold->count;
	r->first_ns = fold->first_ns;
	r->last_ns = fold->last_ns;
	if (pass->limiter)
		fill_level(&r->limiter, pass->limiter);
	else
		__builtin_memset(&r->limiter, 0, sizeof(r->limiter));
	bpf_ringbuf_submit(r, BPF_RB_FORCE_WAKEUP);
}

/* A pass that killed nobody: counted always, sent when it is new and then once a second. */
static __always_inline void fold_pass(struct pass *pass, struct oom_control *oc, __u32 outcome, __u32 constraint)
{
	__u64 now = bpf_ktime_get_boot_ns();
	struct mem_cgroup *limiter = pass->limiter;
	struct wire_fold_key key = {};
	struct wire_fold *fold;

	key.outcome = outcome;
	key.constraint = constraint;
	key.global = !limiter;
	if (limiter) {
		key.cgroup_id = BPF_CORE_READ(limiter, css.cgroup, kn, id);
		key.hierarchy = BPF_CORE_READ(limiter, css.cgroup, root, hierarchy_id);
	}
	fold = bpf_map_lookup_elem(&folds, &key);
	if (!fold) {
		struct wire_fold fresh = { .first_ns = now };

		if (bpf_map_update_elem(&folds, &key, &fresh, BPF_ANY))
			count_lost(WIRE_STATE);
		fold = bpf_map_lookup_elem(&folds, &key);
		if (!fold)
			return;
	}
	/* Plain arithmetic: all of this is under oom_lock. */
	if (now - fold->last_ns > FOLD_RUN_NS)
		fold->first_ns = now;
	fold->count++;
	fold->last_ns = now;
	if (fold->sent_ns && now - fold->sent_ns < 1000000000ull)
		return;
	fold->sent_ns = now;
	send_pass(pass, oc, outcome, constraint, fold);
}

static __always_inline void on_out_of_memory_return(struct oom_control *oc, bool handled)
{
	__u32 tid = current_tid(), constraint;
	struct pass *pass = bpf_map_lookup_elem(&passes, &tid);
	__u64 chosen;

	if (!pass || !pass->number)
		return; /* it was entered before we were attached */
	if (!oc)
		oc = pass->oc;
	/* Of chosen only "none" and -1 mean anything: its reference is gone. */
	chosen = (__u64)BPF_CORE_READ(oc, chosen);
	constraint = BPF_CORE_READ(oc, constraint);
	if (pass->kills) {
		struct wire_fold one = { .count = 1 };

		one.first_ns = one.last_ns = bpf_ktime_get_boot_ns();
		send_pass(pass, oc, WIRE_KILLED, constraint, &one);
	} else if (chosen == (__u64)-1) {
		fold_pass(pass, oc, WIRE_WAITING, constraint);
	} else if (pass->marks) {
		fold_pass(pass, oc, WIRE_ALREADY_EXITING, constraint);
	} else if (!handled) {
		fold_pass(pass, oc, WIRE_NO_KILLABLE, constraint);
	} else {
		fold_pass(pass, oc, WIRE_SKIPPED, constraint);
	}
	bpf_map_delete_elem(&passes, &tid);
}

static __always_inline void send_end(__u32 kind, __u32 tgid)
{
	struct wire_exit *r = bpf_ringbuf_reserve(&bulk, sizeof(*r), 0);

	if (!r) {
		count_lost(kind);
		return;
	}
	fill_header(&r->h, kind, 0);
	r->tgid = tgid;
	r->pad = 0;
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
}

static __always_inline void on_process_exit(struct task_struct *task)
{
	__u32 tgid = BPF_CORE_READ(task, tgid), tid = BPF_CORE_READ(task, pid);

	/* Of a pass whose return was skipped: what this task sends on its way out is not the OOM killer's. */
	if (bpf_map_lookup_elem(&passes, &tid))
		bpf_map_delete_elem(&passes, &tid);
	if (!bpf_map_lookup_elem(&dying, &tgid))
		return;
	/* live is counted down before the tracepoint (kernel/exit.c: do_exit). */
	if (BPF_CORE_READ(task, signal, live.counter) > 0)
		return;
	/* Two last threads may both come here; one deletes. */
	if (!bpf_map_delete_elem(&dying, &tgid))
		send_end(WIRE_EXIT, tgid);
}

static __always_inline void on_exit_mmap_return(struct mm_struct *mm)
{
	__u64 key = (__u64)mm;
	__u32 *tgid = bpf_map_lookup_elem(&dying_mm, &key), victim;

	if (!tgid)
		return;
	victim = *tgid;
	if (!bpf_map_delete_elem(&dying_mm, &key))
		send_end(WIRE_RELEASED, victim);
}

static __always_inline void on_cgroup(struct cgroup *cgroup, const char *path, __u32 op)
{
	__u32 hierarchy = BPF_CORE_READ(cgroup, root, hierarchy_id);
	struct wire_cgroup_long *l;
	struct wire_cgroup *r;

	if (hierarchy != memory_hierarchy)
		return;
	r = bpf_ringbuf_reserve(&urgent, sizeof(*r), 0);
	if (!r) {
		count_lost(WIRE_CGROUP);
		return;
	}
	r->path[0] = 0;
	if (bpf_probe_read_kernel_str(r->path, sizeof(r->path), path) < (long)sizeof(r->path)) {
		fill_header(&r->h, WIRE_CGROUP, 0);
		r->cgroup_id = BPF_CORE_READ(cgroup, kn, id);
		r->hierarchy = hierarchy;
		r->op = op;
		bpf_ringbuf_submit(r, BPF_RB_FORCE_WAKEUP);
		return;
	}
	bpf_ringbuf_discard(r, BPF_RB_NO_WAKEUP);
	l = bpf_ringbuf_reserve(&urgent, sizeof(*l), 0);
	if (!l) {
		count_lost(WIRE_CGROUP);
		return;
	}
	l->path[0] = 0;
	bpf_probe_read_kernel_str(l->path, sizeof(l->path), path);
	fill_header(&l->h, WIRE_CGROUP, 0);
	l->cgroup_id = BPF_CORE_READ(cgroup, kn, id);
	l->hierarchy = hierarchy;
	l->op = op;
	bpf_ringbuf_submit(l, BPF_RB_FORCE_WAKEUP);
}

static __always_inline void on_reclaim(__u32 kind)
{
	__u32 tid = current_tid();

	bpf_map_update_elem(&last_reclaim, &tid, &kind, BPF_ANY);
}

/* The programs. Arguments of BTF tracepoints, fentry and fexit come as an array. */

/*
 * Two programs, one for the OOM killer's signals and one for all others: a program
 * is not run while an interrupted run of itself is on the CPU, and a flood of
 * signals by users must not hide an OOM kill.
 */
SEC("tp_btf/signal_generate")
int signal_generate(__u64 *ctx)
{
	__u32 sender = 0;

	if ((int)ctx[0] == SIGKILL && (void *)ctx[1] == SEND_SIG_PRIV && may_be_oom((void *)ctx[1], (void *)ctx[2], &sender))
		on_oom_kill(ctx, (void *)ctx[1], (void *)ctx[2], (int)ctx[3] != 0, (int)ctx[4]);
	return 0;
}

SEC("tp_btf/signal_generate")
int user_signal(__u64 *ctx)
{
	__u32 sender = 0;

	if ((int)ctx[0] == SIGTERM) {
		on_sigterm((void *)ctx[2], (int)ctx[4]);
	} else if ((int)ctx[0] == SIGKILL && !may_be_oom((void *)ctx[1], (void *)ctx[2], &sender)) {
		if ((void *)ctx[1] == SEND_SIG_PRIV && decision_tier == WIRE_TIER_KPROBE)
			maybe_missed_pass((void *)ctx[2]);
		on_user_kill((void *)ctx[1], (void *)ctx[2], (int)ctx[3] != 0, (int)ctx[4], sender);
	}
	return 0;
}

/* Raw: its arguments are plain numbers, whatever the kernel at hand means by them. */
SEC("raw_tracepoint/mark_victim")
int mark_victim(struct bpf_raw_tracepoint_args *ctx)
{
	on_mark(ctx, marked_pid(ctx->args[0]));
	return 0;
}

SEC("tp_btf/sched_process_exit")
int sched_process_exit(__u64 *ctx)
{
	on_process_exit((void *)ctx[0]);
	return 0;
}

SEC("tp_btf/cgroup_mkdir")
int cgroup_mkdir(__u64 *ctx)
{
	on_cgroup((void *)ctx[0], (void *)ctx[1], WIRE_MKDIR);
	return 0;
}

SEC("tp_btf/cgroup_rmdir")
int cgroup_rmdir(__u64 *ctx)
{
	on_cgroup((void *)ctx[0], (void *)ctx[1], WIRE_RMDIR);
	return 0;
}

SEC("tp_btf/cgroup_rename")
int cgroup_rename(__u64 *ctx)
{
	on_cgroup((void *)ctx[0], (void *)ctx[1], WIRE_RENAME);
	return 0;
}

SEC("tp_btf/mm_vmscan_memcg_reclaim_begin")
int memcg_reclaim_begin(void *ctx)
{
	on_reclaim(WIRE_RECLAIM_MEMCG);
	return 0;
}

SEC("tp_btf/mm_vmscan_direct_reclaim_begin")
int direct_reclaim_begin(void *ctx)
{
	on_reclaim(WIRE_RECLAIM_GLOBAL);
	return 0;
}

SEC("fentry/out_of_memory")
int fentry_out_of_memory(__u64 *ctx)
{
	on_out_of_memory((void *)ctx[0]);
	return 0;
}

SEC("fexit/out_of_memory")
int fexit_out_of_memory(__u64 *ctx)
{
	on_out_of_memory_return((void *)ctx[0], ctx[1] & 0xff);
	return 0;
}

SEC("fentry/oom_kill_process")
int fentry_oom_kill_process(__u64 *ctx)
{
	on_oom_kill_process(ctx, (void *)ctx[0], WIRE_TIER_FENTRY);
	return 0;
}

SEC("fexit/exit_mmap")
int fexit_exit_mmap(__u64 *ctx)
{
	on_exit_mmap_return((void *)ctx[0]);
	return 0;
}

SEC("kprobe/out_of_memory")
int kprobe_out_of_memory(struct pt_regs *ctx)
{
	on_out_of_memory((void *)PARAMETER_1(ctx));
	return 0;
}

SEC("kretprobe/out_of_memory")
int kretprobe_out_of_memory(struct pt_regs *ctx)
{
	on_out_of_memory_return(0, RETURN_VALUE(ctx) & 0xff);
	return 0;
}

SEC("kprobe/oom_kill_process")
int kprobe_oom_kill_process(struct pt_regs *ctx)
{
	on_oom_kill_process(ctx, (void *)PARAMETER_1(ctx), WIRE_TIER_KPROBE);
	return 0;
}

SEC("kprobe/exit_mmap")
int kprobe_exit_mmap(struct pt_regs *ctx)
{
	__u64 mm = PARAMETER_1(ctx);
	__u32 tid = current_tid();

	if (bpf_map_lookup_elem(&dying_mm, &mm))
		bpf_map_update_elem(&exiting_mm, &tid, &mm, BPF_ANY);
	return 0;
}

SEC("kretprobe/exit_mmap")
int kretprobe_exit_mmap(struct pt_regs *ctx)
{
	__u32 tid = current_tid();
	__u64 *mm = bpf_map_lookup_elem(&exiting_mm, &tid);

	if (!mm)
		return 0;
	on_exit_mmap_return((void *)*mm);
	bpf_map_delete_elem(&exiting_mm, &tid);
	return 0;
}
