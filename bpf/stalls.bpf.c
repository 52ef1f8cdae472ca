// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause

//go:build ignore

/*
 * The programs of stalls: reclaim, memory.high, throttling, compaction, kswapd, and
 * why the allocator gave up. BTF tracepoints, fentry and fexit get their arguments
 * as an array.
 */
#include "gave_up.h"
#include "kernel.h"
#include "kswapd.h"
#include "stall.h"

char LICENSE[] SEC("license") = "Dual BSD/GPL";

SEC("tp_btf/mm_vmscan_memcg_reclaim_begin")
int stall_memcg_begin(void *ctx)
{
	begin_stall(WIRE_STALL_MEMCG_RECLAIM);
	return 0;
}

SEC("tp_btf/mm_vmscan_memcg_reclaim_end")
int stall_memcg_end(__u64 *ctx)
{
	end_stall(WIRE_STALL_MEMCG_RECLAIM, ctx[0], true);
	return 0;
}

SEC("tp_btf/mm_vmscan_direct_reclaim_begin")
int stall_direct_begin(void *ctx)
{
	begin_stall(WIRE_STALL_DIRECT_RECLAIM);
	return 0;
}

SEC("tp_btf/mm_vmscan_direct_reclaim_end")
int stall_direct_end(__u64 *ctx)
{
	end_stall(WIRE_STALL_DIRECT_RECLAIM, ctx[0], true);
	return 0;
}

SEC("tp_btf/mm_vmscan_node_reclaim_begin")
int stall_node_begin(void *ctx)
{
	begin_stall(WIRE_STALL_NODE_RECLAIM);
	return 0;
}

SEC("tp_btf/mm_vmscan_node_reclaim_end")
int stall_node_end(__u64 *ctx)
{
	end_stall(WIRE_STALL_NODE_RECLAIM, ctx[0], true);
	return 0;
}

SEC("tp_btf/mm_compaction_begin")
int stall_compaction_begin(void *ctx)
{
	if (!current_is_kthread())
		begin_stall(WIRE_STALL_COMPACTION);
	return 0;
}

SEC("tp_btf/mm_compaction_end")
int stall_compaction_end(void *ctx)
{
	end_stall(WIRE_STALL_COMPACTION, 0, false);
	return 0;
}

/* (nid, usec_timeout, usec_delayed, reason), after the sleep */
SEC("tp_btf/mm_vmscan_throttled")
int stall_throttled(__u64 *ctx)
{
	if (!current_is_kthread())
		count_stall(WIRE_STALL_THROTTLE, (__u64)(__u32)ctx[2] * 1000, 0, false);
	return 0;
}

SEC("tp_btf/mm_vmscan_kswapd_wake")
int stall_kswapd_wake(__u64 *ctx)
{
	on_kswapd_wake(ctx[0]);
	return 0;
}

SEC("tp_btf/mm_vmscan_kswapd_sleep")
int stall_kswapd_sleep(__u64 *ctx)
{
	on_kswapd_sleep(ctx[0]);
	return 0;
}

SEC("tp_btf/reclaim_retry_zone")
int retry_reclaim(__u64 *ctx)
{
	on_reclaim_retry(ctx);
	return 0;
}

SEC("tp_btf/compact_retry")
int retry_compact(__u64 *ctx)
{
	on_compact_retry(ctx);
	return 0;
}

/* The current task is the trigger. Attached before mark_victim, whose record wakes user space. */
SEC("tp_btf/mark_victim")
int gave_up(void *ctx)
{
	send_gave_up();
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
	end_stall(WIRE_STALL_MEMORY_HIGH, 0, false);
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
	end_stall(WIRE_STALL_MEMORY_HIGH, 0, false);
	return 0;
}
