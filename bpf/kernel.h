/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The fields of the kernel's structures that are read. Only names matter: offsets
 * are relocated against the BTF of the running kernel when a program is loaded.
 * Differences between kernels are in compat.h.
 */
#ifndef OOMTRACE_KERNEL_H
#define OOMTRACE_KERNEL_H

#include <linux/bpf.h>

typedef _Bool bool;
enum { false, true };

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

typedef struct {
	int counter;
} atomic_t;

typedef struct {
	__s64 counter;
} atomic64_t;

typedef atomic64_t atomic_long_t;

typedef struct {
	unsigned int val;
} kuid_t;

/* fs/kernfs/kernfs-internal.h */
struct kernfs_iattrs {
	kuid_t ia_uid;
};

struct kernfs_node {
	__u64 id;
	const char *name;
	void *priv;
	struct kernfs_iattrs *iattr;
};

struct kernfs_open_file {
	struct kernfs_node *kn;
};

struct cgroup_root {
	int hierarchy_id;
};

struct cgroup;

struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent;
};

struct cgroup {
	struct cgroup_subsys_state self;
	struct cgroup_subsys_state *subsys[1];
	int level;
	struct kernfs_node *kn;
	struct cgroup_root *root;
};

enum cgroup_subsys_id {
	memory_cgrp_id = 4,
};

struct css_set {
	struct cgroup_subsys_state *subsys[1];
	struct cgroup *dfl_cgrp;
};

struct page_counter {
	atomic_long_t usage;
	unsigned long high;
	unsigned long max;
	unsigned long watermark;
	unsigned long min;
	unsigned long low;
	atomic_long_t children_min_usage;
	atomic_long_t children_low_usage;
};

enum memcg_memory_event {
	MEMCG_OOM_KILL = 4,
};

struct mem_cgroup {
	struct cgroup_subsys_state css;
	struct page_counter memory;
	struct page_counter swap; /* v1: memory and swap */
	bool oom_group;
	atomic_long_t memory_events[1];
};

struct cred {
	kuid_t uid;
};

struct pid_namespace;

struct upid {
	int nr;
	struct pid_namespace *ns;
};

struct pid {
	unsigned int level;
	struct upid numbers[1];
};

struct signal_struct {
	atomic_t live;
	unsigned int flags;
	short oom_score_adj;
};

struct qstr {
	const unsigned char *name;
};

struct dentry {
	struct qstr d_name;
};

struct path {
	struct dentry *dentry;
};

struct file {
	struct path f_path;
};

struct mm_struct {
	struct file *exe_file;
	unsigned long total_vm;
	atomic_long_t pgtables_bytes;
};

typedef struct {
	unsigned long bits[1];
} nodemask_t;

struct reclaim_state {
};

/* What a reclaim is for; on the stack of the task that reclaims (mm/vmscan.c). */
struct scan_control {
	nodemask_t *nodemask;
	struct mem_cgroup *target_mem_cgroup;
	unsigned int gfp_mask;
	struct reclaim_state reclaim_state;
};

struct task_struct {
	unsigned int flags;
	int pid;
	int tgid;
	char comm[16];
	struct mm_struct *mm;
	struct task_struct *group_leader;
	struct task_struct *real_parent;
	struct signal_struct *signal;
	const struct cred *real_cred;
	struct css_set *cgroups;
	struct pid *thread_pid;
	__u64 start_boottime;
	nodemask_t mems_allowed;
	unsigned int memcg_nr_pages_over_high;
	struct reclaim_state *reclaim_state;
	kuid_t loginuid;
	unsigned int sessionid;
};

struct zone {
	int node;
	const char *name;
};

struct zoneref {
	struct zone *zone;
};

struct kernel_siginfo {
	int si_code;
};

enum oom_constraint {
	CONSTRAINT_NONE,
	CONSTRAINT_CPUSET,
	CONSTRAINT_MEMORY_POLICY,
	CONSTRAINT_MEMCG,
};

struct oom_control {
	nodemask_t *nodemask;
	struct mem_cgroup *memcg;
	unsigned int gfp_mask;
	int order;
	unsigned long totalpages;
	struct task_struct *chosen;
	long chosen_points;
	enum oom_constraint constraint;
};

enum node_stat_item {
	NR_INACTIVE_ANON = 0,
	NR_ANON_MAPPED = 17,
	NR_FILE_PAGES = 19,
	NR_SHMEM = 22,
	NR_SLAB_RECLAIMABLE_B = 5,
	NR_SLAB_UNRECLAIMABLE_B = 6,
	NR_KERNEL_STACK_KB = 36,
	NR_INACTIVE_FILE = 2,
	NR_ACTIVE_FILE = 3,
	NR_UNEVICTABLE = 4,
	NR_FILE_DIRTY = 20,
	NR_WRITEBACK = 21,
	NR_ANON_THPS = 28,
	NR_SWAPCACHE = 41, /* since 5.12, with CONFIG_SWAP */
	NR_HUGETLB = 48,   /* not in 6.12, in 6.18 */
	NR_PAGETABLE = 37, /* a zone_stat_item before 5.11: not charged to memcgs */
};

enum memcg_stat_item {
	MEMCG_SOCK = 51,
	MEMCG_PERCPU_B = 49, /* since 5.9 */
	MEMCG_NR_STAT = 60,
};

#pragma clang attribute pop

/* include/linux/mm_types_task.h: an anonymous enum; the same since 4.5 (eca56ff906bd) */
#define MM_FILEPAGES 0
#define MM_ANONPAGES 1
#define MM_SWAPENTS 2
#define MM_SHMEMPAGES 3
/* include/vdso/time64.h */
#define NSEC_PER_SEC 1000000000ull
/* include/linux/sched.h */
#define PF_KTHREAD 0x00200000
#define PF_EXITING 0x00000004
/* include/linux/gfp_types.h: the same from 5.10 to 7.x */
#define ___GFP_HARDWALL 0x100000
/* include/uapi/asm-generic/signal.h */
#define SIGKILL 9
#define SIGTERM 15
/* include/linux/sched/signal.h */
#define SIGNAL_GROUP_EXIT 0x4
/* include/linux/sched/signal.h: the siginfo "pointers" of the kernel's own signals */
#define SEND_SIG_PRIV ((void *)1)
#define SEND_SIG_NOINFO ((void *)0)
/* include/uapi/asm-generic/siginfo.h */
#define SI_USER 0
#define SI_KERNEL 0x80
/* include/trace/events/signal.h */
#define TRACE_SIGNAL_IGNORED 1
#define TRACE_SIGNAL_ALREADY_PENDING 2

/* The registers that a kprobe gets, and the calling convention. */
#if defined(__TARGET_ARCH_x86)
struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8;
	unsigned long ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
};
#define PARAMETER_1(registers) ((registers)->di)
#define PARAMETER_2(registers) ((registers)->si)
#define RETURN_VALUE(registers) ((registers)->ax)
#elif defined(__TARGET_ARCH_arm64)
struct pt_regs {
	unsigned long regs[31], sp, pc, pstate;
};
#define PARAMETER_1(registers) ((registers)->regs[0])
#define PARAMETER_2(registers) ((registers)->regs[1])
#define RETURN_VALUE(registers) ((registers)->regs[0])
#else
#error "add the calling convention of this architecture"
#endif

#endif
