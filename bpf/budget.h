/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What records that users can cause take of the urgent ring. Each kind has a quota of
 * it, and leaves the rest to the OOM killer, whose records have no limit. Each tenant
 * has a budget in that quota, so that one cannot take it from the others.
 */
#ifndef OOMTRACE_BUDGET_H
#define OOMTRACE_BUDGET_H

#include "compat.h"
#include "kernel.h"
#include "rings.h"
#include "wire.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

/* Bytes of the ring that may be in use for a record of that kind to be sent. */
enum quota {
	QUOTA_CGROUPS = URGENT_BYTES / 4, /* user space can read again what is lost of these */
	QUOTA_LIMIT_WRITES = URGENT_BYTES / 8 * 3,
	QUOTA_USER_KILLS = URGENT_BYTES / 2,
};

/*
 * A tenant may use half of a quota at once, and an eighth of it each second: less
 * than the quota while the reader pauses for 3 seconds, as on a node that is out of
 * memory.
 */
#define BUDGET_FILLS_IN_NS (4 * NSEC_PER_SEC)
#define BUDGET_NS_PER_QUOTA (8 * NSEC_PER_SEC)

/* Root has budgets of its own: users may be in the same cgroup, and not only with cgroup v1. */
struct budget_key {
	__u64 tenant; /* cgroup ID */
	enum quota quota;
	__u32 root;
};

/* The time until which a tenant's records are paid for, CLOCK_BOOTTIME. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct budget_key);
	__type(value, __u64);
} budgets SEC(".maps");

/* Records over a budget, by enum wire_kind; mapped like lost. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, WIRE_KIND_COUNT);
	__type(key, __u32);
	__type(value, struct wire_throttled);
} throttled SEC(".maps");

/*
 * The ID of the nearest cgroup, from this one upwards, that belongs to root. Whoever
 * was given a cgroup can make any number of others below it, but none of root's. 0
 * stands for all that lie deeper than anyone needs.
 */
static __always_inline __u64 tenant_of(struct cgroup *cgroup)
{
	for (int i = 0; i < WIRE_MEMCGS; i++) {
		if (!cgroup || cgroup_owner(cgroup) == 0)
			return BPF_CORE_READ(cgroup, kn, id);
		cgroup = BPF_CORE_READ(cgroup, self.parent, cgroup);
	}
	return 0;
}

static __always_inline void count_throttled(enum wire_kind kind, __u64 tenant)
{
	__u32 key = kind;
	struct wire_throttled *count = bpf_map_lookup_elem(&throttled, &key);

	if (!count)
		return;

	__sync_fetch_and_add(&count->count, 1);
	count->tenant = tenant;
}

/*
 * Whether a record may be sent; if not, it has been counted. A tenant with records on
 * several CPUs at the same time may exceed its budget by one record for each.
 */
static __always_inline bool may_send(enum wire_kind kind, enum quota quota, __u64 tenant, __u64 bytes)
{
	__u64 now = bpf_ktime_get_boot_ns(), cost = bytes * BUDGET_NS_PER_QUOTA / quota, *paid_until;
	struct budget_key key = { .tenant = tenant, .quota = quota, .root = !(__u32)bpf_get_current_uid_gid() };

	if (bpf_ringbuf_query(&urgent, BPF_RB_AVAIL_DATA) > quota) {
		count_lost(kind);
		return false;
	}

	paid_until = bpf_map_lookup_elem(&budgets, &key);
	if (!paid_until) {
		__u64 first = now + cost;

		if (bpf_map_update_elem(&budgets, &key, &first, BPF_ANY))
			count_lost(WIRE_KIND_STATE);
		return true;
	}

	if (*paid_until < now)
		*paid_until = now;
	if (*paid_until + cost > now + BUDGET_FILLS_IN_NS) {
		count_throttled(kind, tenant);
		return false;
	}
	__sync_fetch_and_add(paid_until, cost);
	return true;
}

#endif
