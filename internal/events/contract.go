// SPDX-License-Identifier: Apache-2.0

// Package events holds what the kernel said (kernel.go) and what oomtrace says
// of it (this file): the event contract of -o json, of recordings and of
// replay. It imports nothing of the project, so that replay, reports and
// fuzzing stay light.
//
// Rules of the contract: keys are only ever added. Sizes are bytes (_bytes),
// durations nanoseconds (_ns), times RFC 3339 in UTC with nanoseconds. What
// could not be read is absent and named in "unknown"; zero means zero.
package events

import "time"

// Version is the value of "v" in every line.
const Version = 1

// Kinds of lines.
const (
	KindIncident       = "incident"
	KindIncidentUpdate = "incident_update"
	KindLost           = "lost"
	KindStatus         = "status"
	KindStall          = "stall"
	KindPressure       = "pressure"
)

// Scope is what ran out of memory, or who asked for a kill.
type Scope string

// The scopes. A constraint that a future kernel adds is passed through under
// the kernel's own name.
const (
	ScopeMemcg     Scope = "memcg"     // a cgroup's limit
	ScopeGlobal    Scope = "global"    // the whole node
	ScopeCpuset    Scope = "cpuset"    // the NUMA nodes of a cpuset
	ScopeMempolicy Scope = "mempolicy" // the NUMA nodes of a memory policy
	ScopeSysrq     Scope = "sysrq"     // asked for by sysrq-f, no shortage
	ScopeUnknown   Scope = "unknown"   // the evidence was lost
)

// Outcome is what the kernel's OOM path did.
type Outcome string

// The outcomes.
const (
	OutcomeKilled         Outcome = "killed"
	OutcomeNoKillable     Outcome = "no_killable_task"   // nothing may be killed
	OutcomeWaiting        Outcome = "waiting_for_victim" // an earlier victim is still dying
	OutcomeAlreadyExiting Outcome = "already_exiting"    // the chosen task was leaving by itself: no signal, no count
	OutcomeSkipped        Outcome = "skipped"            // out_of_memory returned without a choice (no __GFP_FS, or a notifier freed memory)
)

// Level says where in the node's cgroup tree a cgroup stands.
type Level string

// The levels.
const (
	LevelContainer Level = "container"
	LevelPod       Level = "pod"
	LevelQoS       Level = "qos"      // burstable or besteffort
	LevelKubepods  Level = "kubepods" // all pods: node allocatable
	LevelService   Level = "service"  // a systemd service or a scope of the host
	LevelSlice     Level = "slice"    // a systemd slice that is not of Kubernetes
	LevelCgroup    Level = "cgroup"   // any other cgroup
	LevelNode      Level = "node"     // the whole machine
)

// Tier is how a hook, and through it an incident, was seen.
type Tier string

// The tiers, best first.
const (
	TierFentry     Tier = "fentry"
	TierKprobe     Tier = "kprobe"
	TierTracepoint Tier = "tracepoint"
)

// Role is why a victim died.
type Role string

// The roles.
const (
	RoleChosen   Role = "chosen"    // picked by badness
	RoleGroup    Role = "group"     // memory.oom.group of its cgroup or of an ancestor
	RoleSharedMM Role = "shared_mm" // it shares the memory of the victim (CLONE_VM)
	RoleUnknown  Role = "unknown"
)

// Envelope is common to all lines.
type Envelope struct {
	V      int       `json:"v"`
	Kind   string    `json:"kind"`
	Time   time.Time `json:"time"`
	BootID string    `json:"boot_id"`
	Node   string    `json:"node"`
}

// CgroupKey names a cgroup. Ids are unique only within a hierarchy (0 is
// cgroup v2); an id is never used again while the node is up.
type CgroupKey struct {
	Hierarchy uint32 `json:"hierarchy"`
	ID        uint64 `json:"id"`
}

// Cgroup is a cgroup as it is shown. Path is relative to the mount of its
// hierarchy and begins with "/"; it is empty where it could not be learnt.
type Cgroup struct {
	CgroupKey
	Path string `json:"path,omitempty"`
}

