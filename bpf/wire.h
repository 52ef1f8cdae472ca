/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The records that go to user space through the ring buffers, and the keys and
 * values of maps that user space reads. `make generate` makes a Go type of each
 * struct and enum here (wire.go): wire_memcg becomes bpf.Memcg, WIRE_KIND_KILL
 * becomes bpf.KindKill.
 *
 * Natural alignment, no implicit padding, no bitfields. Every byte of a record
 * that user space reads has been written: not memcgs after memcg_count, nor a name
 * after its NUL.
 */
#ifndef OOMTRACE_WIRE_H
#define OOMTRACE_WIRE_H

#include <linux/types.h>

enum wire_kind {
	WIRE_KIND_VICTIM_CHOSEN = 1,
	WIRE_KIND_CHARGE,
	WIRE_KIND_KILL,
	WIRE_KIND_MARK,
	WIRE_KIND_OOM_RETURN,
	WIRE_KIND_EXIT,
	WIRE_KIND_RELEASED,
	WIRE_KIND_CGROUP_CHANGE,
	WIRE_KIND_STATE, /* never sent: counts entries that did not fit into a map */
	WIRE_KIND_STALL,
	WIRE_KIND_STALL_STATE, /* never sent: counts stalls whose start could not be remembered */
	WIRE_KIND_GAVE_UP,
	WIRE_KIND_USER_KILL,
	WIRE_KIND_TARGET_ANCESTRY,
	WIRE_KIND_STALL_COUNT, /* never sent: counts stalls that did not fit into the map of stalls */
	WIRE_KIND_STALL_END,   /* never sent: counts stalls whose end was not seen */
	WIRE_KIND_REAPED,      /* a struct wire_exit with the PID of a thread, as in wire_mark */
	WIRE_KIND_REAP_SKIPPED,
	WIRE_KIND_LIMIT_WRITE,
	WIRE_KIND_COUNT,
};

enum {
	WIRE_COMM = 16,	       /* TASK_COMM_LEN */
	WIRE_MEMCGS = 24,      /* of an ancestry, leaf first; a record may be cut after any of them */
	WIRE_FEW_MEMCGS = 8,   /* of a pod's container there are 5 or 6, with itself and the root */
	WIRE_NAME = 128,       /* of a cgroup's directory; NAME_MAX is 255 */
	WIRE_PATH = 1024,      /* TRACE_CGROUP_PATH_LEN: the kernel truncates there */
	WIRE_FRAMES = 24,
	WIRE_SIGNAL_FRAMES = 32, /* through an interrupt, to the BPF program that it hit */
	WIRE_EXE = 32,	       /* the last component of an executable's path */
	WIRE_ANCESTORS = 8,    /* of a sender, nearest first */
	WIRE_NODE_WORDS = 16,  /* 1024 NUMA nodes, the most a kernel can have */
	WIRE_BUCKETS = 28,     /* of log2(microseconds): the last one is 134 s and more */
};

/* Tasks. */

enum wire_task_flag {
	WIRE_TASK_KTHREAD = 1 << 0,
	WIRE_TASK_EXITING = 1 << 1,
};

struct wire_task {
	__u32 tgid;
	__u32 tid;
	__u8 comm[WIRE_COMM];
	__u8 leader_comm[WIRE_COMM];
	enum wire_task_flag flags;
	__u32 hierarchy;
	__u64 cgroup_id; /* 0: unknown */
};

/* The start of every record. */
struct wire_header {
	enum wire_kind kind;
	__u32 cpu;
	__u64 boot_ns;
	__u64 invocation; /* of out_of_memory; 0: outside of one */
	struct wire_task current_task;
};

/* Memory cgroups. */

struct wire_counter { /* struct page_counter, in pages */
	__u64 usage;
	__u64 max;
	__u64 high;
	__u64 watermark;
};

enum wire_memcg_flag {
	WIRE_MEMCG_OOM_GROUP = 1 << 0,
	WIRE_MEMCG_NAME_CUT = 1 << 1,
	WIRE_MEMCG_MEMORY = 1 << 2, /* memory is valid */
	WIRE_MEMCG_SWAP = 1 << 3,   /* swap is valid */
	WIRE_MEMCG_OOM_KILL = 1 << 4, /* oom_kill is valid */
	WIRE_MEMCG_OOM_GROUP_KNOWN = 1 << 5,
	WIRE_MEMCG_PROTECTION = 1 << 6, /* protection is valid */
};

