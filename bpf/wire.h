/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The records that go through the ring buffers to user space. bpf2go makes Go
 * types of them; internal/probe turns those into events. Natural alignment, no
 * implicit padding, every byte of a sent record is written.
 */
#ifndef OOMTRACE_WIRE_H
#define OOMTRACE_WIRE_H

enum wire_kind {
	WIRE_DECISION = 1,
	WIRE_CHARGE,
	WIRE_KILL,
	WIRE_MARK,
	WIRE_PASS,
	WIRE_EXIT,
	WIRE_RELEASED,
	WIRE_CGROUP,
	WIRE_STATE, /* never sent: what a full hash map made us forget */
	WIRE_STALL,
	WIRE_STALL_STATE, /* never sent: stalls of cgroups beyond those that fit */
	WIRE_GAVE_UP,
	WIRE_USER_KILL,
	WIRE_LADDER,
	WIRE_KINDS,
};

enum {
	WIRE_COMM = 16,	      /* TASK_COMM_LEN */
	WIRE_LEVELS = 24,     /* memcgs of a chain, leaf first */
	WIRE_NAME = 128,      /* of a cgroup's directory; NAME_MAX is 255 */
	WIRE_PATH_SHORT = 256,
	WIRE_PATH_LONG = 1024, /* TRACE_CGROUP_PATH_LEN: the kernel cuts there */
	WIRE_FRAMES = 24,
	WIRE_EXE = 32,	      /* the last name of an executable's path */
	WIRE_ANCESTORS = 8,   /* of a sender, the nearest first */
	WIRE_NODE_WORDS = 16, /* 1024 NUMA nodes, the most a kernel can have */
};

/* wire_task.flags */
enum wire_task_flag {
	WIRE_TASK_KTHREAD = 1 << 0,
};

struct wire_task {
	__u32 tgid;
	__u32 tid;
	char comm[WIRE_COMM];
	char leader_comm[WIRE_COMM];
	__u32 flags;
	__u32 hierarchy;
	__u64 cgroup_id; /* 0: not known */
};

struct wire_header {
	__u32 kind;
	__u32 cpu;
	__u64 boot_ns;
	__u64 pass;
	struct wire_task current_task;
};

struct wire_counter { /* pages */
	__u64 usage;
	__u64 max;
	__u64 high;
	__u64 watermark;
};

/* wire_level.flags */
enum wire_level_flag {
	WIRE_LEVEL_OOM_GROUP = 1 << 0,
	WIRE_LEVEL_NAME_CUT = 1 << 1,
	WIRE_LEVEL_MEMORY = 1 << 2, /* memory is valid */
	WIRE_LEVEL_SWAP = 1 << 3,   /* swap is valid */
	WIRE_LEVEL_EVENTS = 1 << 4, /* oom_local and oom_kill are valid */
	WIRE_LEVEL_GROUP_KNOWN = 1 << 5,
};

struct wire_level {
	__u64 cgroup_id;
	__u32 hierarchy;
	__u32 flags;
	struct wire_counter memory;
	struct wire_counter swap;
	__u64 oom_local;
	__u64 oom_kill;
	char name[WIRE_NAME];
};

/* wire_decision.limiter, where it is not a place in levels[] */
enum wire_limiter {
	WIRE_LIMITER_NODE = -1,
	WIRE_LIMITER_UNKNOWN = -2,
};

/* wire_decision.flags */
enum wire_decision_flag {
	WIRE_DECISION_CUT = 1 << 0,   /* the chain does not reach the root */
	WIRE_DECISION_ALLOC = 1 << 1, /* read from oom_control */
	WIRE_DECISION_NODES = 1 << 2, /* nodes is valid */
};

enum wire_tier {
	WIRE_TIER_TRACEPOINT,
	WIRE_TIER_FENTRY,
	WIRE_TIER_KPROBE,
};

enum wire_reclaim {
	WIRE_RECLAIM_NONE,
	WIRE_RECLAIM_MEMCG,
	WIRE_RECLAIM_GLOBAL,
};

struct wire_decision {
	struct wire_header h;
	struct wire_task victim;
	__u32 tier;
	__u32 flags;
	__u32 constraint;
	__s32 order;
	__u32 gfp;
	__s32 limiter;
	__u64 total_pages;
	__s64 points;
	__u64 nodes[WIRE_NODE_WORDS];
	__u64 stack[WIRE_FRAMES];
	__u32 frames;
	__u32 last_reclaim;
	__u32 level_count;
	__u32 pad;
	struct wire_level levels[WIRE_LEVELS];
};

