/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* When kswapd was awake. Each NUMA node has one kswapd: it alone writes the node's value. */
#ifndef OOMTRACE_KSWAPD_H
#define OOMTRACE_KSWAPD_H

#include "kernel.h"
#include "stall.h"
#include "wire.h"
#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32); /* NUMA node */
	__type(value, struct wire_kswapd);
} kswapd SEC(".maps");

static __always_inline void on_kswapd_wake(__u32 node)
{
	struct wire_kswapd fresh = {}, *k;

	bpf_map_update_elem(&kswapd, &node, &fresh, BPF_NOEXIST);
	k = bpf_map_lookup_elem(&kswapd, &node);
	if (!k)
		return;

	k->wakeups++;
	if (!k->awake_since_ns)
		k->awake_since_ns = bpf_ktime_get_boot_ns();
	show_activity();
}

static __always_inline void on_kswapd_sleep(__u32 node)
{
	struct wire_kswapd *k = bpf_map_lookup_elem(&kswapd, &node);

	if (!k || !k->awake_since_ns)
		return;

	k->awake_ns += bpf_ktime_get_boot_ns() - k->awake_since_ns;
	k->awake_since_ns = 0;
	show_activity();
}

#endif
