/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The OOM killer, from the entry of out_of_memory to its return: the choice of a
 * victim, its SIGKILLs, mark_victim, and invocations that kill nobody.
 *
 * All of this runs under oom_lock, in a task that may be dying: it reads, fills
 * ring-buffer memory in place, and takes no lock but the ring's.
 */
#ifndef OOMTRACE_OOM_H
#define OOMTRACE_OOM_H

#include "budget.h"
#include "exit.h"
#include "invocation.h"
#include "kernel.h"
#include "memcg.h"
#include "reclaim.h"
#include "rings.h"
#include "sigkill.h"
#include "task.h"
#include "user_kill.h"
#include "wire.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

/* Invocations further apart than this do not belong to one series of repeats. */
#define REPEAT_SERIES_NS (10 * NSEC_PER_SEC)

/* Counts invocations that killed nobody: there can be thousands in a second. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct wire_repeat_key);
	__type(value, struct wire_repeat);
} repeats SEC(".maps");

static __always_inline void fill_nodes(struct wire_victim_chosen *r, nodemask_t *mask)
{
	__u32 size = bpf_core_type_size(nodemask_t);

	for (int i = 0; i < WIRE_NODE_WORDS; i++) {
		r->nodes[i] = 0;
		if (mask && i * sizeof(__u64) < size)
			bpf_probe_read_kernel(&r->nodes[i], sizeof(__u64), (void *)mask + i * sizeof(__u64));
	}
	if (mask)
		r->flags |= WIRE_VICTIM_CHOSEN_NODES;
}

/*
 * The kernel has chosen victim. oc is given where oom_kill_process is hooked
 * (mm/oom_kill.c). Without it the thread's last reclaim shows whose limit was hit, or
 * that the node ran out, and which of its nodes the allocation could use.
 */
static __always_inline void send_victim_chosen(void *ctx, struct task_struct *victim, struct oom_control *oc,
					       __u64 invocation, enum wire_attach_mode mode, __u32 flags)
{
	struct mem_cgroup *limiter = 0, *memcg = css_memcg(task_memory_css(victim));
	struct last_reclaim *reclaim = last_reclaim();
	struct wire_victim_chosen *r;
	nodemask_t *mask = 0;
	long size;
	int room;

	reserve_with_memcgs(r, has_few_levels(memcg), room);
	if (!r) {
		count_lost(WIRE_KIND_VICTIM_CHOSEN);
		return;
	}

	fill_header(&r->h, WIRE_KIND_VICTIM_CHOSEN, invocation);
	fill_task(&r->victim, victim);
	r->attach_mode = mode;
	r->flags = flags;
	r->constraint = 0;
	r->order = 0;
	r->gfp = 0;
	r->total_pages = 0;
	r->points = 0;
	r->limiter = WIRE_LIMITER_UNKNOWN;
	r->pad = 0;
	if (oc) {
		limiter = BPF_CORE_READ(oc, memcg);
		r->flags |= WIRE_VICTIM_CHOSEN_ALLOC;
		r->constraint = BPF_CORE_READ(oc, constraint);
		r->order = BPF_CORE_READ(oc, order);
		r->gfp = BPF_CORE_READ(oc, gfp_mask);
		r->total_pages = BPF_CORE_READ(oc, totalpages);
		r->points = BPF_CORE_READ(oc, chosen_points);
		r->limiter = limiter ? WIRE_LIMITER_UNKNOWN : WIRE_LIMITER_NODE;
		if (r->constraint == CONSTRAINT_CPUSET)
			mask = task_mems_allowed(current_task());
		else if (r->constraint == CONSTRAINT_MEMORY_POLICY)
			mask = BPF_CORE_READ(oc, nodemask);
	} else if (reclaim && reclaim->kind == WIRE_RECLAIM_MEMCG) {
		limiter = reclaim->memcg;
	} else if (reclaim) {
		r->limiter = WIRE_LIMITER_NODE;
		mask = reclaim->policy ?: task_mems_allowed(current_task());
		if (reclaim->policy)
			r->flags |= WIRE_VICTIM_CHOSEN_POLICY;
		if (reclaim->gfp & ___GFP_HARDWALL)
			r->flags |= WIRE_VICTIM_CHOSEN_HARDWALL;
	}
	fill_nodes(r, mask);

	size = bpf_get_stack(ctx, r->stack, sizeof(r->stack), 0);
	r->frames = size > 0 ? size / sizeof(r->stack[0]) : 0;
	r->last_reclaim = reclaim ? reclaim->kind : WIRE_RECLAIM_NONE;
	r->reclaim_ns = reclaim ? reclaim->boot_ns : 0;

	r->memcg_count = 0;
	for (int i = 0; i < WIRE_MEMCGS; i++) {
		if (!memcg || i >= room)
			break;
		fill_memcg(&r->memcgs[i], memcg);
		if (memcg == limiter)
			r->limiter = i;
		r->memcg_count = i + 1;
		memcg = memcg_parent(memcg);
	}
	if (memcg)
		r->flags |= WIRE_VICTIM_CHOSEN_CUT;

	/* A mark, or the return of out_of_memory, follows at once and wakes user space. */
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
}