/* memory.min and memory.low of a memcg, and how much of its children's usage theirs protect, in pages. */
struct wire_protection {
	__u64 min;
	__u64 low;
	__u64 children_min;
	__u64 children_low;
};

struct wire_memcg {
	__u64 cgroup_id;
	__u32 hierarchy;
	enum wire_memcg_flag flags;
	struct wire_counter memory;
	struct wire_counter swap;
	__u64 oom_kill;
	__u8 name[WIRE_NAME];
	struct wire_protection protection;
};

enum wire_charge_item {
	WIRE_CHARGE_ANON,
	WIRE_CHARGE_FILE,
	WIRE_CHARGE_SHMEM,
	WIRE_CHARGE_SLAB_RECLAIMABLE,
	WIRE_CHARGE_SLAB_UNRECLAIMABLE,
	WIRE_CHARGE_KERNEL_STACK,
	WIRE_CHARGE_PAGETABLES,
	WIRE_CHARGE_SOCK,
	WIRE_CHARGE_FILE_DIRTY,
	WIRE_CHARGE_WRITEBACK,
	WIRE_CHARGE_ACTIVE_FILE,
	WIRE_CHARGE_INACTIVE_FILE,
	WIRE_CHARGE_UNEVICTABLE,
	WIRE_CHARGE_ANON_THP,	    /* in pages; either this is known, */
	WIRE_CHARGE_ANON_HUGEPAGES, /* or this, in huge pages */
	WIRE_CHARGE_PERCPU,
	WIRE_CHARGE_HUGETLB,
	WIRE_CHARGE_ITEMS,
};

struct wire_memcg_charge {
	__u64 cgroup_id;
	__u32 hierarchy;
	__u32 known;			/* a bit per item */
	__s64 items[WIRE_CHARGE_ITEMS]; /* in the kernel's unit: bytes of slab and percpu, KiB of stack, else pages */
};

/* The OOM killer. */

/* How the choice of a victim is observed. */
enum wire_attach_mode {
	WIRE_ATTACH_MODE_TRACEPOINT,
	WIRE_ATTACH_MODE_FENTRY,
	WIRE_ATTACH_MODE_KPROBE,
};

/* wire_victim_chosen.limiter, where it is not an index into memcgs[] */
enum wire_limiter {
	WIRE_LIMITER_NODE = -1,
	WIRE_LIMITER_UNKNOWN = -2,
};

enum wire_victim_chosen_flag {
	WIRE_VICTIM_CHOSEN_CUT = 1 << 0,   /* the ancestry does not reach the root */
	WIRE_VICTIM_CHOSEN_ALLOC = 1 << 1, /* the fields of oom_control are valid */
	WIRE_VICTIM_CHOSEN_NODES = 1 << 2, /* nodes is valid */
	WIRE_VICTIM_CHOSEN_POLICY = 1 << 3, /* nodes are a memory policy's, not a cpuset's */
	WIRE_VICTIM_CHOSEN_HARDWALL = 1 << 4, /* the allocation may not leave its cpuset */
	WIRE_VICTIM_CHOSEN_AT_KILL = 1 << 5, /* sent at the SIGKILL, which the kernel has counted */
};

enum wire_reclaim {
	WIRE_RECLAIM_NONE,
	WIRE_RECLAIM_MEMCG,
	WIRE_RECLAIM_GLOBAL,
};

struct wire_victim_chosen {
	struct wire_header h;
	struct wire_task victim;
	enum wire_attach_mode attach_mode;
	enum wire_victim_chosen_flag flags;
	__u32 constraint;
	__s32 order;
	__u32 gfp;
	enum wire_limiter limiter;
	__u64 total_pages;
	__s64 points;
	__u64 nodes[WIRE_NODE_WORDS];
	__u64 stack[WIRE_FRAMES];
	__u32 frames;
	enum wire_reclaim last_reclaim;
	__u64 reclaim_ns; /* of that */
	__u32 memcg_count;
	__u32 pad;
	struct wire_memcg memcgs[WIRE_MEMCGS];
};

