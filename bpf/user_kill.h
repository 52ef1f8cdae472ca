/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * SIGKILLs not sent by the OOM killer: the sender, the limits above the target, and
 * the SIGTERM before it.
 */
#ifndef OOMTRACE_USER_KILL_H
#define OOMTRACE_USER_KILL_H

#include "budget.h"
#include "compat.h"
#include "invocation.h"
#include "kernel.h"
#include "memcg.h"
#include "reclaim.h"
#include "rings.h"
#include "sigkill.h"
#include "task.h"
#include "wire.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

/* The key of the maps of signals to a cgroup. */
struct cgroup_key {
	__u64 cgroup_id;
	__u32 hierarchy;
	__u32 pad;
};

/* The last SIGTERM to a process of a cgroup. */
struct term {
	__u64 boot_ns;
	struct wire_ancestor sender;
	__u32 ignored;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct cgroup_key);
	__type(value, struct term);
} terms SEC(".maps");

/* When a cgroup's ancestry was last sent. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct cgroup_key);
	__type(value, __u64);
} ancestries SEC(".maps");

static __always_inline void fill_cgroup_key(struct cgroup_key *key, struct task_struct *task)
{
	struct cgroup *cgroup = task_cgroup(task);

	key->cgroup_id = BPF_CORE_READ(cgroup, kn, id);
	key->hierarchy = BPF_CORE_READ(cgroup, root, hierarchy_id);
	key->pad = 0;
}

/* Sends the memcgs above a target, at most once a second per cgroup, and only within its budget if it has one. */
static __always_inline void send_target_ancestry(struct task_struct *target, struct cgroup_key *key, bool budgeted,
						 __u64 tenant)
{
	__u64 now = bpf_ktime_get_boot_ns(), *sent = bpf_map_lookup_elem(&ancestries, key);
	struct wire_target_ancestry *r;
	struct mem_cgroup *memcg;
	bool few;
	int room;

	if (sent && now - *sent < NSEC_PER_SEC)
		return;

	memcg = css_memcg(task_memory_css(target));
	few = has_few_levels(memcg);
	if (budgeted && !may_send(WIRE_KIND_TARGET_ANCESTRY, QUOTA_USER_KILLS, tenant,
				  few ? size_with_memcgs(r, WIRE_FEW_MEMCGS) : sizeof(*r)))
		return;

	reserve_with_memcgs(r, few, room);
	if (!r) {
		count_lost(WIRE_KIND_TARGET_ANCESTRY);
		return;
	}

	if (bpf_map_update_elem(&ancestries, key, &now, BPF_ANY))
		count_lost(WIRE_KIND_STATE);

	fill_header(&r->h, WIRE_KIND_TARGET_ANCESTRY, 0);
	r->cgroup_id = key->cgroup_id;
	r->hierarchy = key->hierarchy;
	r->memcg_count = 0;
	r->pad = 0;
	for (int i = 0; i < WIRE_MEMCGS; i++) {
		if (!memcg || i >= room)
			break;
		fill_memcg(&r->memcgs[i], memcg);
		r->memcg_count = i + 1;
		memcg = memcg_parent(memcg);
	}
	r->cut = memcg != 0;

	/* The record of the SIGKILL follows at once, and wakes user space. */
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
}

/*
 * Which PID namespaces sender and target share. The initial one does not count:
 * every process is in it.
 */
static __always_inline __u32 pidns_flags(struct task_struct *sender, struct task_struct *target)
{
	struct pid *s = BPF_CORE_READ(sender, thread_pid), *t = BPF_CORE_READ(target, thread_pid);
	unsigned int level = pidns_level(s), target_level = pidns_level(t);
	struct pid_namespace *ns, *target_ns;
	int nr, unused;

	if (!level || target_level < level)
		return 0;

	pid_at(s, level, &nr, &ns);
	pid_at(t, level, &unused, &target_ns);
	if (!ns || ns != target_ns)
		return 0;

	return (target_level == level ? WIRE_SENDER_SAME_PIDNS : 0) | (nr == 1 ? WIRE_SENDER_INIT : 0);
}

/*
 * The kernel stack of the signal: it alone shows whether the current task sent it, since
 * the code in siginfo can be forged (kernel/signal.c: do_rt_sigqueueinfo), and signals
 * from interrupts hit whichever task is running.
 */
static __always_inline void fill_signal_stack(struct wire_user_kill *r, void *ctx)
{
	long size = bpf_get_stack(ctx, r->stack, sizeof(r->stack), 0);

	r->frames = size > 0 ? size / sizeof(r->stack[0]) : 0;
	r->pad = 0;
}