/*
 * The charge split at an invocation's first SIGKILL: the kernel has just flushed the
 * counters for its report, unless that was rate limited (mm/oom_kill.c:
 * dump_header). Of the limiter, which is the target's memcg or an ancestor, else of
 * the target's whole ancestry.
 *
 * A global function: it is verified once, and not for each state of its caller. It
 * takes no pointers, which older kernels do not accept as arguments.
 */
__noinline int send_charge(void)
{
	struct invocation *invocation = current_invocation();
	struct mem_cgroup *limiter, *memcg;
	struct wire_charge *r;
	int room;

	if (!invocation)
		return 0;

	limiter = invocation->limiter;
	memcg = css_memcg(task_memory_css(invocation->target));
	if (limiter) {
		r = bpf_ringbuf_reserve(&urgent, size_with_memcgs(r, 1), 0);
		room = 1;
	} else {
		reserve_with_memcgs(r, has_few_levels(memcg), room);
	}

	if (!r) {
		count_lost(WIRE_KIND_CHARGE);
		return 0;
	}

	fill_header(&r->h, WIRE_KIND_CHARGE, invocation->number);
	r->memcg_count = 0;
	r->pad = 0;
	for (int i = 0; i < WIRE_MEMCGS; i++) {
		if (!limiter || !memcg || memcg == limiter)
			break;
		memcg = memcg_parent(memcg);
	}
	for (int i = 0; i < WIRE_MEMCGS; i++) {
		if (!memcg || i >= room)
			break;
		fill_memcg_charge(&r->memcgs[i], memcg);
		r->memcg_count = i + 1;
		memcg = memcg_parent(memcg);
	}
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);

	return 0;
}

/* Once for each invocation, or where invocations are not seen, for each reclaim for a limit that failed. */
static __always_inline void maybe_send_charge(struct invocation *invocation)
{
	struct last_reclaim *reclaim;
	__u32 *sent = &invocation->charge_sent;

	if (!invocation->number) {
		reclaim = last_reclaim();
		if (!reclaim || !reclaim->memcg)
			return;
		invocation->limiter = reclaim->memcg;
		sent = &reclaim->charge_sent;
	}
	if (*sent)
		return;

	*sent = 1;
	send_charge();
}

/*
 * Whether a process has the memory of the last marked victim. Those are killed after the
 * mark, and get none; a process that is younger only has the address of that memory.
 */
static __always_inline bool shares_marked_mm(struct invocation *invocation, struct task_struct *target)
{
	return invocation->marked_mm && invocation->marked_mm == BPF_CORE_READ(target, mm) &&
	       BPF_CORE_READ(target, group_leader, start_boottime) < invocation->target_ns &&
	       bpf_ktime_get_boot_ns() - invocation->target_ns < REPEAT_SERIES_NS;
}

/* Whether a SIGKILL belongs to an invocation, or to a process that shares the memory of one's victim. */
static __always_inline bool is_oom_kill(void *info, struct task_struct *target)
{
	struct invocation *invocation = info == SEND_SIG_PRIV ? current_invocation() : 0;

	if (!invocation)
		return false;

	return invocation->number || shares_marked_mm(invocation, target);
}