// Workload is what runs in a cgroup, as far as it is known.
type Workload struct {
	Namespace   string `json:"namespace,omitempty"`
	Pod         string `json:"pod,omitempty"`
	PodUID      string `json:"pod_uid,omitempty"`
	Container   string `json:"container,omitempty"`
	ContainerID string `json:"container_id,omitempty"`
	Runtime     string `json:"runtime,omitempty"`
	QoS         string `json:"qos,omitempty"`
	Unit        string `json:"unit,omitempty"`
	// NodeContainerID is the container that a nested node (kind, k3d) runs in.
	NodeContainerID string `json:"node_container_id,omitempty"`
	// Source says which resolver answered: path, log_dir, disk or cri.
	Source string `json:"source,omitempty"`
}

// Limiter is whose limit was hit.
type Limiter struct {
	Level Level `json:"level"`
	// Which is the file of the limit (memory.max, memory.limit_in_bytes,
	// memory.memsw.limit_in_bytes), or node, or numa_nodes.
	Which          string    `json:"which,omitempty"`
	LimitBytes     *uint64   `json:"limit_bytes,omitempty"`
	UsageBytes     *uint64   `json:"usage_bytes,omitempty"`
	SwapLimitBytes *uint64   `json:"swap_limit_bytes,omitempty"`
	SwapUsageBytes *uint64   `json:"swap_usage_bytes,omitempty"`
	Nodes          []int     `json:"nodes,omitempty"` // allowed NUMA nodes, of a cpuset or mempolicy OOM
	Cgroup         *Cgroup   `json:"cgroup,omitempty"`
	Workload       *Workload `json:"workload,omitempty"`
}

// Rung is one cgroup of the limit ladder at the instant of the kill. A limit
// that is absent, and not named in unknown, is not set.
type Rung struct {
	Cgroup         Cgroup  `json:"cgroup"`
	Level          Level   `json:"level"`
	UsageBytes     *uint64 `json:"usage_bytes,omitempty"`
	MaxBytes       *uint64 `json:"max_bytes,omitempty"`
	HighBytes      *uint64 `json:"high_bytes,omitempty"`
	PeakBytes      *uint64 `json:"peak_bytes,omitempty"`
	SwapUsageBytes *uint64 `json:"swap_usage_bytes,omitempty"`
	SwapMaxBytes   *uint64 `json:"swap_max_bytes,omitempty"`
	OOMGroup       *bool   `json:"oom_group,omitempty"`
	// Below marks the cgroups between the victim and the limiter.
	Below    bool      `json:"below,omitempty"`
	Workload *Workload `json:"workload,omitempty"`
}

// Process is a task and the process it belongs to. PID is the process (TGID),
// TID the thread; Comm is the process's name, Thread the thread's where it has
// another one.
type Process struct {
	PID      int       `json:"pid"`
	TID      int       `json:"tid"`
	Comm     string    `json:"comm"`                // name of the process (its leader thread)
	Thread   string    `json:"thread,omitempty"`    // name of the thread, where it differs
	IsKernel bool      `json:"is_kernel,omitempty"` // a kernel thread
	Cgroup   *Cgroup   `json:"cgroup,omitempty"`
	Workload *Workload `json:"workload,omitempty"`
}

// Victim is a process that was sent SIGKILL by the OOM path.
type Victim struct {
	Process
	Role          Role    `json:"role,omitempty"`
	AnonRSSBytes  *uint64 `json:"anon_rss_bytes,omitempty"`
	FileRSSBytes  *uint64 `json:"file_rss_bytes,omitempty"`
	ShmemRSSBytes *uint64 `json:"shmem_rss_bytes,omitempty"`
	SwapBytes     *uint64 `json:"swap_bytes,omitempty"`
	PgtablesBytes *uint64 `json:"pgtables_bytes,omitempty"`
	TotalVMBytes  *uint64 `json:"total_vm_bytes,omitempty"`
	OOMScoreAdj   *int    `json:"oom_score_adj,omitempty"`
	// Points is the badness, in pages, that made the kernel choose it.
	Points          *int64     `json:"points,omitempty"`
	UID             *uint32    `json:"uid,omitempty"`
	StartTime       *time.Time `json:"start_time,omitempty"`
	IsContainerInit *bool      `json:"is_container_init,omitempty"`
	// ExitAfterNS is SIGKILL to the exit of the last thread; ReleasedAfterNS is
	// SIGKILL to the memory being given back (end of exit_mmap).
	ExitAfterNS     *uint64 `json:"exit_after_ns,omitempty"`
	ReleasedAfterNS *uint64 `json:"released_after_ns,omitempty"`
}

