/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Who wrote a limit. A write that need not wait (O_NONBLOCK, 7.x) neither reclaims nor
 * kills: the kill comes with a later charge, by another task.
 */
#ifndef OOMTRACE_LIMIT_WRITE_H
#define OOMTRACE_LIMIT_WRITE_H

#include "budget.h"
#include "compat.h"
#include "kernel.h"
#include "memcg.h"
#include "rings.h"
#include "task.h"
#include "wire.h"
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

/* The memcg of a cgroup whose file is written, found as the kernel does (kernel/cgroup/cgroup.c: of_css). */
static __always_inline struct mem_cgroup *written_memcg(struct cgroup *cgroup)
{
	struct cgroup_subsys_state *css = 0;

	bpf_probe_read_kernel(&css, sizeof(css), (void *)cgroup + bpf_core_field_offset(struct cgroup, subsys) +
			      bpf_core_enum_value(enum cgroup_subsys_id, memory_cgrp_id) * sizeof(void *));
	return css_memcg(css);
}

/*
 * At the entry: the limit is still the old one, and the text is not yet parsed. It may be
 * refused; user space compares it with the limit at a kill. The budget is that of the
 * cgroup, as for its changes: who may write its limits can do so in a loop.
 */
static __always_inline void on_limit_write(struct kernfs_open_file *of, const char *text)
{
	struct kernfs_node *file = BPF_CORE_READ(of, kn);
	struct cgroup *cgroup = BPF_CORE_READ(kernfs_parent(file), priv);
	struct mem_cgroup *memcg = written_memcg(cgroup);
	struct wire_limit_write *r;

	if (!memcg || !may_send(WIRE_KIND_LIMIT_WRITE, QUOTA_LIMIT_WRITES, tenant_of(cgroup), sizeof(*r)))
		return;

	r = bpf_ringbuf_reserve(&urgent, sizeof(*r), 0);
	if (!r) {
		count_lost(WIRE_KIND_LIMIT_WRITE);
		return;
	}

	fill_header(&r->h, WIRE_KIND_LIMIT_WRITE, 0);
	fill_memcg(&r->memcg, memcg);
	__builtin_memset(r->file, 0, sizeof(r->file));
	__builtin_memset(r->text, 0, sizeof(r->text));
	bpf_probe_read_kernel_str(r->file, sizeof(r->file), BPF_CORE_READ(file, name));
	bpf_probe_read_kernel_str(r->text, sizeof(r->text), text);

	/* A kill that follows wakes user space. */
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
}

#endif
