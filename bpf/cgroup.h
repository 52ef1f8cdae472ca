/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Cgroups that are created, removed and renamed. */
#ifndef OOMTRACE_CGROUP_H
#define OOMTRACE_CGROUP_H

#include "budget.h"
#include "kernel.h"
#include "rings.h"
#include "task.h"
#include "wire.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

/*
 * Where a record is made: its size is only known when its path has been read. The
 * kernel holds a spinlock around these events (kernel/cgroup/cgroup-internal.h:
 * TRACE_CGROUP_PATH), so one run of a program never interrupts another.
 */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct wire_cgroup_change);
} cgroup_change_scratch SEC(".maps");

/*
 * The budget is that of the cgroup in which something is made, removed or renamed,
 * and not of whoever does it: systemd and runtimes do it on behalf of all.
 */
static __always_inline void on_cgroup(struct cgroup *cgroup, const char *path, enum wire_cgroup_op op)
{
	__u32 hierarchy = BPF_CORE_READ(cgroup, root, hierarchy_id), zero = 0;
	struct wire_cgroup_change *r;
	__u64 tenant, bytes;
	long length;

	if (hierarchy != memory_hierarchy)
		return;

	r = bpf_map_lookup_elem(&cgroup_change_scratch, &zero);
	if (!r)
		return;

	length = bpf_probe_read_kernel_str(r->path, sizeof(r->path), path);
	if (length < 0 || length > (long)sizeof(r->path))
		length = 0;
	bytes = sizeof(*r) - sizeof(r->path) + length;

	tenant = tenant_of(BPF_CORE_READ(cgroup, self.parent, cgroup));
	if (!may_send(WIRE_KIND_CGROUP_CHANGE, QUOTA_CGROUPS, tenant, bytes))
		return;

	fill_header(&r->h, WIRE_KIND_CGROUP_CHANGE, 0);
	r->cgroup_id = BPF_CORE_READ(cgroup, kn, id);
	r->hierarchy = hierarchy;
	r->op = op;

	/* Before 6.8 the verifier forgets the bounds of a spilled variable, and clang that it needs them. */
	barrier_var(bytes);
	if (bytes > sizeof(*r))
		return;
	if (bpf_ringbuf_output(&urgent, r, bytes, BPF_RB_FORCE_WAKEUP))
		count_lost(WIRE_KIND_CGROUP_CHANGE);
}

#endif