// Killer is who sent the SIGKILL.
type Killer struct {
	Kind string `json:"kind"` // kernel (user is for later)
	Path string `json:"path"` // memcg, global, group, sysrq, unknown
	// GroupCgroup is the cgroup whose memory.oom.group=1 made it a group kill.
	GroupCgroup *Cgroup `json:"group_cgroup,omitempty"`
	GroupLevel  Level   `json:"group_level,omitempty"`
	PID         int     `json:"pid,omitempty"`
	Comm        string  `json:"comm,omitempty"`
}

// Allocation is what could not be had.
type Allocation struct {
	Order    *int     `json:"order,omitempty"`
	GFP      *uint32  `json:"gfp,omitempty"`
	GFPFlags []string `json:"gfp_flags,omitempty"`
	// TotalPages is what could be used at most: the limit plus swap, or RAM plus
	// swap. It is neither the victim's size nor the usage.
	TotalPages *uint64 `json:"total_pages,omitempty"`
	// Class is what the memory was for: anon_fault, page_cache, tmpfs, slab,
	// sock, pagetable, limit_lowered, sysrq, other.
	Class string `json:"class,omitempty"`
}

// Memory is the limiter's charge split.
type Memory struct {
	AnonBytes        *uint64 `json:"anon_bytes,omitempty"`
	FileBytes        *uint64 `json:"file_bytes,omitempty"`
	ShmemBytes       *uint64 `json:"shmem_bytes,omitempty"`
	SlabBytes        *uint64 `json:"slab_bytes,omitempty"`
	KernelStackBytes *uint64 `json:"kernel_stack_bytes,omitempty"`
	PagetablesBytes  *uint64 `json:"pagetables_bytes,omitempty"`
	SockBytes        *uint64 `json:"sock_bytes,omitempty"`
}

// Before is what stalled before a kill: tasks in the limiter and below it, or on
// the whole node.
type Before struct {
	WindowNS uint64 `json:"window_ns"`
	// Stalls is by kind, the longest in total first. A sleep for memory.high may
	// hold memcg reclaim within it: kinds do not add up.
	Stalls []StallSum `json:"stalls"`
	// Timeline has a row for each second in which something stalled, oldest first.
	Timeline []StallSecond `json:"timeline,omitempty"`
	// Unseen are kinds that the tier at hand cannot see.
	Unseen []string `json:"unseen,omitempty"`
	// Longest are the longest single stalls, longest first.
	Longest []LongStall `json:"longest,omitempty"`
	// Guardians are services that the whole node depends on, and that stalled, the
	// longest first, whatever the limiter.
	Guardians []GuardianStall `json:"guardians,omitempty"`
	// Kswapd is what the node's own reclaim did, where no cgroup limited.
	Kswapd []Kswapd `json:"kswapd,omitempty"`
	// GaveUp is why the allocator called the OOM killer, where no cgroup limited.
	GaveUp *GaveUpLine `json:"gave_up,omitempty"`
}

// GuardianStall is a service (kubelet, a runtime, sshd, ...) that stood still.
type GuardianStall struct {
	Unit    string `json:"unit"`
	TotalNS uint64 `json:"total_ns"`
}

// Kswapd is what kswapd did on one NUMA node in the window.
type Kswapd struct {
	Node    int    `json:"node"`
	Wakeups uint64 `json:"wakeups"`
	AwakeNS uint64 `json:"awake_ns"`
}