struct wire_charge {
	struct wire_header h;
	__u32 memcg_count;
	__u32 pad;
	struct wire_memcg_charge memcgs[WIRE_MEMCGS];
};

enum wire_mark_flag {
	WIRE_MARK_KILLED = 1 << 0, /* the thread has just sent it SIGKILL */
};

struct wire_mark {
	struct wire_header h;
	struct wire_task task; /* a tgid of 0: unknown */
	__u32 pid;
	enum wire_mark_flag flags;
};

enum wire_outcome {
	WIRE_OUTCOME_KILLED = 1,
	WIRE_OUTCOME_NO_KILLABLE,
	WIRE_OUTCOME_WAITING,
	WIRE_OUTCOME_ALREADY_EXITING,
	WIRE_OUTCOME_SKIPPED,
};

struct wire_oom_return {
	struct wire_header h;
	enum wire_outcome outcome;
	__u32 constraint;
	__s32 order;
	__u32 gfp;
	__u32 chosen; /* TGID; 0: none */
	__u32 global; /* no memcg: limiter is not filled */
	__u64 count;  /* invocations like this one so far */
	__u64 first_ns;
	__u64 last_ns;
	struct wire_memcg limiter;
};

/* Key and value of the map of OOM invocations that killed nobody. */
struct wire_repeat_key {
	__u64 cgroup_id; /* of the limiter */
	__u32 hierarchy;
	enum wire_outcome outcome;
	__u32 global;
	__u32 constraint;
};

struct wire_repeat {
	__u64 count;
	__u64 first_ns;
	__u64 last_ns;
	__u64 sent_ns;
};

/* Signals. */

enum wire_kill_flag {
	WIRE_KILL_FROM_KERNEL = 1 << 0,
	WIRE_KILL_SHARES_MM = 1 << 1,
	WIRE_KILL_GROUP = 1 << 2,
	WIRE_KILL_MEMORY = 1 << 3, /* the page counts are valid */
	WIRE_KILL_CONTAINER_INIT = 1 << 4,
};

struct wire_kill {
	struct wire_header h;
	struct wire_task target;
	enum wire_kill_flag flags;
	__s32 code;
	__u32 uid;
	__s32 oom_score_adj;
	__s64 anon_pages;
	__s64 file_pages;
	__s64 shmem_pages;
	__s64 swap_pages;
	__u64 total_vm_pages;
	__u64 pgtables_bytes;
	__u64 start_boot_ns;
};

enum wire_sender_flag {
	WIRE_SENDER_SAME_PIDNS = 1 << 0, /* as the target, and not the initial one */
	WIRE_SENDER_INIT = 1 << 1,	 /* PID 1 of a PID namespace that contains the target, and not the initial one */
	WIRE_SENDER_NO_INFO = 1 << 2,	   /* SEND_SIG_NOINFO: cgroup.kill, or PR_SET_PDEATHSIG */
	WIRE_SENDER_LOGIN = 1 << 3,	   /* login_uid and session_id are valid */
	WIRE_SENDER_TERM = 1 << 4,	   /* term_ns and term_sender are valid */
	WIRE_SENDER_MORE = 1 << 5,	   /* ancestors[] does not reach PID 1 */
	WIRE_SENDER_TERM_IGNORED = 1 << 6, /* by SIG_IGN, or as PID 1 without a handler */
};

struct wire_ancestor {
	__u32 tgid;
	__u8 comm[WIRE_COMM];
};

/* A SIGKILL not sent by the OOM killer, and its sender. */
struct wire_user_kill {
	struct wire_kill kill;
	enum wire_sender_flag flags;
	__u32 uid; /* of the sender */
	__u32 login_uid;
	__u32 session_id;
	__u64 term_ns; /* of the last SIGTERM to the target's cgroup */
	struct wire_ancestor term_sender;
	__u32 ancestor_count;
	__u8 exe[WIRE_EXE]; /* of the sender; empty: unknown */
	struct wire_ancestor ancestors[WIRE_ANCESTORS];
	__u64 stack[WIRE_SIGNAL_FRAMES]; /* of the signal, innermost first */
	__u32 frames;
	__u32 pad;
};