enum wire_charge_item {
	WIRE_ANON,
	WIRE_FILE,
	WIRE_SHMEM,
	WIRE_SLAB_RECLAIMABLE,
	WIRE_SLAB_UNRECLAIMABLE,
	WIRE_KERNEL_STACK,
	WIRE_PAGETABLES,
	WIRE_SOCK,
	WIRE_FILE_DIRTY,
	WIRE_WRITEBACK,
	WIRE_ACTIVE_FILE,
	WIRE_INACTIVE_FILE,
	WIRE_UNEVICTABLE,
	WIRE_ANON_THP,	     /* either this, */
	WIRE_ANON_HUGEPAGES, /* or this: in huge pages */
	WIRE_PERCPU,
	WIRE_ITEMS,
};

struct wire_charge_level {
	__u64 cgroup_id;
	__u32 hierarchy;
	__u32 known;		 /* bit per item */
	__s64 items[WIRE_ITEMS]; /* in the kernel's unit: bytes of slab and percpu, KiB of stack, else pages */
};

struct wire_charge {
	struct wire_header h;
	__u32 level_count;
	__u32 pad;
	struct wire_charge_level levels[WIRE_LEVELS];
};

/* wire_kill.flags */
enum wire_kill_flag {
	WIRE_KILL_FROM_KERNEL = 1 << 0,
	WIRE_KILL_SHARES_MM = 1 << 1,
	WIRE_KILL_GROUP = 1 << 2,
	WIRE_KILL_MEMORY = 1 << 3,	   /* the page counts are valid */
	WIRE_KILL_CONTAINER_INIT = 1 << 4,
};

struct wire_kill {
	struct wire_header h;
	struct wire_task target;
	__u32 flags;
	__s32 code;
	__s32 result;
	__u32 uid;
	__s64 anon_pages;
	__s64 file_pages;
	__s64 shmem_pages;
	__s64 swap_pages;
	__u64 total_vm_pages;
	__u64 pgtables_bytes;
	__u64 start_boot_ns;
	__s32 oom_score_adj;
	__u32 pad;
};

/* wire_user_kill.flags */
enum wire_sender_flag {
	WIRE_SENDER_SAME_PIDNS = 1 << 0, /* as the target, and not the first one */
	WIRE_SENDER_INIT = 1 << 1,	 /* pid 1 of a pid namespace that the target is in, and not of the first */
	WIRE_SENDER_EXITING = 1 << 2,
	WIRE_SENDER_NO_INFO = 1 << 3,	/* SEND_SIG_NOINFO: cgroup.kill, or a parent's death */
	WIRE_SENDER_LOGIN = 1 << 4,	/* login_uid and session_id are valid */
	WIRE_SENDER_TERM = 1 << 5,	/* term_ns and term_sender are valid */
	WIRE_SENDER_MORE = 1 << 6,	/* there are more ancestors */
	WIRE_SENDER_TARGET_GONE = 1 << 7, /* the target's last thread is exiting */
	WIRE_SENDER_TERM_IGNORED = 1 << 8, /* by SIG_IGN, or as pid 1 without a handler */
};

struct wire_ancestor {
	__u32 tgid;
	char comm[WIRE_COMM];
};

/* A SIGKILL that is not the OOM killer's, and who sent it. */
struct wire_user_kill {
	struct wire_kill kill;
	__u32 flags;
	__u32 uid; /* of the sender */
	__u32 login_uid;
	__u32 session_id;
	__u64 term_ns; /* of the last SIGTERM to the target's cgroup */
	struct wire_ancestor term_sender;
	__u32 ancestor_count;
	char exe[WIRE_EXE]; /* of the sender; empty: not known */
	struct wire_ancestor ancestors[WIRE_ANCESTORS];
};

/* The limits above the target of such a SIGKILL, before it is told. */
struct wire_ladder {
	struct wire_header h;
	__u64 cgroup_id; /* the target's */
	__u32 hierarchy;
	__u32 cut; /* the chain does not reach the root */
	__u32 level_count;
	__u32 pad;
	struct wire_level levels[WIRE_LEVELS];
};

