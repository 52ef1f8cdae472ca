/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Why the allocator gave up: the kernel's last decisions on another round of reclaim
 * and of compaction (mm/page_alloc.c), kept by thread and sent when it marks a victim.
 */
#ifndef OOMTRACE_GAVE_UP_H
#define OOMTRACE_GAVE_UP_H

#include "compat.h"
#include "kernel.h"
#include "rings.h"
#include "task.h"
#include "wire.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

/* See struct wire_gave_up. */
struct retries {
	__u64 reclaim_ns;
	__u64 compact_ns;
	__u64 reclaimable, available, min_watermark;
	struct zoneref *zoneref;
	__u32 no_progress_loops, order, watermark_ok;
	__u32 compact_order, compact_priority, compact_result, compact_retries, compact_max_retries, compact_again;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 512);
	__type(key, __u32); /* tid */
	__type(value, struct retries);
} retries SEC(".maps");

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

/* reclaim_retry_zone: zoneref, order, reclaimable, available, min_wmark, no_progress_loops, wmark_check */
static __always_inline void on_reclaim_retry(__u64 *arguments)
{
	struct retries *r = task_retries();

	if (!r)
		return;

	r->reclaim_ns = bpf_ktime_get_boot_ns();
	r->zoneref = (void *)arguments[0];
	r->order = arguments[1];
	r->reclaimable = arguments[2];
	r->available = arguments[3];
	r->min_watermark = arguments[4];
	r->no_progress_loops = arguments[5];
	r->watermark_ok = (__u8)arguments[6];
}

/* compact_retry: order, priority, result, retries, max_retries, again */
static __always_inline void on_compact_retry(__u64 *arguments)
{
	struct retries *r = task_retries();

	if (!r)
		return;

	r->compact_ns = bpf_ktime_get_boot_ns();
	r->compact_order = arguments[0];
	r->compact_priority = arguments[1];
	r->compact_result = arguments[2];
	r->compact_retries = arguments[3];
	r->compact_max_retries = arguments[4];
	r->compact_again = (__u8)arguments[5];
}

static __always_inline void send_gave_up(void)
{
	__u32 tid = current_tid();
	struct retries *r = bpf_map_lookup_elem(&retries, &tid);
	struct wire_gave_up *w;
	struct zoneref *zoneref;
	struct zone *zone;

	if (!r)
		return;

	w = bpf_ringbuf_reserve(&urgent, sizeof(*w), 0);
	if (!w) {
		count_lost(WIRE_KIND_GAVE_UP);
		return;
	}

	fill_header(&w->h, WIRE_KIND_GAVE_UP, 0);
	w->reclaim_ns = r->reclaim_ns;
	w->reclaimable_pages = r->reclaimable;
	w->available_pages = r->available;
	w->min_watermark_pages = r->min_watermark;
	zoneref = r->zoneref; /* not in one expression: struct retries must not be relocated */
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

	/* The record of the mark follows at once, and wakes user space. */
	bpf_ringbuf_submit(w, BPF_RB_NO_WAKEUP);
	bpf_map_delete_elem(&retries, &tid);
}

#endif
