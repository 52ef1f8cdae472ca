// SPDX-License-Identifier: Apache-2.0

// Package kernel holds the records of the kernel side after decoding: what each hook
// reported, in Go types and before any interpretation. The published contract, which
// the correlator makes of them, is package events.
package kernel

import "github.com/oomtrace/oomtrace/internal/events"

// Record is one fact that the kernel side reported. The concrete types are the
// structs of this file that embed Meta.
type Record interface{ Header() Meta }

// Task is a task as the kernel names it.
type Task struct {
	TGID, TID  uint32
	Comm       string // of the thread
	LeaderComm string // of the thread group's leader
	Kthread    bool   // PF_KTHREAD
	Cgroup     events.CgroupKey
}

// Meta is common to all records.
type Meta struct {
	// BootNS is CLOCK_BOOTTIME at the event.
	BootNS uint64
	// Pass numbers the runs of out_of_memory; 0 is outside of one, or where
	// out_of_memory cannot be hooked.
	Pass uint64
	// Current is the task in whose context the event happened.
	Current Task
}

// Header returns the record's common part.
func (m Meta) Header() Meta { return m }

// Constraint is the kernel's enum oom_constraint (include/linux/oom.h), or the
// reason why it is not known.
type Constraint string

// The constraints. Unknown values of a future kernel come as "constraint_N".
const (
	ConstraintNone      Constraint = "none"
	ConstraintCpuset    Constraint = "cpuset"
	ConstraintMempolicy Constraint = "memory_policy"
	ConstraintMemcg     Constraint = "memcg"
	ConstraintUnknown   Constraint = "" // the tier cannot tell
)

// NoLimit is the page count of a limit that is not set (PAGE_COUNTER_MAX,
// include/linux/page_counter.h), whatever the page size.
const NoLimit = ^uint64(0)

// Counter is a page_counter at one instant, in pages.
type Counter struct {
	Known                       bool
	Usage, Max, High, Watermark uint64
}

// Memcg is one memcg of a chain from a victim's up to the root.
type Memcg struct {
	Key           events.CgroupKey
	Name          string // of the directory; "" for the root
	NameCut       bool
	Memory        Counter
	Swap          Counter // v2: swap; v1: memory+swap (memsw)
	OOMGroup      bool
	OOMGroupKnown bool
	OOMLocal      uint64 // memory_events_local[MEMCG_OOM]
	OOMKill       uint64 // memory_events[MEMCG_OOM_KILL], hierarchical
	EventsKnown   bool
}

// VictimChosen is the kernel at the moment it has chosen a victim: at the entry of
// oom_kill_process, or at mark_victim where only tracepoints can be had.
type VictimChosen struct {
	Meta
	Tier       events.Tier
	Constraint Constraint
	// Ancestry goes from the chosen victim's memcg to the root. AncestryCut is true
	// where the root was not reached.
	Ancestry    []Memcg
	AncestryCut bool
	// LimiterIndex is the limit owner's place in Ancestry, -1 if the node ran out,
	// LimiterUnknown if the tier leaves it to be found from OOMLocal.
	LimiterIndex int
	Victim       Task
	AllocKnown   bool // Order, GFP, TotalPages and Points are valid
	Order        int32
	GFP          uint32
	TotalPages   uint64 // what could be used: limit plus swap, or RAM plus swap
	Points       int64
	Nodes        []int // allowed NUMA nodes: mempolicy's nodemask or the trigger's mems_allowed
	NodesKnown   bool
	Sysrq        bool // order -1, or a kworker that did not reclaim (tracepoint tier)
	Stack        []uint64
	LastReclaim  Reclaim // what the trigger reclaimed for last (tracepoint tier)
}

// LimiterUnknown is VictimChosen.LimiterIndex of the tracepoint tier.
const LimiterUnknown = -2

// Reclaim is what a task last reclaimed for.
type Reclaim uint8

// The kinds of reclaim.
const (
	ReclaimNone Reclaim = iota
	ReclaimMemcg
	ReclaimGlobal
)

// Charge is the charge split, in bytes, read at the first SIGKILL of a pass: the
// kernel has just flushed its counters for the log, if that was not rate
// limited (mm/oom_kill.c: dump_header). Of the limiter, or of the target's whole
// chain where the limiter is left to be found.
type Charge struct {
	Meta
	Levels []MemcgCharge
}

// MemcgCharge is the charge split of one memcg with its descendants. What the
// kernel does not keep, or where could not be learnt, is nil.
type MemcgCharge struct {
	Key    events.CgroupKey
	Memory events.Memory
}

// Kill is a SIGKILL on its way to a task (signal_generate).
type Kill struct {
	Meta
	Target Task
	// FromKernel: SEND_SIG_PRIV. Such are the OOM killer's, but also those of a
	// dying pid namespace's init, of ptrace, and of RLIMIT_CPU.
	FromKernel bool
	// Sender is there where the kernel side knows that it is not the OOM killer's,
	// or sees nothing of an OOM: Meta.Current is who sent it, and this is more of it.
	Sender *Sender
	// SharesMM: the target has the memory of the victim that was marked last in
	// the same pass.
	SharesMM bool
	Code     int32 // si_code
	Group    bool
	Result   int32 // 0 delivered, 1 ignored, 2 already pending (trace/events/signal.h)
	// Of the target, at that instant. Known is false where it has no memory any
	// more, or its fields could not be read.
	MemoryKnown                      bool
	AnonPages, FilePages, ShmemPages uint64
	SwapPages, TotalVMPages          uint64
	PgtablesBytes                    uint64
	OOMScoreAdj                      int16
	UID                              uint32
	IdentityKnown                    bool   // OOMScoreAdj, UID, StartBootNS
	StartBootNS                      uint64 // CLOCK_BOOTTIME
	ContainerInit                    bool   // pid 1 of a pid namespace that is not the first
}