/* An enum wire_sender_flag: what is known of the current task as a sender. */
static __always_inline __u32 sender_flags(struct task_struct *target)
{
	return pidns_flags(BPF_CORE_READ(current_task(), group_leader), BPF_CORE_READ(target, group_leader));
}

/*
 * Whether a SIGKILL may be the OOM killer's where its invocations are not seen: a
 * mark of the same thread then follows. Users can have the kernel send others by the
 * thousand, as by RLIMIT_CPU, and so can a task that exits: the init of a PID namespace
 * (kernel/pid_namespace.c: zap_pid_ns_processes), a tracer (kernel/ptrace.c:
 * exit_ptrace). None of these has reclaimed, and they have a budget.
 */
static __always_inline bool may_be_oom_kill(void *info)
{
	if (info != SEND_SIG_PRIV || attach_mode != WIRE_ATTACH_MODE_TRACEPOINT)
		return false;
	if (may_run_oom_killer())
		return true;
	if (BPF_CORE_READ(current_task(), flags) & PF_EXITING)
		return false;

	return may_send(WIRE_KIND_KILL, QUOTA_USER_KILLS, tenant_of(task_cgroup(current_task())), sizeof(struct wire_kill));
}

/* A SIGKILL of the OOM killer. They come between the choice of a victim and mark_victim. */
static __always_inline void on_oom_kill(void *ctx, void *info, struct task_struct *target, bool group)
{
	struct invocation *invocation = current_invocation();
	bool shares_mm = false;
	struct mm_struct *mm;
	struct wire_kill *r;
	__u32 target_tid;
	__u64 number = 0;

	/* The kernel skips a kprobe while another kprobe program runs on this CPU. */
	if (invocation && invocation->number && !invocation->choice_sent) {
		invocation->choice_sent = 1;
		invocation->chosen = BPF_CORE_READ(target, tgid);
		send_victim_chosen(ctx, target, invocation->oc, invocation->number, attach_mode, WIRE_VICTIM_CHOSEN_AT_KILL);
	}

	mm = BPF_CORE_READ(target, mm);
	target_tid = BPF_CORE_READ(target, pid);
	invocation = current_invocation();
	if (!invocation) {
		struct invocation fresh = {};

		set_current_invocation(&fresh);
		invocation = current_invocation();
	}

	if (!invocation) {
		count_lost(WIRE_KIND_STATE);
	} else {
		number = invocation->number;
		shares_mm = invocation->target_tid != target_tid && shares_marked_mm(invocation, target);
		invocation->target = target;
		invocation->target_mm = mm;
		invocation->target_tid = target_tid;
		invocation->target_ns = bpf_ktime_get_boot_ns();
		invocation->kills++;
		if (number || attach_mode == WIRE_ATTACH_MODE_TRACEPOINT)
			maybe_send_charge(invocation);
	}

	await_exit(target, mm);

	r = bpf_ringbuf_reserve(&urgent, sizeof(*r), 0);
	if (!r) {
		count_lost(WIRE_KIND_KILL);
		return;
	}

	fill_kill(r, WIRE_KIND_KILL, number, info, target, group);
	if (shares_mm)
		r->flags |= WIRE_KILL_SHARES_MM;

	/* A mark follows at once and wakes user space, except for processes that share the victim's memory. */
	bpf_ringbuf_submit(r, shares_mm ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP);
}

/*
 * A SIGKILL of the kernel outside of an invocation. If a mark follows, it was inside
 * of one after all, and the kernel had skipped the kprobe at the entry.
 */
static __always_inline void maybe_missed_invocation(struct task_struct *target)
{
	struct invocation missed = {
		.target = target,
		.target_mm = BPF_CORE_READ(target, mm),
		.target_tid = BPF_CORE_READ(target, pid),
		.target_ns = bpf_ktime_get_boot_ns(),
	};

	set_current_invocation(&missed);
}

/*
 * The marked task: it is named by the tracepoint, or it is the one that the thread
 * has just killed, or that the kernel has chosen, or the thread itself. 0 if it is
 * none of these.
 */