/* Keys of the maps of what was lately done to a cgroup. */
struct wire_cgroup_key {
	__u64 cgroup_id;
	__u32 hierarchy;
	__u32 pad;
};

struct wire_mark {
	struct wire_header h;
	__u32 pid;
	__u32 pad;
};

enum wire_outcome {
	WIRE_KILLED = 1,
	WIRE_NO_KILLABLE,
	WIRE_WAITING,
	WIRE_ALREADY_EXITING,
	WIRE_SKIPPED,
};

struct wire_pass {
	struct wire_header h;
	__u32 outcome;
	__u32 constraint;
	__s32 order;
	__u32 gfp;
	__u32 chosen; /* TGID; 0: none */
	__u32 global; /* no memcg: limiter is not filled */
	__u64 count;  /* passes like this one so far */
	__u64 first_ns;
	__u64 last_ns;
	struct wire_level limiter;
};

struct wire_exit {
	struct wire_header h;
	__u32 tgid;
	__u32 pad;
};

struct wire_cgroup {
	struct wire_header h;
	__u64 cgroup_id;
	__u32 hierarchy;
	__u32 op;
	char path[WIRE_PATH_SHORT];
};

struct wire_cgroup_long {
	struct wire_header h;
	__u64 cgroup_id;
	__u32 hierarchy;
	__u32 op;
	char path[WIRE_PATH_LONG];
};

enum wire_cgroup_op {
	WIRE_MKDIR = 1,
	WIRE_RMDIR,
	WIRE_RENAME,
};

/* In what a task stalls. A memory.high sleep may hold memcg reclaim within it. */
enum wire_stall_kind {
	WIRE_MEMCG_RECLAIM,
	WIRE_DIRECT_RECLAIM,
	WIRE_NODE_RECLAIM,
	WIRE_MEMORY_HIGH,
	WIRE_COMPACTION,
	WIRE_THROTTLE,
	WIRE_AFTER_KILL, /* reclaim by a process that has its SIGKILL already */
	WIRE_STALL_KINDS,
};

enum {
	WIRE_BUCKETS = 28, /* of log2(microseconds): the last is 134 s and more */
};

/* A single stall that is long enough to be told. */
struct wire_stall {
	struct wire_header h;
	__u32 kind;
	__u32 hierarchy;
	__u64 owner_id; /* whose limit it reclaimed for; 0: not known, or the node */
	__u64 duration_ns;
	__u64 reclaimed_pages;
};

/*
 * Why the allocator gave up before a victim was marked: the last answers that the
 * task got to whether another round of reclaim, or of compaction, is worth it.
 */
struct wire_gave_up {
	struct wire_header h;
	__u64 reclaim_ns; /* CLOCK_BOOTTIME; 0: not asked */
	__u64 reclaimable_pages;
	__u64 available_pages;
	__u64 min_watermark_pages;
	__u32 node;
	__u32 no_progress_loops;
	__u32 order;
	__u32 watermark_ok;
	char zone[16];
	__u64 compact_ns; /* 0: not asked */
	__u32 compact_order;
	__u32 compact_priority;
	__u32 compact_result;
	__u32 compact_retries;
	__u32 compact_max_retries;
	__u32 compact_again;
};

/* Key and value of the map of stalls: per CPU, counted up for ever. */
struct wire_stall_key {
	__u64 cgroup_id; /* of the stalled task */
	__u64 owner_id;	 /* whose limit it reclaimed for, in the same hierarchy; 0: not known, or the node */
	__u32 hierarchy;
	__u32 kind;
};

struct wire_stalls {
	__u64 count;
	__u64 fruitless; /* reclaimed nothing */
	__u64 total_ns;
	__u64 max_ns;
	__u64 reclaimed_pages;
	__u64 buckets[WIRE_BUCKETS];
};

/* What kswapd did on a node. */
struct wire_kswapd {
	__u64 wakeups;
	__u64 awake_since_ns; /* 0: asleep */
	__u64 awake_ns;
};

/* Key and value of the map of passes that killed nobody. */
struct wire_fold_key {
	__u64 cgroup_id;
	__u32 hierarchy;
	__u32 outcome;
	__u32 global;
	__u32 constraint;
};

struct wire_fold {
	__u64 count;
	__u64 first_ns;
	__u64 last_ns;
	__u64 sent_ns;
};

#endif
