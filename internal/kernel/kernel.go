// SPDX-License-Identifier: Apache-2.0

// Package kernel defines the records that the BPF programs report, after decoding and
// before any interpretation. Package probe produces them, package incident turns them
// into incidents, which are in the published form of package events.
//
// Counts of memory are in pages of the kernel unless a name has another unit. Times are
// nanoseconds of CLOCK_BOOTTIME.
package kernel

import "github.com/oomtrace/oomtrace/internal/events"

// Record is one observation by the BPF programs. The concrete types are the structs of
// this package that embed Meta, by value, except *Stall.
type Record interface{ Header() Meta }

// Meta is the common part of all records.
type Meta struct {
	BootNS uint64
	// Invocation is the number of the OOM invocation, one call of out_of_memory. It is 0
	// outside of one, and where that function is not hooked.
	Invocation uint64
	// Current is the task that was running.
	Current Task
}

// Header returns the common part of the record.
func (m Meta) Header() Meta { return m }

// Task identifies a thread (struct task_struct) and its cgroup.
type Task struct {
	TGID, TID  uint32 // in the initial PID namespace
	Comm       string // of the thread
	LeaderComm string // of the thread group's leader, which names the process
	Kthread    bool   // PF_KTHREAD
	Exiting    bool   // PF_EXITING
	Cgroup     events.CgroupKey
}

// Process returns the task as the published contract has it, but for its cgroup.
func (t Task) Process() events.Process {
	p := events.Process{PID: int(t.TGID), TID: int(t.TID), Comm: t.LeaderComm, IsKernel: t.Kthread}
	if t.Comm != t.LeaderComm {
		p.Thread = t.Comm
	}

	return p
}

// Constraint is what restricted an allocation: enum oom_constraint
// (include/linux/oom.h). Values that a later kernel adds are "constraint_N".
type Constraint string

// The constraints.
const (
	ConstraintNone      Constraint = "none"
	ConstraintCpuset    Constraint = "cpuset"
	ConstraintMempolicy Constraint = "memory_policy"
	ConstraintMemcg     Constraint = "memcg"
	ConstraintUnknown   Constraint = "" // oom_kill_process is not hooked
)

// NoLimit stands for the page count of a limit that is not set, whatever the page size:
// PAGE_COUNTER_MAX (include/linux/page_counter.h).
const NoLimit = ^uint64(0)

// Counter is a struct page_counter at one instant, in pages. Limits may be NoLimit.
type Counter struct {
	Known                       bool
	Usage, Max, High, Watermark uint64
}

// Protection is what memory.min and memory.low protect at one instant, in pages. Limits
// may be NoLimit.
type Protection struct {
	Known    bool
	Min, Low uint64 // of the memcg itself
	// ChildrenMin and ChildrenLow are how much of the usage of its children theirs protect.
	ChildrenMin, ChildrenLow uint64
}

// Memcg is a struct mem_cgroup at one instant.
type Memcg struct {
	Key           events.CgroupKey
	Name          string // of the directory; empty for the root
	NameCut       bool   // the name is longer
	Memory        Counter
	Swap          Counter // cgroup v2: swap; v1: memory and swap together (memsw)
	OOMGroup      bool    // memory.oom.group
	OOMGroupKnown bool
	OOMKill       uint64 // memory_events[MEMCG_OOM_KILL]: of the whole subtree
	OOMKillKnown  bool
	Protection    Protection
}