// GaveUpLine holds the last answers that the trigger got to whether another round
// of reclaim or compaction is worth it (mm/page_alloc.c: should_reclaim_retry,
// should_compact_retry).
type GaveUpLine struct {
	Reclaim *ReclaimAnswer `json:"reclaim,omitempty"`
	Compact *CompactAnswer `json:"compact,omitempty"`
}

// ReclaimAnswer is about the zone that was looked at last.
type ReclaimAnswer struct {
	BeforeNS          uint64 `json:"before_ns"`
	Order             uint32 `json:"order"`
	Zone              string `json:"zone"`
	Node              uint32 `json:"node"`
	ReclaimableBytes  uint64 `json:"reclaimable_bytes"`
	AvailableBytes    uint64 `json:"available_bytes"` // free and reclaimable
	MinWatermarkBytes uint64 `json:"min_watermark_bytes"`
	NoProgressLoops   uint32 `json:"no_progress_loops"`
	WatermarkOK       bool   `json:"watermark_ok"` // it would do if all could be reclaimed
}

// CompactAnswer is about compaction for an order above 0.
type CompactAnswer struct {
	BeforeNS   uint64 `json:"before_ns"`
	Order      uint32 `json:"order"`
	Priority   uint32 `json:"priority"`
	Result     string `json:"result"`
	Retries    uint32 `json:"retries"`
	MaxRetries uint32 `json:"max_retries"`
	Again      bool   `json:"again"`
}

// StallSum sums up one kind of stalls.
type StallSum struct {
	What      string `json:"what"` // memcg_reclaim, direct_reclaim, node_reclaim, memory_high, compaction, throttle, after_kill
	Count     uint64 `json:"count"`
	Fruitless uint64 `json:"fruitless_count"` // reclaimed nothing
	TotalNS   uint64 `json:"total_ns"`
	// MaxNS is the longest; of short ones rounded up to a power of two.
	MaxNS          uint64 `json:"max_ns"`
	ReclaimedBytes uint64 `json:"reclaimed_bytes"`
}

// StallSecond is one second before the kill.
type StallSecond struct {
	BeforeNS       uint64 `json:"before_ns"` // from its end to the kill
	Count          uint64 `json:"count"`
	TotalNS        uint64 `json:"total_ns"`
	ReclaimedBytes uint64 `json:"reclaimed_bytes"`
	// Of the limiter at its end, where a file could be read: its usage and limit,
	// and since it was made how long some or all of its tasks stood still for
	// memory, and how often the limit was reached.
	UsageBytes *uint64 `json:"usage_bytes,omitempty"`
	LimitBytes *uint64 `json:"limit_bytes,omitempty"`
	PSISomeNS  *uint64 `json:"psi_some_total_ns,omitempty"`
	PSIFullNS  *uint64 `json:"psi_full_total_ns,omitempty"`
	MaxEvents  *uint64 `json:"max_events,omitempty"`
}

// LongStall is a single stall.
type LongStall struct {
	What           string  `json:"what"`
	BeforeNS       uint64  `json:"before_ns"` // from its end to the kill
	DurationNS     uint64  `json:"duration_ns"`
	ReclaimedBytes uint64  `json:"reclaimed_bytes"`
	Task           Process `json:"task"`
	// Limiter is whose limit it reclaimed for, where the kernel tells.
	Limiter *Cgroup `json:"limiter,omitempty"`
}

// PressureLine is an early warning (Kind "pressure").
type PressureLine struct {
	Envelope
	// What is due: memory_high_throttling, reclaim_gains_nothing, guardian_stalled.
	What      string    `json:"what"`
	Cgroup    Cgroup    `json:"cgroup"`
	Workload  *Workload `json:"workload,omitempty"`
	WindowNS  uint64    `json:"window_ns"`
	TotalNS   uint64    `json:"total_ns"` // stalled in the window, of all its tasks
	Count     uint64    `json:"count"`
	Fruitless uint64    `json:"fruitless_count"`
}

