/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Memory cgroups: limits, counters, ancestors. */
#ifndef OOMTRACE_MEMCG_H
#define OOMTRACE_MEMCG_H

#include "compat.h"
#include "kernel.h"
#include "wire.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

static __always_inline struct mem_cgroup *css_memcg(struct cgroup_subsys_state *css)
{
	if (!css)
		return 0;

	return (void *)css - bpf_core_field_offset(struct mem_cgroup, css);
}

static __always_inline struct mem_cgroup *memcg_parent(struct mem_cgroup *memcg)
{
	return css_memcg(BPF_CORE_READ(memcg, css.parent));
}

/*
 * Whether all memcgs from this one to the root fit into a record of WIRE_FEW_MEMCGS. One
 * of WIRE_MEMCGS takes 6 KiB of the ring, which in a burst must hold all kills until
 * user space gets to run.
 */
static __always_inline bool has_few_levels(struct mem_cgroup *memcg)
{
	return !memcg || cgroup_level(BPF_CORE_READ(memcg, css.cgroup)) + 1 <= WIRE_FEW_MEMCGS; /* the root's is 0 */
}

static __always_inline void fill_counter(struct wire_counter *out, struct page_counter *counter)
{
	out->usage = BPF_CORE_READ(counter, usage.counter);
	out->max = BPF_CORE_READ(counter, max);
	out->high = BPF_CORE_READ(counter, high);
	out->watermark = BPF_CORE_READ(counter, watermark);
}

/* Reclaim for a limit honours what protects the memcgs below the limiter (mm/memcontrol.c). */
static __always_inline bool fill_protection(struct wire_protection *out, struct page_counter *counter)
{
	out->min = 0;
	out->low = 0;
	out->children_min = 0;
	out->children_low = 0;
	if (!bpf_core_field_exists(counter->children_min_usage))
		return false;

	out->min = BPF_CORE_READ(counter, min);
	out->low = BPF_CORE_READ(counter, low);
	out->children_min = BPF_CORE_READ(counter, children_min_usage.counter);
	out->children_low = BPF_CORE_READ(counter, children_low_usage.counter);

	return true;
}

static __always_inline void fill_memcg(struct wire_memcg *out, struct mem_cgroup *memcg)
{
	struct cgroup *cgroup = BPF_CORE_READ(memcg, css.cgroup);
	const char *name = BPF_CORE_READ(cgroup, kn, name);
	long length;

	out->cgroup_id = BPF_CORE_READ(cgroup, kn, id);
	out->hierarchy = BPF_CORE_READ(cgroup, root, hierarchy_id);
	out->flags = WIRE_MEMCG_MEMORY;
	fill_counter(&out->memory, (void *)__builtin_preserve_access_index(&memcg->memory));
	if (bpf_core_field_exists(memcg->swap)) {
		fill_counter(&out->swap, (void *)__builtin_preserve_access_index(&memcg->swap));
		out->flags |= WIRE_MEMCG_SWAP;
	}

	if (fill_protection(&out->protection, (void *)__builtin_preserve_access_index(&memcg->memory)))
		out->flags |= WIRE_MEMCG_PROTECTION;

	if (bpf_core_field_exists(memcg->oom_group)) {
		out->flags |= WIRE_MEMCG_OOM_GROUP_KNOWN;
		if (BPF_CORE_READ(memcg, oom_group))
			out->flags |= WIRE_MEMCG_OOM_GROUP;
	}

	out->oom_kill = 0;
	if (memcg_oom_kill(memcg, &out->oom_kill))
		out->flags |= WIRE_MEMCG_OOM_KILL;

	out->name[0] = 0;
	length = bpf_probe_read_kernel_str(out->name, sizeof(out->name), name);
	if (length >= (long)sizeof(out->name))
		out->flags |= WIRE_MEMCG_NAME_CUT;
}

static __always_inline void charge_item(struct wire_memcg_charge *out, struct mem_cgroup *memcg,
					enum wire_charge_item place, int item)
{
	long value = memcg_counter((__u64)memcg, item);