static __always_inline struct task_struct *find_marked(__u64 argument, __u32 pid, struct invocation *invocation)
{
	struct task_struct *task = marked_task(argument);

	if (task)
		return task;
	if (pid == current_tid())
		return current_task();
	if (invocation && invocation->target_tid == pid)
		return invocation->target;
	if (invocation && invocation->number) {
		struct oom_control *oc = invocation->oc;

		task = BPF_CORE_READ(oc, chosen);
		if ((__u32)BPF_CORE_READ(task, pid) == pid)
			return task;
	}

	return 0;
}

/*
 * What only a hook on oom_kill_process would show, if this mark belongs to an
 * invocation that was not seen. Of a task that gets no SIGKILL, it is sent once for
 * its process: each of its threads marks itself when it fails to allocate.
 */
static __always_inline void send_unseen_choice(void *ctx, struct task_struct *task, bool killed)
{
	struct mm_struct *mm;
	__u32 tgid;

	if (!killed) {
		tgid = BPF_CORE_READ(task, tgid);
		if (!tgid || bpf_map_lookup_elem(&dying, &tgid))
			return;
	}

	mm = BPF_CORE_READ(task, mm);
	await_exit(task, mm);
	send_victim_chosen(ctx, task, 0, 0, WIRE_ATTACH_MODE_TRACEPOINT, 0);
}

/*
 * Whether the thread has just killed the task that it marks. Not if it reclaimed in
 * between: it was killed itself, by RLIMIT_CPU for example, and then failed to allocate.
 */
static __always_inline bool has_killed(struct invocation *invocation, __u32 pid)
{
	struct last_reclaim *reclaim;

	if (!invocation->target || invocation->target_tid != pid)
		return false;

	reclaim = last_reclaim();
	return !reclaim || reclaim->boot_ns <= invocation->target_ns;
}

static __always_inline void on_mark(void *ctx, __u64 argument)
{
	struct invocation *invocation = current_invocation();
	__u32 pid = marked_pid(argument);
	struct task_struct *task;
	struct wire_mark *r;
	bool killed = false;

	task = find_marked(argument, pid, invocation);
	if (invocation) {
		invocation->marks++;
		killed = has_killed(invocation, pid);
		if (killed)
			invocation->marked_mm = invocation->target_mm;
		invocation->target = 0;
	}

	if (attach_mode == WIRE_ATTACH_MODE_TRACEPOINT ||
	    (attach_mode == WIRE_ATTACH_MODE_KPROBE && invocation && !invocation->number && killed))
		send_unseen_choice(ctx, task, killed);

	r = bpf_ringbuf_reserve(&urgent, sizeof(*r), 0);
	if (!r) {
		count_lost(WIRE_KIND_MARK);
		return;
	}

	fill_header(&r->h, WIRE_KIND_MARK, invocation ? invocation->number : 0);
	fill_task(&r->task, task);
	r->pid = pid;
	r->flags = killed ? WIRE_MARK_KILLED : 0;
	bpf_ringbuf_submit(r, BPF_RB_FORCE_WAKEUP);
}

static __always_inline void on_out_of_memory(struct oom_control *oc)
{
	struct invocation invocation = { .oc = oc };

	if (!attached)
		return;

	invocation.number = ++invocation_number;
	/* The caller has set memcg; constraint is still 0. */
	invocation.limiter = BPF_CORE_READ(oc, memcg);
	if (set_current_invocation(&invocation))
		count_lost(WIRE_KIND_STATE);
}

static __always_inline void on_oom_kill_process(void *ctx, struct oom_control *oc, enum wire_attach_mode mode)
{
	struct invocation *invocation = current_invocation();
	struct task_struct *victim = BPF_CORE_READ(oc, chosen);

	if (!attached)
		return;

	if (invocation) {
		invocation->choice_sent = 1;
		invocation->chosen = BPF_CORE_READ(victim, tgid);
	}
	send_victim_chosen(ctx, victim, oc, invocation ? invocation->number : 0, mode, 0);
}