// VictimChosen reports that the OOM killer has chosen a victim: at the entry of
// oom_kill_process, or at mark_victim where only tracepoints are available.
type VictimChosen struct {
	Meta
	Constraint Constraint
	// Ancestry are the memcgs from the victim's up to the root. AncestryCut is true if
	// they do not reach the root.
	Ancestry    []Memcg
	AncestryCut bool
	// LimiterIndex is the index into Ancestry of the memcg whose limit was hit, -1 if
	// the node ran out of memory, LimiterUnknown if neither was seen. Without AllocKnown
	// it is what the thread last reclaimed for.
	LimiterIndex int
	Victim       Task
	AllocKnown   bool // Order, GFP, TotalPages and Points are valid
	Order        int32
	GFP          uint32
	TotalPages   uint64 // that the badness is relative to: limit plus swap, or RAM plus swap
	Points       int64  // badness of the victim
	Nodes        []int  // NUMA nodes that the allocation may use, by its cpuset or memory policy
	NodesKnown   bool
	PolicyNodes  bool     // Nodes are those of a memory policy
	Hardwall     bool     // the allocation may not leave its cpuset (__GFP_HARDWALL); without AllocKnown
	AtKill       bool     // seen at its SIGKILL, which the kernel counts before
	Sysrq        bool     // requested by sysrq-f: Order is -1 (mm/oom_kill.c: is_sysrq_oom)
	Stack        []uint64 // kernel addresses, innermost first
	LastReclaim  Reclaim  // by the same thread; ReclaimNone with fentry, where it is not needed
	ReclaimNS    uint64   // CLOCK_BOOTTIME of its beginning; 0: none
}

// LimiterUnknown is the VictimChosen.LimiterIndex of a limiter that is not known.
const LimiterUnknown = -2

// Reclaim is what a task last reclaimed memory for.
type Reclaim uint8

// The kinds of reclaim.
const (
	ReclaimNone   Reclaim = iota
	ReclaimMemcg          // the limit of a memcg
	ReclaimGlobal         // the node
)

// Charge reports what the memory of a cgroup consists of, at the first SIGKILL of an OOM
// invocation. The kernel has just flushed the counters for its own report, unless that
// was rate limited (mm/oom_kill.c: dump_header).
type Charge struct {
	Meta
	// Memcgs has the limiter, or the target's whole ancestry if the limiter is not
	// known yet.
	Memcgs []MemcgCharge
}

// MemcgCharge is the memory charged to a memcg and its descendants, in bytes. Fields of
// counters that the kernel does not keep, or that could not be read, are nil.
type MemcgCharge struct {
	Key    events.CgroupKey
	Memory events.Memory
}

// Kill reports a SIGKILL on its way to a task (signal:signal_generate).
type Kill struct {
	Meta
	Target Task
	// FromKernel is true for SEND_SIG_PRIV. The OOM killer uses it, and so do the exit of
	// a PID namespace's init, the exit of a tracer, RLIMIT_CPU and BPF programs.
	FromKernel bool
	// Sender is set for signals not sent by the OOM killer. Where OOM invocations are not
	// seen, signals of the kernel that could be the OOM killer's come twice: first without
	// it, then with it.
	Sender *Sender
	// SharesMM is true if the target has the memory of the victim that was last marked
	// in the same OOM invocation.
	SharesMM bool
	Code     int32 // si_code: see CodeUser; without siginfo CodeUser, or CodeKernel if FromKernel
	Group    bool  // sent to the process, not to one thread

	// The memory of the target at that instant. MemoryKnown is false if it has released
	// it already, or if the counts could not be read.
	MemoryKnown                      bool
	AnonPages, FilePages, ShmemPages uint64
	SwapPages, TotalVMPages          uint64
	PgtablesBytes                    uint64

	OOMScoreAdj   int16
	UID           uint32
	StartBootNS   uint64
	ContainerInit bool // PID 1 of a PID namespace other than the initial one
	// Lost is true for a SIGKILL whose record was lost: only Meta and Target are known,
	// from other records.
	Lost bool
}

// Values of Kill.Code (include/uapi/asm-generic/siginfo.h).
const (
	CodeUser   = 0    // SI_USER: kill(2)
	CodeKernel = 0x80 // SI_KERNEL
	CodeQueue  = -1   // SI_QUEUE: sigqueue(3), which may also forge the next four
	CodeTimer  = -2   // SI_TIMER: a POSIX timer
	CodeMesgQ  = -3   // SI_MESGQ: mq_notify(3)
	CodeAsync  = -4   // SI_ASYNCIO: a USB request
	CodeSIGIO  = -5   // SI_SIGIO: a file, see fcntl(2) F_SETSIG
	CodeThread = -6   // SI_TKILL: tkill(2), tgkill(2)
)