/* The memcgs above the target of such a SIGKILL; sent before it. */
struct wire_target_ancestry {
	struct wire_header h;
	__u64 cgroup_id; /* of the target */
	__u32 hierarchy;
	__u32 cut; /* the ancestry does not reach the root */
	__u32 memcg_count;
	__u32 pad;
	struct wire_memcg memcgs[WIRE_MEMCGS];
};

/* The end of a victim: of its last thread, and of its memory. */
struct wire_exit {
	struct wire_header h;
	__u32 tgid;
	__u32 pad;
};

/* Cgroups. */

enum wire_cgroup_op {
	WIRE_CGROUP_OP_MKDIR = 1,
	WIRE_CGROUP_OP_RMDIR,
	WIRE_CGROUP_OP_RENAME,
};

/* Sent only as far as path is used. */
struct wire_cgroup_change {
	struct wire_header h;
	__u64 cgroup_id;
	__u32 hierarchy;
	enum wire_cgroup_op op;
	__u8 path[WIRE_PATH];
};

/* Value of the map of records over a tenant's budget. */
struct wire_throttled {
	__u64 count;
	__u64 tenant; /* the cgroup that was throttled last; 0: unknown */
};

enum {
	WIRE_LIMIT_FILE = 32, /* memory.memsw.limit_in_bytes has 27 */
	WIRE_LIMIT_TEXT = 32, /* of a number, with blanks around it */
};

/* The start of a write to a file of a limit. */
struct wire_limit_write {
	struct wire_header h;
	struct wire_memcg memcg; /* before the write */
	__u8 file[WIRE_LIMIT_FILE];
	__u8 text[WIRE_LIMIT_TEXT];
};

/* Stalls. */

/* What a task stalls in. A memory.high sleep may include memcg reclaim. */
enum wire_stall_kind {
	WIRE_STALL_MEMCG_RECLAIM,
	WIRE_STALL_DIRECT_RECLAIM,
	WIRE_STALL_NODE_RECLAIM,
	WIRE_STALL_MEMORY_HIGH,
	WIRE_STALL_COMPACTION,
	WIRE_STALL_THROTTLE,
	WIRE_STALL_AFTER_KILL, /* reclaim by a process that has received SIGKILL */
	WIRE_STALL_KINDS,
};

/* A single stall of at least min_stall_ns. */
struct wire_stall {
	struct wire_header h;
	enum wire_stall_kind kind;
	__u32 hierarchy;
	__u64 owner_id; /* of the limit that it reclaimed for; 0: unknown, or the node */
	__u64 duration_ns;
	__u64 reclaimed_pages;
};

/* Key and value of the map of stalls. The values are per CPU and only grow. */
struct wire_stall_key {
	__u64 cgroup_id; /* of the stalled task */
	__u64 owner_id;	 /* of the limit that it reclaimed for, in the same hierarchy; 0: unknown, or the node */
	__u32 hierarchy;
	enum wire_stall_kind kind;
};

struct wire_stall_count {
	__u64 count;
	__u64 no_progress; /* reclaimed nothing */
	__u64 total_ns;
	__u64 max_ns;
	__u64 reclaimed_pages;
	__u64 buckets[WIRE_BUCKETS];
};

/* Value of the map of kswapd's activity, by NUMA node. */
struct wire_kswapd {
	__u64 wakeups;
	__u64 awake_since_ns; /* 0: asleep */
	__u64 awake_ns;
};

/*
 * Why the allocator gave up before a victim was marked: the kernel's last decisions,
 * in the same thread, on another round of reclaim and of compaction.
 */
struct wire_gave_up {
	struct wire_header h;
	__u64 reclaim_ns; /* CLOCK_BOOTTIME; 0: no such decision */
	__u64 reclaimable_pages;
	__u64 available_pages;
	__u64 min_watermark_pages;
	__u32 node;
	__u32 no_progress_loops;
	__u32 order;
	__u32 watermark_ok;
	__u8 zone[16];
	__u64 compact_ns; /* 0: no such decision */
	__u32 compact_order;
	__u32 compact_priority;
	__u32 compact_result;
	__u32 compact_retries;
	__u32 compact_max_retries;
	__u32 compact_again;
};

#endif