// StallLine is a single long stall, told by itself (Kind "stall").
type StallLine struct {
	Envelope
	What           string  `json:"what"`
	DurationNS     uint64  `json:"duration_ns"`
	ReclaimedBytes uint64  `json:"reclaimed_bytes"`
	Task           Process `json:"task"`
	Limiter        *Cgroup `json:"limiter,omitempty"`
}

// Passes counts how often out_of_memory ran for this incident.
type Passes struct {
	Killed         uint64 `json:"killed,omitempty"`
	NoKillable     uint64 `json:"no_killable_task,omitempty"`
	Waiting        uint64 `json:"waiting_for_victim,omitempty"`
	AlreadyExiting uint64 `json:"already_exiting,omitempty"`
	Skipped        uint64 `json:"skipped,omitempty"`
}

// Audit compares the kernel's counters with what was reported.
type Audit struct {
	Victims int `json:"victims"` // processes reported as killed
	// KernelKills is how often __oom_kill_process was seen to send its SIGKILL:
	// the chosen victim of a group may be processed twice.
	KernelKills uint64 `json:"kernel_kills"`
	// VMStatDelta is the growth of oom_kill in /proc/vmstat over a window that
	// holds Incidents incidents with WindowKills kills by the kernel.
	VMStatDelta *uint64 `json:"vmstat_oom_kill,omitempty"`
	Incidents   int     `json:"window_incidents,omitempty"`
	WindowKills uint64  `json:"window_kernel_kills,omitempty"`
	// MemcgDelta is the growth of the limiter's memory.events oom_kill.
	MemcgDelta *uint64 `json:"memory_events_oom_kill,omitempty"`
	Explained  bool    `json:"explained"`
	Text       string  `json:"text"`
}

// Incident is one OOM decision with all its victims (Kind "incident"), or what
// was learnt of it later (Kind "incident_update": same id, only new or changed
// keys; victims are matched by pid).
type Incident struct {
	Envelope
	ID         string      `json:"id"`
	Scope      Scope       `json:"scope,omitempty"`
	Outcome    Outcome     `json:"outcome,omitempty"`
	Limiter    *Limiter    `json:"limiter,omitempty"`
	Ladder     []Rung      `json:"ladder,omitempty"`
	Trigger    *Process    `json:"trigger,omitempty"`
	Victims    []Victim    `json:"victims,omitempty"`
	Killer     *Killer     `json:"killer,omitempty"`
	Allocation *Allocation `json:"allocation,omitempty"`
	Memory     *Memory     `json:"memory,omitempty"`
	Before     *Before     `json:"before,omitempty"`
	Passes     *Passes     `json:"passes,omitempty"`
	Audit      *Audit      `json:"audit,omitempty"`
	// Notes are short remarks on what is unusual, for people.
	Notes   []string `json:"notes,omitempty"`
	Tier    Tier     `json:"tier,omitempty"`
	Unknown []string `json:"unknown,omitempty"`
}

// Lost tells of records that did not reach user space since the last such line.
type Lost struct {
	Envelope
	What  string `json:"what"`
	Count uint64 `json:"count"`
}

// Hook is how one hook is attached.
type Hook struct {
	Name string `json:"name"`
	Tier Tier   `json:"tier,omitempty"` // absent: not attached
	// Why says why a better tier was not taken.
	Why string `json:"why,omitempty"`
}

// Status opens and closes a trace, and carries audit findings that belong to
// no incident.
type Status struct {
	Envelope
	Phase         string `json:"phase"` // start, audit, end
	Text          string `json:"text,omitempty"`
	Tier          Tier   `json:"tier,omitempty"`
	CgroupMode    string `json:"cgroup_mode,omitempty"` // v1, v2, hybrid
	KernelRelease string `json:"kernel_release,omitempty"`
	PageSizeBytes int    `json:"page_size_bytes,omitempty"`
	Hooks         []Hook `json:"hooks,omitempty"`
	// Totals since the start (phase end).
	Incidents *uint64 `json:"incident_count,omitempty"`
	Victims   *uint64 `json:"victim_count,omitempty"`
	Lost      *uint64 `json:"lost_count,omitempty"`
}