// Sender describes Meta.Current as the SIGKILL was generated. It sent the signal unless the
// signal comes from an interrupt, or from the kernel itself: see Stack and Kill.Code.
type Sender struct {
	// Stack is the kernel stack of the signal: addresses, innermost first, with the frames
	// of the BPF program that reports it. Empty if it could not be read.
	Stack []uint64
	UID   uint32
	Exe   string // the last component of its executable's path, at most 31 bytes; empty: unknown
	// LoginUID is the login user, also of sudo (pam_loginuid). LoginKnown is false if there
	// was no login, or if the kernel has no CONFIG_AUDIT.
	LoginKnown    bool
	LoginUID      uint32
	SamePIDNS     bool // in the target's PID namespace, which is not the initial one
	NamespaceInit bool // PID 1 of a PID namespace that contains the target
	// NoInfo is true for SEND_SIG_NOINFO: cgroup.kill (5.14) and PTRACE_KILL to a thread;
	// PR_SET_PDEATHSIG, and cgroup.kill at a fork, to a process.
	NoInfo bool
	// Ancestors are its parent, grandparent and so on. MoreAncestors is true if they do
	// not reach PID 1.
	Ancestors     []ProcessName
	MoreAncestors bool
	// TermNS is the time of the last SIGTERM to a process in the target's cgroup, 0 if
	// none was seen; TermSender is its sender. TermIgnored is true if the target ignored
	// it, by SIG_IGN or as PID 1 of a PID namespace without a handler.
	TermNS      uint64
	TermSender  ProcessName
	TermIgnored bool
}

// ProcessName is the ID and name of a process.
type ProcessName struct {
	TGID uint32
	Comm string
}

// TargetAncestry reports the memcgs above the target of a SIGKILL not sent by the OOM
// killer. It precedes the Kill, at most once a second per cgroup.
type TargetAncestry struct {
	Meta
	Target      events.CgroupKey
	Ancestry    []Memcg // as in VictimChosen
	AncestryCut bool
}

// Mark reports oom:mark_victim, which makes a task a victim of the OOM killer.
type Mark struct {
	Meta
	PID    uint32 // of the thread, in the initial PID namespace
	Task   Task   // a TGID of 0: unknown
	Killed bool   // Meta.Current had just sent it SIGKILL
}

// OOMWait reports threads that wait for memory because the OOM killer is disabled for their
// limiter (cgroup v1). No hook sees them in every attach mode, so the tracer reads files
// instead: this record is made of memory.oom_control and /proc. The first of a limiter
// starts a wait; those that follow report threads that joined, the last the end.
type OOMWait struct {
	Meta    // BootNS is the time of the reading; Current is zero
	Limiter *events.Limiter
	// Ladder has the limiter and its ancestors, Unknown the keys of it that could not be
	// read. Memory is the charge of the limiter, nil if unknown.
	Ladder  []events.Rung
	Unknown []string
	Memory  *events.Memory
	// Earlier is true if they waited already when the trace started.
	Earlier bool
	Tasks   []Task // of the last reading in which they waited
	// TasksLeftOut counts further threads that wait, TasksUnread those that were not
	// examined.
	TasksLeftOut, TasksUnread int
	End                       events.WaitEnd // empty: they still wait
}

// OOMReturn reports the return of out_of_memory. There is one for each OOM invocation
// that killed. Those that did not are counted by limiter, outcome and constraint: one is
// sent for the first, and then at most once a second.
type OOMReturn struct {
	Meta
	Outcome         events.Outcome
	Limiter         events.CgroupKey // zero for the node
	Constraint      Constraint
	Chosen          uint32 // the victim's TGID, if one was chosen and killed; 0: none
	Count           uint64 // since the programs were attached
	FirstNS, LastNS uint64 // of the current series, which a pause of 10 s ends
	// AllocKnown is true if the record was sent at the return: Order, GFP and LimiterMemcg
	// are valid. False for a count that was read afterwards.
	AllocKnown   bool
	Order        int32
	GFP          uint32
	LimiterMemcg Memcg // the limiter at that instant
}

// RepeatKey is what OOM invocations that killed nobody are counted by.
type RepeatKey struct {
	Limiter    events.CgroupKey
	Outcome    events.Outcome
	Constraint Constraint
}