// Kernel values of Kill.Code and Kill.Result.
const (
	CodeUser        = 0  // SI_USER: kill(2), or no information
	CodeThread      = -6 // SI_TKILL: tkill(2), tgkill(2)
	ResultDelivered = 0
	ResultIgnored   = 1 // the target was dying, or is the init of the sender's pid namespace
	ResultPending   = 2 // it had one already
)

// Sender is more of a process that sent a SIGKILL, at that instant.
type Sender struct {
	UID uint32
	Exe string // the last name of its executable's path, 31 bytes of it; empty: not known
	// LoginUID and AuditSession are of audit (pam_loginuid): who logged in, also
	// through sudo. LoginKnown is false where nobody did, or nobody keeps it.
	LoginKnown             bool
	LoginUID, AuditSession uint32
	// SamePIDNS: it is in the target's pid namespace, which is not the first one.
	SamePIDNS bool
	// NamespaceInit: it is pid 1 of a pid namespace that the target is in.
	NamespaceInit bool
	Exiting       bool // it is on its way out
	// NoInfo: the kernel sent it without saying for whom (SEND_SIG_NOINFO). To a
	// thread it is cgroup.kill, to a process PR_SET_PDEATHSIG.
	NoInfo bool
	// TargetGone: the target's last thread was exiting already.
	TargetGone bool
	// Ancestors are its parents, the nearest first; MoreAncestors that there are
	// further ones.
	Ancestors     []ProcessName
	MoreAncestors bool
	// TermNS is CLOCK_BOOTTIME of the last SIGTERM to a process in the target's
	// cgroup, 0 if none was seen, and TermSender who sent it. TermIgnored: by SIG_IGN,
	// or as pid 1 of a pid namespace without a handler.
	TermNS      uint64
	TermSender  ProcessName
	TermIgnored bool
}

// ProcessName is a process by its id and name.
type ProcessName struct {
	TGID uint32
	Comm string
}

// TargetAncestry holds the limits above the target of a SIGKILL that is not the OOM
// killer's: at most one a second for each cgroup, right before the Kill.
type TargetAncestry struct {
	Meta
	Target      events.CgroupKey
	Ancestry    []Memcg // as VictimChosen.Ancestry
	AncestryCut bool
}

// Mark is oom:mark_victim. PID is the kernel's pid, a thread's id.
type Mark struct {
	Meta
	PID uint32
}

// OOMReturn is the return of out_of_memory. One is sent for each pass that
// killed; those that did not are folded per limiter and outcome, Count of them
// since the start.
type OOMReturn struct {
	Meta
	Outcome    events.Outcome
	Limiter    events.CgroupKey // zero for the node
	Constraint Constraint
	Count      uint64
	FirstNS    uint64
	LastNS     uint64
	AllocKnown bool // Order and GFP are valid, and LimiterLevel is where there is a limiter
	Order      int32
	GFP        uint32
	Chosen     uint32 // TGID, of a pass that killed
	// LimiterLevel is the limiter as it was at the pass.
	LimiterLevel Memcg
}

// Exit is the end of the last thread of a process that was sent SIGKILL.
type Exit struct {
	Meta
	TGID uint32
}

// Released is the end of exit_mmap for such a process: its memory is free.
type Released struct {
	Meta
	TGID uint32
}

// CgroupChange is cgroup_mkdir, cgroup_rmdir or cgroup_rename.
type CgroupChange struct {
	Meta
	Op      string // mkdir, rmdir, rename
	Key     events.CgroupKey
	Path    string
	PathCut bool
}

// RecordsLost counts records of one kind that found the ring buffer full.
type RecordsLost struct {
	Meta
	What  string
	Count uint64
}

// Stall is a single long stall, told at its end.
type Stall struct {
	Meta
	What           events.StallKind
	DurationNS     uint64
	ReclaimedPages uint64
	Owner          events.CgroupKey // whose limit it reclaimed for; zero: the node, or not known
}

// StallBuckets is the number of buckets of log2(microseconds).
const StallBuckets = 28

// StallKey says of which cgroup (the stalled task's) and kind.
type StallKey struct {
	Cgroup events.CgroupKey
	Owner  events.CgroupKey // whose limit was reclaimed for; zero: the node, or not known
	What   events.StallKind
}

// StallCounts are all counts at one instant. It comes once a second while there
// are stalls.
type StallCounts struct {
	Meta
	Counts map[StallKey]StallCount
	Kswapd map[int]KswapdCount // by NUMA node
}

// KswapdCount is what kswapd did on a NUMA node since the start of the tracer.
type KswapdCount struct {
	Wakeups uint64
	AwakeNS uint64
}

// GaveUp is why the allocator gave up, before the task that asked for memory marked
// a victim: the last answers to whether another round is worth it.
type GaveUp struct {
	Meta
	Reclaim *ReclaimRetry // nil: it was not asked
	Compact *CompactRetry
}

// ReclaimRetry is an answer of should_reclaim_retry for one zone (mm/page_alloc.c).
type ReclaimRetry struct {
	BootNS                                              uint64
	Order                                               uint32
	Zone                                                string
	Node                                                uint32
	ReclaimablePages, AvailablePages, MinWatermarkPages uint64
	NoProgressLoops                                     uint32
	WatermarkOK                                         bool
}

// CompactRetry is an answer of should_compact_retry (mm/page_alloc.c).
type CompactRetry struct {
	BootNS                               uint64
	Order, Priority, Retries, MaxRetries uint32
	Result                               string
	Again                                bool
}
