/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The record of a SIGKILL, whoever sent it. */
#ifndef OOMTRACE_SIGKILL_H
#define OOMTRACE_SIGKILL_H

#include "compat.h"
#include "kernel.h"
#include "task.h"
#include "wire.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

/* The process's ID in the PID namespace at that level. */
static __always_inline void pid_at(struct pid *pid, unsigned int level, int *nr, struct pid_namespace **ns)
{
	void *upid = (void *)__builtin_preserve_access_index(&pid->numbers) + level * bpf_core_type_size(struct upid);

	*nr = 0;
	*ns = 0;
	bpf_probe_read_kernel(nr, sizeof(*nr), upid + bpf_core_field_offset(struct upid, nr));
	bpf_probe_read_kernel(ns, sizeof(*ns), upid + bpf_core_field_offset(struct upid, ns));
}

/* The level of the process's own PID namespace; 0 is the initial one, or unknown. */
static __always_inline unsigned int pidns_level(struct pid *pid)
{
	unsigned int level = pid ? BPF_CORE_READ(pid, level) : 0;

	return level > 32 /* MAX_PID_NS_LEVEL */ ? 0 : level;
}

/* True for PID 1 of a PID namespace other than the initial one. */
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

static __always_inline void fill_target_memory(struct wire_kill *r, struct mm_struct *mm, bool exact)
{
	struct rss rss = {};

	r->anon_pages = r->file_pages = r->shmem_pages = r->swap_pages = 0;
	r->total_vm_pages = r->pgtables_bytes = 0;
	if (!mm || !mm_rss(mm, &rss, exact))
		return;

	r->flags |= WIRE_KILL_MEMORY;
	r->anon_pages = rss.anon;
	r->file_pages = rss.file;
	r->shmem_pages = rss.shmem;
	r->swap_pages = rss.swap;
	r->total_vm_pages = BPF_CORE_READ(mm, total_vm);
	r->pgtables_bytes = BPF_CORE_READ(mm, pgtables_bytes.counter);
}

static __always_inline void fill_kill(struct wire_kill *r, enum wire_kind kind, __u64 invocation, void *info,
				      struct task_struct *target, bool group)
{
	struct task_struct *leader = BPF_CORE_READ(target, group_leader);

	fill_header(&r->h, kind, invocation);
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

	r->uid = BPF_CORE_READ(target, real_cred, uid.val);
	r->oom_score_adj = BPF_CORE_READ(target, signal, oom_score_adj);
	r->start_boot_ns = BPF_CORE_READ(leader, start_boottime);
	/*
	 * Interrupts are off here, and a sum takes a tenth of a millisecond on 512 CPUs: only
	 * the OOM killer's victims are worth it.
	 */
	fill_target_memory(r, BPF_CORE_READ(target, mm), kind == WIRE_KIND_KILL);
}

#endif