// Key returns what r is counted by.
func (r OOMReturn) Key() RepeatKey { return RepeatKey{r.Limiter, r.Outcome, r.Constraint} }

// Exit reports the exit of the last thread of a process that the kernel sent SIGKILL.
type Exit struct {
	Meta
	TGID uint32
}

// Released reports the return of exit_mmap for such a process: its memory is free.
type Released struct {
	Meta
	TGID uint32
}

// Reaped reports one attempt of the kernel's oom_reaper to take a victim's memory while the
// victim still exists (mm/oom_kill.c: oom_reap_task_mm). It may do so in several.
type Reaped struct {
	Meta
	PID uint32 // of the thread that was marked
	// Skipped is true if the attempt found the mmap_lock taken, or nothing left to do.
	Skipped bool
}

// CgroupChange reports cgroup_mkdir, cgroup_rmdir or cgroup_rename, in the hierarchy of
// the memory controller.
type CgroupChange struct {
	Meta
	Op      string // mkdir, rmdir, rename
	Key     events.CgroupKey
	Path    string // relative to the root of the hierarchy
	PathCut bool   // the path is longer
}

// LimitWrite reports the start of a write to the file of a limit, by Meta.Current. The
// kernel may refuse it.
type LimitWrite struct {
	Meta
	Memcg Memcg  // before the write
	File  string // memory.max, memory.high, memory.limit_in_bytes, ...
	Text  string // as it was written, at most 31 bytes of it
}

// RecordsLost counts records of one kind that were lost since the last such record: the
// ring buffer or a map was full, a program did not run, or a tenant of the node had caused
// too many.
type RecordsLost struct {
	Meta
	What  string
	Count uint64
	// Throttled is true if a tenant had used up its budget, and Tenant the cgroup of the last
	// one; its ID is 0 if that is unknown.
	Throttled bool
	Tenant    events.CgroupKey
	// CgroupChanges is true if they may be changes of cgroups.
	CgroupChanges bool
}

// Stall reports a single stall of at least the minimum duration, at its end. It is
// delivered as *Stall, valid until the handler returns.
type Stall struct {
	Meta
	What           events.StallKind
	DurationNS     uint64
	ReclaimedPages uint64
	Owner          events.CgroupKey // of the limit that it reclaimed for; zero: the node, or unknown
}

// StallBuckets is the number of buckets of a histogram by log2(microseconds).
const StallBuckets = 28

// StallKey is what stalls are counted by.
type StallKey struct {
	Cgroup events.CgroupKey // of the stalled task
	Owner  events.CgroupKey // of the limit that it reclaimed for; zero: the node, or unknown
	What   events.StallKind
}

// StallCounts reports all counts at one instant: once a second while tasks stall.
type StallCounts struct {
	Meta
	Counts map[StallKey]StallCount
	Kswapd map[int]KswapdCount // by NUMA node
}

// KswapdCount sums up the activity of kswapd on a NUMA node since the programs were
// attached.
type KswapdCount struct {
	Wakeups uint64
	AwakeNS uint64
}

// GaveUp reports why the allocator gave up: the kernel's last decisions on another round,
// in the thread that then marked a victim.
type GaveUp struct {
	Meta
	Reclaim *ReclaimRetry // nil: none
	Compact *CompactRetry // nil: none
}

// ReclaimRetry is a decision of should_reclaim_retry for one zone (mm/page_alloc.c,
// oom:reclaim_retry_zone).
type ReclaimRetry struct {
	BootNS                                              uint64
	Order                                               uint32
	Zone                                                string
	Node                                                uint32
	ReclaimablePages, AvailablePages, MinWatermarkPages uint64
	NoProgressLoops                                     uint32
	WatermarkOK                                         bool // the allocation would fit if all were reclaimed
}

// CompactRetry is a decision of should_compact_retry (mm/page_alloc.c,
// oom:compact_retry).
type CompactRetry struct {
	BootNS                               uint64
	Order, Priority, Retries, MaxRetries uint32
	Result                               string // enum compact_result, in lower case
	Again                                bool
}