	if (value >= 0)
		out->known |= 1 << place;
	out->items[place] = value < 0 ? 0 : value;
}

static __always_inline void fill_memcg_charge(struct wire_memcg_charge *out, struct mem_cgroup *memcg)
{
	struct cgroup *cgroup = BPF_CORE_READ(memcg, css.cgroup);

	out->cgroup_id = BPF_CORE_READ(cgroup, kn, id);
	out->hierarchy = BPF_CORE_READ(cgroup, root, hierarchy_id);
	out->known = 0;
	charge_item(out, memcg, WIRE_CHARGE_ANON, bpf_core_enum_value(enum node_stat_item, NR_ANON_MAPPED));
	charge_item(out, memcg, WIRE_CHARGE_FILE, bpf_core_enum_value(enum node_stat_item, NR_FILE_PAGES));
	charge_item(out, memcg, WIRE_CHARGE_SHMEM, bpf_core_enum_value(enum node_stat_item, NR_SHMEM));
	charge_item(out, memcg, WIRE_CHARGE_SLAB_RECLAIMABLE,
		    bpf_core_enum_value(enum node_stat_item, NR_SLAB_RECLAIMABLE_B));
	charge_item(out, memcg, WIRE_CHARGE_SLAB_UNRECLAIMABLE,
		    bpf_core_enum_value(enum node_stat_item, NR_SLAB_UNRECLAIMABLE_B));
	charge_item(out, memcg, WIRE_CHARGE_KERNEL_STACK, bpf_core_enum_value(enum node_stat_item, NR_KERNEL_STACK_KB));
	charge_item(out, memcg, WIRE_CHARGE_SOCK, bpf_core_enum_value(enum memcg_stat_item, MEMCG_SOCK));
	charge_item(out, memcg, WIRE_CHARGE_FILE_DIRTY, bpf_core_enum_value(enum node_stat_item, NR_FILE_DIRTY));
	charge_item(out, memcg, WIRE_CHARGE_WRITEBACK, bpf_core_enum_value(enum node_stat_item, NR_WRITEBACK));
	charge_item(out, memcg, WIRE_CHARGE_ACTIVE_FILE, bpf_core_enum_value(enum node_stat_item, NR_ACTIVE_FILE));
	charge_item(out, memcg, WIRE_CHARGE_INACTIVE_FILE, bpf_core_enum_value(enum node_stat_item, NR_INACTIVE_FILE));
	charge_item(out, memcg, WIRE_CHARGE_UNEVICTABLE, bpf_core_enum_value(enum node_stat_item, NR_UNEVICTABLE));

	/* Not every kernel keeps these. */
	out->items[WIRE_CHARGE_PAGETABLES] = 0;
	out->items[WIRE_CHARGE_ANON_THP] = 0;
	out->items[WIRE_CHARGE_ANON_HUGEPAGES] = 0;
	out->items[WIRE_CHARGE_PERCPU] = 0;
	out->items[WIRE_CHARGE_HUGETLB] = 0;
	if (has_pagetables())
		charge_item(out, memcg, WIRE_CHARGE_PAGETABLES, bpf_core_enum_value(enum node_stat_item, NR_PAGETABLE));
	if (thp_in_pages())
		charge_item(out, memcg, WIRE_CHARGE_ANON_THP, bpf_core_enum_value(enum node_stat_item, NR_ANON_THPS));
	else if (thp_in_huge_pages())
		charge_item(out, memcg, WIRE_CHARGE_ANON_HUGEPAGES,
			    bpf_core_enum_value(enum node_stat_item, NR_ANON_THPS));
	if (has_percpu_charge())
		charge_item(out, memcg, WIRE_CHARGE_PERCPU, bpf_core_enum_value(enum memcg_stat_item, MEMCG_PERCPU_B));
	if (has_hugetlb_charge())
		charge_item(out, memcg, WIRE_CHARGE_HUGETLB, bpf_core_enum_value(enum node_stat_item, NR_HUGETLB));
}

#endif
