/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The end of the processes that the kernel sent SIGKILL: of their last thread, and of their memory. */
#ifndef OOMTRACE_EXIT_H
#define OOMTRACE_EXIT_H

#include "invocation.h"
#include "kernel.h"
#include "rings.h"
#include "task.h"
#include "wire.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u32); /* tgid */
	__type(value, __u64);
} dying SEC(".maps");

/* A victim whose memory was not freed yet. */
struct dying_memory {
	__u64 killed_ns;
	__u32 tgid;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64); /* struct mm_struct * */
	__type(value, struct dying_memory);
} dying_mm SEC(".maps");

/* The victim whose memory a thread frees in exit_mmap: a kretprobe does not get the argument. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32); /* tid */
	__type(value, __u32); /* tgid */
} exiting_mm SEC(".maps");

/* For so long, another process may be the last to let go of a victim's memory: by /proc, or as a sharer. */
#define RELEASE_BY_OTHERS_NS (10 * NSEC_PER_SEC)

/* From here on, the end of the process will be reported. */
static __always_inline void await_exit(struct task_struct *target, struct mm_struct *mm)
{
	__u32 tgid = BPF_CORE_READ(target, tgid);
	__u64 now = bpf_ktime_get_boot_ns(), mm_key = (__u64)mm;

	if (bpf_map_update_elem(&dying, &tgid, &now, BPF_ANY))
		count_lost(WIRE_KIND_STATE);
	if (mm) {
		struct dying_memory memory = { .killed_ns = now, .tgid = tgid };

		/* An entry that is there is left over, or that of a process with the same memory. */
		if (bpf_map_update_elem(&dying_mm, &mm_key, &memory, BPF_ANY))
			count_lost(WIRE_KIND_STATE);
	}
}

static __always_inline void send_exit(enum wire_kind kind, __u32 tgid)
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

/*
 * The kernel skips a kretprobe while too many calls of the function are in progress: as
 * many as there are CPUs on 5.10, 10 or more later (kernel/kprobes.c: maxactive). A
 * thread has passed exit_mm before its sched_process_exit (kernel/exit.c, 5.10 to 6.12),
 * and has thus released the memory.
 */
static __always_inline void on_missed_exit_mmap_return(__u32 tgid)
{
	__u32 tid = current_tid(), *entered = bpf_map_lookup_elem(&exiting_mm, &tid);

	if (!entered)
		return;

	/* Else one left over, of an earlier thread with the same ID. */
	if (*entered == tgid)
		send_exit(WIRE_KIND_RELEASED, tgid);
	bpf_map_delete_elem(&exiting_mm, &tid);
}

static __always_inline void on_process_exit(struct task_struct *task)
{
	__u32 tgid = BPF_CORE_READ(task, tgid), tid = BPF_CORE_READ(task, pid);

	/*
	 * Left over where the return of out_of_memory was skipped. SIGKILLs that this task
	 * sends while it exits are not the OOM killer's.
	 */
	if (bpf_map_lookup_elem(&invocations, &tid))
		bpf_map_delete_elem(&invocations, &tid);

	if (attach_mode == WIRE_ATTACH_MODE_KPROBE)
		on_missed_exit_mmap_return(tgid);

	if (!bpf_map_lookup_elem(&dying, &tgid))
		return;

	/* live is decremented before the tracepoint (kernel/exit.c: do_exit). */
	if (BPF_CORE_READ(task, signal, live.counter) > 0)
		return;

	/* The last two threads may both get here; only one succeeds in deleting. */
	if (!bpf_map_delete_elem(&dying, &tgid))
		send_exit(WIRE_KIND_EXIT, tgid);
}

/*
 * The victim whose memory mm is; 0: none. The kernel may skip the program that takes a
 * victim out, and then uses the address for another process.
 */
static __always_inline __u32 take_dying_memory(__u64 mm)
{
	struct dying_memory *memory = bpf_map_lookup_elem(&dying_mm, &mm);
	__u64 killed_ns;
	__u32 tgid;

	if (!memory)
		return 0;

	tgid = memory->tgid;
	killed_ns = memory->killed_ns;
	if (bpf_map_delete_elem(&dying_mm, &mm))
		return 0;
	if (bpf_get_current_pid_tgid() >> 32 != tgid && bpf_ktime_get_boot_ns() - killed_ns > RELEASE_BY_OTHERS_NS)
		return 0;

	return tgid;
}

static __always_inline void on_exit_mmap_return(__u64 mm)
{
	__u32 victim = take_dying_memory(mm);

	if (victim)
		send_exit(WIRE_KIND_RELEASED, victim);
}

static __always_inline void on_exit_mmap_entry(__u64 mm)
{
	__u32 tid = current_tid(), victim = take_dying_memory(mm);

	if (victim)
		bpf_map_update_elem(&exiting_mm, &tid, &victim, BPF_ANY);
	else if (bpf_map_lookup_elem(&exiting_mm, &tid))
		bpf_map_delete_elem(&exiting_mm, &tid); /* its return was not seen */
}

/* The return without the argument, after on_exit_mmap_entry. */
static __always_inline void on_entered_exit_mmap_return(void)
{
	__u32 tid = current_tid(), *entered = bpf_map_lookup_elem(&exiting_mm, &tid), victim;

	if (!entered)
		return;

	victim = *entered;
	if (!bpf_map_delete_elem(&exiting_mm, &tid))
		send_exit(WIRE_KIND_RELEASED, victim);
}

#endif
