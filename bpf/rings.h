/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The two ring buffers, and the counts of lost records. User space gives all
 * objects the same maps.
 */
#ifndef OOMTRACE_RINGS_H
#define OOMTRACE_RINGS_H

#include "kernel.h"
#include "wire.h"
#include <bpf/bpf_helpers.h>

/*
 * urgent wakes user space on records that complete an OOM (mark_victim, the return
 * of out_of_memory), on other SIGKILLs, and on changes of cgroups. The records
 * before them are submitted without a wakeup and read together with them.
 */
#define URGENT_BYTES (1 << 21)

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, URGENT_BYTES);
} urgent SEC(".maps");

/*
 * bulk never wakes user space, which drains it on a deadline. Half of it holds
 * about 8000 stalls: what 80 000 a second leave between two readings.
 */
#define BULK_BYTES (1 << 21)

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, BULK_BYTES);
} bulk SEC(".maps");

/*
 * Records that found their ring, or their map, full; by enum wire_kind. User space
 * maps it into its memory: while a bpf() call holds a map, kprobe programs do not
 * run on that CPU (kernel/bpf/syscall.c: bpf_disable_instrumentation).
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, WIRE_KIND_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} lost SEC(".maps");

/* The size of a record, of the type that r points to, with room for so many memcgs at its end. */
#define size_with_memcgs(r, count) (__builtin_offsetof(typeof(*(r)), memcgs) + (count) * sizeof((r)->memcgs[0]))

/*
 * Reserves such a record of the urgent ring, with room for few memcgs or for WIRE_MEMCGS,
 * and sets room to how many. The verifier accepts only a constant size, so each has a
 * branch of its own.
 */
#define reserve_with_memcgs(r, few, room)                                                          \
	do {                                                                                       \
		if (few) {                                                                         \
			(room) = WIRE_FEW_MEMCGS;                                                  \
			(r) = bpf_ringbuf_reserve(&urgent, size_with_memcgs(r, WIRE_FEW_MEMCGS), 0); \
		} else {                                                                           \
			(room) = WIRE_MEMCGS;                                                      \
			(r) = bpf_ringbuf_reserve(&urgent, sizeof(*(r)), 0);                       \
		}                                                                                  \
	} while (0)

static __always_inline void count_lost(enum wire_kind kind)
{
	__u32 key = kind;
	__u64 *count = bpf_map_lookup_elem(&lost, &key);

	if (count)
		__sync_fetch_and_add(count, 1);
}

#endif
