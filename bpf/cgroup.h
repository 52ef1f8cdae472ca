/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Cgroups that are created, removed and renamed. */
#ifndef OOMTRACE_CGROUP_H
#define OOMTRACE_CGROUP_H

#include "kernel.h"
#include "rings.h"
#include "task.h"
#include "wire.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

static __always_inline void on_cgroup(struct cgroup *cgroup, const char *path, enum wire_cgroup_op op)
{
	__u32 hierarchy = BPF_CORE_READ(cgroup, root, hierarchy_id);
	struct wire_cgroup_change_long *l;
	struct wire_cgroup_change *r;

	if (hierarchy != memory_hierarchy)
		return;

	r = bpf_ringbuf_reserve(&urgent, sizeof(*r), 0);
	if (!r) {
		count_lost(WIRE_KIND_CGROUP_CHANGE);
		return;
	}

	r->path[0] = 0;
	if (bpf_probe_read_kernel_str(r->path, sizeof(r->path), path) < (long)sizeof(r->path)) {
		fill_header(&r->h, WIRE_KIND_CGROUP_CHANGE, 0);
		r->cgroup_id = BPF_CORE_READ(cgroup, kn, id);
		r->hierarchy = hierarchy;
		r->op = op;
		bpf_ringbuf_submit(r, BPF_RB_FORCE_WAKEUP);
		return;
	}

	/* The path may have been truncated: once more, with more room. */
	bpf_ringbuf_discard(r, BPF_RB_NO_WAKEUP);
	l = bpf_ringbuf_reserve(&urgent, sizeof(*l), 0);
	if (!l) {
		count_lost(WIRE_KIND_CGROUP_CHANGE);
		return;
	}

	l->path[0] = 0;
	bpf_probe_read_kernel_str(l->path, sizeof(l->path), path);
	fill_header(&l->h, WIRE_KIND_CGROUP_CHANGE, 0);
	l->cgroup_id = BPF_CORE_READ(cgroup, kn, id);
	l->hierarchy = hierarchy;
	l->op = op;
	bpf_ringbuf_submit(l, BPF_RB_FORCE_WAKEUP);
}

#endif
