// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

//go:build ignore

/*
 * The programs of the OOM path. Each hook has one body, a static function in one of
 * the headers, and here one small program for each attach mode. User space loads
 * only the programs for the attach modes that the running kernel supports.
 *
 * BTF tracepoints, fentry and fexit get their arguments as an array.
 */
#include "cgroup.h"
#include "exit.h"
#include "kernel.h"
#include "limit_write.h"
#include "oom.h"
#include "reclaim.h"
#include "user_kill.h"
#include "wire_types.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

/*
 * Two programs on one tracepoint: one for signals of the OOM killer, one for all
 * others. The kernel skips a program while an interrupted run of it is on the same
 * CPU, and a flood of signals by users must not hide an OOM kill.
 */
SEC("tp_btf/signal_generate")
int signal_generate(__u64 *ctx)
{
	void *info = (void *)ctx[1], *target = (void *)ctx[2];

	if ((int)ctx[0] == SIGKILL && (is_oom_kill(info, target) || may_be_oom_kill(info)))
		on_oom_kill(ctx, info, target, (int)ctx[3] != 0);
	return 0;
}

/* A SIGKILL that only may be the OOM killer's is sent by both: a mark shows which it was. */
SEC("tp_btf/signal_generate")
int user_signal(__u64 *ctx)
{
	void *info = (void *)ctx[1], *target = (void *)ctx[2];

	if ((int)ctx[0] == SIGTERM) {
		on_sigterm(target, (int)ctx[4]);
	} else if ((int)ctx[0] == SIGKILL && !is_oom_kill(info, target)) {
		if (info == SEND_SIG_PRIV && attach_mode == WIRE_ATTACH_MODE_KPROBE)
			maybe_missed_invocation(target);
		on_user_kill(ctx, info, target, (int)ctx[3] != 0, (int)ctx[4], sender_flags(target));
	}
	return 0;
}

/* Raw, for plain numbers as arguments: their meaning differs between kernels (compat.h: marked_task). */
SEC("raw_tracepoint/mark_victim")
int mark_victim(struct bpf_raw_tracepoint_args *ctx)
{
	on_mark(ctx, ctx->args[0]);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int sched_process_exit(__u64 *ctx)
{
	if (attach_mode != WIRE_ATTACH_MODE_FENTRY)
		forget_reclaim();
	on_process_exit((void *)ctx[0]);
	return 0;
}

/* (pid), by the oom_reaper: once, or once in each of its attempts */
SEC("tp_btf/finish_task_reaping")
int finish_task_reaping(__u64 *ctx)
{
	send_exit(WIRE_KIND_REAPED, ctx[0]);
	return 0;
}

SEC("tp_btf/skip_task_reaping")
int skip_task_reaping(__u64 *ctx)
{
	send_exit(WIRE_KIND_REAP_SKIPPED, ctx[0]);
	return 0;
}

SEC("tp_btf/cgroup_mkdir")
int cgroup_mkdir(__u64 *ctx)
{
	on_cgroup((void *)ctx[0], (void *)ctx[1], WIRE_CGROUP_OP_MKDIR);
	return 0;
}

SEC("tp_btf/cgroup_rmdir")
int cgroup_rmdir(__u64 *ctx)
{
	on_cgroup((void *)ctx[0], (void *)ctx[1], WIRE_CGROUP_OP_RMDIR);
	return 0;
}

SEC("tp_btf/cgroup_rename")
int cgroup_rename(__u64 *ctx)
{
	on_cgroup((void *)ctx[0], (void *)ctx[1], WIRE_CGROUP_OP_RENAME);
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
	on_oom_kill_process(ctx, (void *)ctx[0], WIRE_ATTACH_MODE_FENTRY);
	return 0;
}

SEC("fexit/exit_mmap")
int fexit_exit_mmap(__u64 *ctx)
{
	on_exit_mmap_return(ctx[0]);
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
	on_oom_kill_process(ctx, (void *)PARAMETER_1(ctx), WIRE_ATTACH_MODE_KPROBE);
	return 0;
}

SEC("kprobe/exit_mmap")
int kprobe_exit_mmap(struct pt_regs *ctx)
{
	on_exit_mmap_entry(PARAMETER_1(ctx));
	return 0;
}

SEC("kretprobe/exit_mmap")
int kretprobe_exit_mmap(struct pt_regs *ctx)
{
	on_entered_exit_mmap_return();
	return 0;
}

SEC("fentry/memory_max_write")
int fentry_memory_max_write(__u64 *ctx)
{
	on_limit_write((void *)ctx[0], (void *)ctx[1]);
	return 0;
}

SEC("kprobe/memory_max_write")
int kprobe_memory_max_write(struct pt_regs *ctx)
{
	on_limit_write((void *)PARAMETER_1(ctx), (void *)PARAMETER_2(ctx));
	return 0;
}

SEC("fentry/memory_high_write")
int fentry_memory_high_write(__u64 *ctx)
{
	on_limit_write((void *)ctx[0], (void *)ctx[1]);
	return 0;
}

SEC("kprobe/memory_high_write")
int kprobe_memory_high_write(struct pt_regs *ctx)
{
	on_limit_write((void *)PARAMETER_1(ctx), (void *)PARAMETER_2(ctx));
	return 0;
}

SEC("fentry/mem_cgroup_write")
int fentry_mem_cgroup_write(__u64 *ctx)
{
	on_limit_write((void *)ctx[0], (void *)ctx[1]);
	return 0;
}

SEC("kprobe/mem_cgroup_write")
int kprobe_mem_cgroup_write(struct pt_regs *ctx)
{
	on_limit_write((void *)PARAMETER_1(ctx), (void *)PARAMETER_2(ctx));
	return 0;
}