static __always_inline void send_oom_return(struct invocation *invocation, struct oom_control *oc,
					    enum wire_outcome outcome, __u32 constraint, struct wire_repeat *repeat)
{
	struct wire_oom_return *r = bpf_ringbuf_reserve(&urgent, sizeof(*r), 0);

	if (!r) {
		count_lost(WIRE_KIND_OOM_RETURN);
		return;
	}

	fill_header(&r->h, WIRE_KIND_OOM_RETURN, invocation->number);
	r->outcome = outcome;
	r->constraint = constraint;
	r->order = BPF_CORE_READ(oc, order);
	r->gfp = BPF_CORE_READ(oc, gfp_mask);
	r->chosen = invocation->chosen;
	r->global = !invocation->limiter;
	r->count = repeat->count;
	r->first_ns = repeat->first_ns;
	r->last_ns = repeat->last_ns;
	if (invocation->limiter)
		fill_memcg(&r->limiter, invocation->limiter);
	else
		__builtin_memset(&r->limiter, 0, sizeof(r->limiter));
	bpf_ringbuf_submit(r, BPF_RB_FORCE_WAKEUP);
}

/* An invocation that killed nobody: always counted, sent if it is the first of its kind and then once a second. */
static __always_inline void count_repeat(struct invocation *invocation, struct oom_control *oc,
					 enum wire_outcome outcome, __u32 constraint)
{
	__u64 now = bpf_ktime_get_boot_ns();
	struct mem_cgroup *limiter = invocation->limiter;
	struct wire_repeat_key key = {};
	struct wire_repeat *repeat;

	key.outcome = outcome;
	key.constraint = constraint;
	key.global = !limiter;
	if (limiter) {
		key.cgroup_id = BPF_CORE_READ(limiter, css.cgroup, kn, id);
		key.hierarchy = BPF_CORE_READ(limiter, css.cgroup, root, hierarchy_id);
	}

	repeat = bpf_map_lookup_elem(&repeats, &key);
	if (!repeat) {
		struct wire_repeat fresh = { .first_ns = now };

		if (bpf_map_update_elem(&repeats, &key, &fresh, BPF_ANY))
			count_lost(WIRE_KIND_STATE);
		repeat = bpf_map_lookup_elem(&repeats, &key);
		if (!repeat)
			return;
	}

	/* Plain arithmetic: all of this is under oom_lock. */
	if (now - repeat->last_ns > REPEAT_SERIES_NS)
		repeat->first_ns = now;
	repeat->count++;
	repeat->last_ns = now;
	if (repeat->sent_ns && now - repeat->sent_ns < NSEC_PER_SEC)
		return;

	repeat->sent_ns = now;
	send_oom_return(invocation, oc, outcome, constraint, repeat);
}

/* oc is 0 where the argument is not known at the return. */
static __always_inline void on_out_of_memory_return(struct oom_control *oc, bool handled)
{
	struct invocation *invocation = current_invocation();
	__u32 tid = current_tid(), constraint;
	__u64 chosen;

	if (!invocation || !invocation->number)
		return; /* entered before the programs were attached */

	if (!oc)
		oc = invocation->oc;
	/* Only NULL and -1 mean anything here: the reference to a task has been dropped. */
	chosen = (__u64)BPF_CORE_READ(oc, chosen);
	constraint = BPF_CORE_READ(oc, constraint);
	if (invocation->kills) {
		struct wire_repeat one = { .count = 1 };

		one.first_ns = one.last_ns = bpf_ktime_get_boot_ns();
		send_oom_return(invocation, oc, WIRE_OUTCOME_KILLED, constraint, &one);
	} else if (chosen == (__u64)-1) {
		count_repeat(invocation, oc, WIRE_OUTCOME_WAITING, constraint);
	} else if (invocation->marks) {
		count_repeat(invocation, oc, WIRE_OUTCOME_ALREADY_EXITING, constraint);
	} else if (!handled) {
		count_repeat(invocation, oc, WIRE_OUTCOME_NO_KILLABLE, constraint);
	} else {
		count_repeat(invocation, oc, WIRE_OUTCOME_SKIPPED, constraint);
	}
	bpf_map_delete_elem(&invocations, &tid);
}

#endif