/* Includes the sender's ancestors, since a command may have exited before user space could read them. */
static __always_inline void fill_sender(struct wire_user_kill *r, void *ctx, void *info, __u32 flags)
{
	struct task_struct *task = BPF_CORE_READ(current_task(), group_leader);

	fill_signal_stack(r, ctx);
	r->flags = flags | (info == SEND_SIG_NOINFO ? WIRE_SENDER_NO_INFO : 0);
	r->uid = (__u32)bpf_get_current_uid_gid();
	if (task_login(current_task(), &r->login_uid, &r->session_id))
		r->flags |= WIRE_SENDER_LOGIN;

	__builtin_memset(r->exe, 0, sizeof(r->exe));
	bpf_probe_read_kernel_str(r->exe, sizeof(r->exe), BPF_CORE_READ(task, mm, exe_file, f_path.dentry, d_name.name));

	r->ancestor_count = 0;
	__builtin_memset(r->ancestors, 0, sizeof(r->ancestors));
	for (int i = 0; i < WIRE_ANCESTORS; i++) {
		task = BPF_CORE_READ(task, real_parent, group_leader);
		r->ancestors[i].tgid = BPF_CORE_READ(task, tgid);
		if (!r->ancestors[i].tgid)
			return;
		BPF_CORE_READ_INTO(&r->ancestors[i].comm, task, comm);
		r->ancestor_count = i + 1;
		if (r->ancestors[i].tgid == 1)
			return;
	}
	r->flags |= WIRE_SENDER_MORE;
}

/*
 * Whether a SIGKILL ends its target: one to a process whose last thread has exited, as
 * to a zombie, or that has been killed already changes nothing, and can be sent at any
 * rate.
 */
static __always_inline bool kills(struct task_struct *target, int result)
{
	return result != TRACE_SIGNAL_IGNORED && result != TRACE_SIGNAL_ALREADY_PENDING &&
	       BPF_CORE_READ(target, signal, live.counter) > 0;
}

/*
 * Whether a SIGKILL may be the OOM killer's after all: where the kernel skipped the
 * kprobe on the entry of its invocation, nothing but its mark shows it.
 */
static __always_inline bool may_be_missed_oom(void *info)
{
	return info == SEND_SIG_PRIV && attach_mode != WIRE_ATTACH_MODE_FENTRY && may_run_oom_killer();
}

/* The budget is that of the sender, so that nobody can hide another's SIGKILLs. */
static __always_inline void on_user_kill(void *ctx, void *info, struct task_struct *target, bool group, int result,
					 __u32 flags)
{
	struct cgroup_key key;
	struct wire_user_kill *r;
	struct term *term;
	bool budgeted;
	__u64 tenant;

	if (!kills(target, result))
		return;

	budgeted = !may_be_missed_oom(info);
	tenant = tenant_of(task_cgroup(current_task()));
	if (budgeted && !may_send(WIRE_KIND_USER_KILL, QUOTA_USER_KILLS, tenant, sizeof(*r)))
		return;

	fill_cgroup_key(&key, target);
	send_target_ancestry(target, &key, budgeted, tenant);

	r = bpf_ringbuf_reserve(&urgent, sizeof(*r), 0);
	if (!r) {
		count_lost(WIRE_KIND_USER_KILL);
		return;
	}

	fill_kill(&r->kill, WIRE_KIND_USER_KILL, 0, info, target, group);
	fill_sender(r, ctx, info, flags);
	term = bpf_map_lookup_elem(&terms, &key);
	if (term) {
		r->flags |= WIRE_SENDER_TERM | (term->ignored ? WIRE_SENDER_TERM_IGNORED : 0);
		r->term_ns = term->boot_ns;
		r->term_sender = term->sender;
	} else {
		r->term_ns = 0;
		__builtin_memset(&r->term_sender, 0, sizeof(r->term_sender));
	}
	bpf_ringbuf_submit(r, BPF_RB_FORCE_WAKEUP);
}

/*
 * A SIGTERM is only remembered, for a SIGKILL that may follow. One that a process
 * forwards within its own cgroup does not replace the original sender.
 */
static __always_inline void on_sigterm(struct task_struct *target, int result)
{
	struct term term = { .boot_ns = bpf_ktime_get_boot_ns(), .ignored = result == TRACE_SIGNAL_IGNORED };
	struct cgroup_key key, own;

	fill_cgroup_key(&key, target);
	fill_cgroup_key(&own, current_task());
	term.sender.tgid = bpf_get_current_pid_tgid() >> 32;
	BPF_CORE_READ_INTO(&term.sender.comm, current_task(), group_leader, comm);
	bpf_map_update_elem(&terms, &key, &term, own.cgroup_id == key.cgroup_id ? BPF_NOEXIST : BPF_ANY);
}

#endif
