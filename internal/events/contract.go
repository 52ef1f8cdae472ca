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

import (
	"reflect"
	"time"
)

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
	ScopeUser      Scope = "user"      // a SIGKILL that no OOM explains: somebody in user space sent it
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
	OutcomePanic          Outcome = "panic"              // vm.panic_on_oom: the node went down (known from a kernel log only)
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
	// TierKernelLog is an incident that was read from a kernel log afterwards.
	TierKernelLog Tier = "kernel_log"
)

// StallKind is in what a task stalls.
type StallKind string

// The kinds of stalls. A sleep for memory.high may hold memcg reclaim within it.
const (
	StallMemcgReclaim  StallKind = "memcg_reclaim"  // for a cgroup's limit
	StallDirectReclaim StallKind = "direct_reclaim" // for the node
	StallNodeReclaim   StallKind = "node_reclaim"   // for one NUMA node
	StallMemoryHigh    StallKind = "memory_high"    // reclaim and sleep over memory.high
	StallCompaction    StallKind = "compaction"
	StallThrottle      StallKind = "throttle"   // asleep in reclaim
	StallAfterKill     StallKind = "after_kill" // reclaim by a process that has its SIGKILL
)

// Role is why a victim died.
type Role string

// The roles.
const (
	RoleChosen   Role = "chosen"    // picked by badness
	RoleGroup    Role = "group"     // memory.oom.group of its cgroup or of an ancestor
	RoleSharedMM Role = "shared_mm" // it shares the memory of the victim (CLONE_VM)
	RoleChild    Role = "child"     // sacrificed for its parent, which had been chosen (kernels before 5.1)
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

// Same compares two cgroups, by ids where both are known, else by paths: a kernel log
// has no ids. Known is false where too little is known of one.
func (c *Cgroup) Same(other *Cgroup) (equal, known bool) {
	switch {
	case c == nil || other == nil:
		return false, false
	case c.ID != 0 && other.ID != 0:
		return c.CgroupKey == other.CgroupKey, true
	case c.Path != "" && other.Path != "":
		return c.Path == other.Path, true
	}

	return false, false
}

// Is reports whether two cgroups are known to be the same.
func (c *Cgroup) Is(other *Cgroup) bool {
	equal, _ := c.Same(other)
	return equal
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
	Image           string `json:"image,omitempty"` // as the runtime names it
	// Labels are the pod's.
	Labels map[string]string `json:"labels,omitempty"`
	// RestartCount is how often the container was started anew in its pod.
	RestartCount *uint32 `json:"restart_count,omitempty"`
	// OOMScoreAdj is what the runtime was told to give the container.
	OOMScoreAdj *int `json:"oom_score_adj,omitempty"`
	// Source says which resolver answered: path, log_dir, disk, cri or kubelet.
	Source string `json:"source,omitempty"`
}

// IsZero tells that nothing is known.
func (w *Workload) IsZero() bool { return reflect.ValueOf(*w).IsZero() }

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
	Kind string `json:"kind"` // kernel, user
	// Path is how: of the kernel memcg, global, group, sysrq; of user space
	// runtime, systemd, systemd-oomd, earlyoom, oomd, self (from inside the
	// container), pidns (the end of the pid namespace), cgroup_kill, human, other;
	// also nohang, cron, and kernel (ptrace, RLIMIT_CPU, a page that went bad).
	Path string `json:"path"`
	// GroupCgroup is the cgroup whose memory.oom.group=1 made it a group kill.
	GroupCgroup *Cgroup `json:"group_cgroup,omitempty"`
	GroupLevel  Level   `json:"group_level,omitempty"`
	// The process that sent it, of user space.
	PID    int     `json:"pid,omitempty"`
	Comm   string  `json:"comm,omitempty"`
	Exe    string  `json:"exe,omitempty"`
	UID    *uint32 `json:"uid,omitempty"`
	Cgroup *Cgroup `json:"cgroup,omitempty"`
	// Ancestry is its parents, the nearest first.
	Ancestry []Ancestor `json:"ancestry,omitempty"`
	// Reason is why, as far as the node's evidence goes: eviction, delete, probe,
	// preemption, unit_stop, timeout, memory_pressure, asked. Evidence is what it
	// rests on.
	Reason   string     `json:"reason,omitempty"`
	Evidence []Evidence `json:"evidence,omitempty"`
	// TermBeforeNS is how long before the first SIGKILL a SIGTERM was sent to the
	// same cgroup; absent: none was seen.
	TermBeforeNS *uint64 `json:"term_before_ns,omitempty"`
	// Login is the human behind it.
	Login *Login `json:"login,omitempty"`
}

// Ancestor is a parent of the sender.
type Ancestor struct {
	PID  int    `json:"pid"`
	Comm string `json:"comm"`
	Exe  string `json:"exe,omitempty"`
}

// Login is a session of a person.
type Login struct {
	Session  string `json:"session,omitempty"` // of logind
	TTY      string `json:"tty,omitempty"`
	User     string `json:"user,omitempty"`      // who logged in (loginuid)
	SudoUser string `json:"sudo_user,omitempty"` // who called sudo
}

// Evidence is one fact and where it comes from.
type Evidence struct {
	What   string `json:"what"`
	Value  string `json:"value"`
	Source string `json:"source"`
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
	// Parts of the above: of file, of anon and of slab.
	FileDirtyBytes         *uint64 `json:"file_dirty_bytes,omitempty"`
	FileWritebackBytes     *uint64 `json:"file_writeback_bytes,omitempty"`
	ActiveFileBytes        *uint64 `json:"active_file_bytes,omitempty"`
	InactiveFileBytes      *uint64 `json:"inactive_file_bytes,omitempty"`
	UnevictableBytes       *uint64 `json:"unevictable_bytes,omitempty"`
	AnonTHPBytes           *uint64 `json:"anon_thp_bytes,omitempty"`
	SlabReclaimableBytes   *uint64 `json:"slab_reclaimable_bytes,omitempty"`
	SlabUnreclaimableBytes *uint64 `json:"slab_unreclaimable_bytes,omitempty"`
	PercpuBytes            *uint64 `json:"percpu_bytes,omitempty"`
}

// Share is what one cgroup has of a limit that it has to share.
type Share struct {
	Cgroup     Cgroup    `json:"cgroup"`
	Level      Level     `json:"level"`
	Workload   *Workload `json:"workload,omitempty"`
	UsageBytes *uint64   `json:"usage_bytes,omitempty"`
	MaxBytes   *uint64   `json:"max_bytes,omitempty"` // absent: no limit of its own
}

// Candidate is a process that could have been killed.
type Candidate struct {
	Process
	AnonRSSBytes  *uint64 `json:"anon_rss_bytes,omitempty"`
	FileRSSBytes  *uint64 `json:"file_rss_bytes,omitempty"`
	ShmemRSSBytes *uint64 `json:"shmem_rss_bytes,omitempty"`
	// RSSBytes is the sum, where only that is known.
	RSSBytes      *uint64 `json:"rss_bytes,omitempty"`
	SwapBytes     *uint64 `json:"swap_bytes,omitempty"`
	PgtablesBytes *uint64 `json:"pgtables_bytes,omitempty"`
	OOMScoreAdj   *int    `json:"oom_score_adj,omitempty"`
	// Points is the badness in pages, as the kernel counts it (mm/oom_kill.c:
	// oom_badness).
	Points *int64 `json:"points,omitempty"`
	Victim bool   `json:"victim,omitempty"`
	// Unkillable is true of oom_score_adj -1000.
	Unkillable bool `json:"unkillable,omitempty"`
}

// NodeState is the memory of the whole machine.
type NodeState struct {
	// AfterNS is how long after the kill it was read; absent: the kernel wrote it
	// at the kill.
	AfterNS           *uint64     `json:"after_ns,omitempty"`
	TotalBytes        *uint64     `json:"total_bytes,omitempty"`
	FreeBytes         *uint64     `json:"free_bytes,omitempty"`
	AvailableBytes    *uint64     `json:"available_bytes,omitempty"` // MemAvailable
	AnonBytes         *uint64     `json:"anon_bytes,omitempty"`
	FileBytes         *uint64     `json:"file_bytes,omitempty"`
	ShmemBytes        *uint64     `json:"shmem_bytes,omitempty"`
	DirtyBytes        *uint64     `json:"dirty_bytes,omitempty"`
	WritebackBytes    *uint64     `json:"writeback_bytes,omitempty"`
	SlabReclaimable   *uint64     `json:"slab_reclaimable_bytes,omitempty"`
	SlabUnreclaimable *uint64     `json:"slab_unreclaimable_bytes,omitempty"`
	KernelStackBytes  *uint64     `json:"kernel_stack_bytes,omitempty"`
	PagetablesBytes   *uint64     `json:"pagetables_bytes,omitempty"`
	UnevictableBytes  *uint64     `json:"unevictable_bytes,omitempty"`
	AnonTHPBytes      *uint64     `json:"anon_thp_bytes,omitempty"`
	HugetlbBytes      *uint64     `json:"hugetlb_bytes,omitempty"`
	HugetlbFreeBytes  *uint64     `json:"hugetlb_free_bytes,omitempty"`
	SwapTotalBytes    *uint64     `json:"swap_total_bytes,omitempty"`
	SwapFreeBytes     *uint64     `json:"swap_free_bytes,omitempty"`
	PSISome           *PSI        `json:"psi_some,omitempty"`
	PSIFull           *PSI        `json:"psi_full,omitempty"`
	Zones             []Zone      `json:"zones,omitempty"`
	Slabs             []SlabCache `json:"slabs,omitempty"` // the largest first
	TransparentHuge   string      `json:"transparent_hugepage,omitempty"`
	// Cgroups are the largest cgroups of the first two levels, largest first.
	Cgroups []Share `json:"cgroups,omitempty"`
}

// PSI is the share of the time that tasks stood still for memory, in percent.
type PSI struct {
	Avg10  float64 `json:"avg10"`
	Avg60  float64 `json:"avg60"`
	Avg300 float64 `json:"avg300"`
}

// Zone is one zone of one NUMA node.
type Zone struct {
	Node         int     `json:"node"`
	Zone         string  `json:"zone"`
	FreeBytes    *uint64 `json:"free_bytes,omitempty"`
	MinBytes     *uint64 `json:"min_bytes,omitempty"`
	LowBytes     *uint64 `json:"low_bytes,omitempty"`
	HighBytes    *uint64 `json:"high_bytes,omitempty"`
	ManagedBytes *uint64 `json:"managed_bytes,omitempty"`
	// FreeBlocks counts free blocks by order: FreeBlocks[3] are of 8 pages.
	FreeBlocks []uint64 `json:"free_blocks,omitempty"`
}

// SlabCache is a cache of the kernel's slab allocator.
type SlabCache struct {
	Name  string `json:"name"`
	Bytes uint64 `json:"bytes"`
}

// Eviction is the kubelet's side: how far the node was from an eviction, and
// whether one lost the race against the kernel.
type Eviction struct {
	// AvailableBytes is memory.available as the kubelet computes it.
	AvailableBytes *uint64 `json:"available_bytes,omitempty"`
	// MemAvailableBytes is the kernel's own idea, of /proc/meminfo.
	MemAvailableBytes *uint64 `json:"mem_available_bytes,omitempty"`
	// HardBytes and SoftBytes are the thresholds; Signals has them all as they are
	// configured.
	HardBytes *uint64           `json:"hard_bytes,omitempty"`
	SoftBytes *uint64           `json:"soft_bytes,omitempty"`
	Signals   map[string]string `json:"signals,omitempty"`
	// HardSinceNS and SoftSinceNS are how long it had been below the threshold;
	// absent: it was not.
	HardSinceNS *uint64 `json:"hard_since_ns,omitempty"`
	SoftSinceNS *uint64 `json:"soft_since_ns,omitempty"`
	Text        string  `json:"text,omitempty"`   // for people
	Source      string  `json:"source,omitempty"` // where the thresholds come from
	// Log are the kubelet's own lines about it.
	Log []string `json:"log,omitempty"`
}

// Reported is what the container runtime says of a container's end, beside what
// the kernel did.
type Reported struct {
	ContainerID string `json:"container_id"`
	Container   string `json:"container,omitempty"`
	State       string `json:"state"` // running, exited, unknown
	Reason      string `json:"reason,omitempty"`
	ExitCode    *int   `json:"exit_code,omitempty"`
	Source      string `json:"source"` // cri, disk
	// Agrees tells whether it is what the kernel did. Text says it, for people.
	Agrees bool   `json:"agrees"`
	Text   string `json:"text"`
}

// Cause is why it came to the kill: a rule whose evidence is there.
type Cause struct {
	ID         string     `json:"id"`
	Text       string     `json:"text"`
	Confidence string     `json:"confidence"` // certain, likely, possible
	Evidence   []Evidence `json:"evidence"`
	Advice     []Advice   `json:"advice,omitempty"`
	// Reference is where more is told of it.
	Reference string `json:"reference,omitempty"`
}

// Advice is what can be done about a cause.
type Advice struct {
	Layer string `json:"layer"` // kubernetes, cgroup, kernel, application
	Text  string `json:"text"`
}

// Log is where in a kernel log an incident was read.
type Log struct {
	FirstLine int `json:"first_line"`
	LastLine  int `json:"last_line"`
	// UptimeNS is the log's own clock: since boot, and some milliseconds off the
	// other clocks.
	UptimeNS *uint64 `json:"uptime_ns,omitempty"`
	// Truncated tells that the report has gaps, or no end.
	Truncated bool `json:"truncated,omitempty"`
	// Panic tells that the kernel went down with it.
	Panic bool `json:"panic,omitempty"`
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
	HighNS         uint64 `json:"memory_high_ns,omitempty"` // of it, held up over memory.high
	ReclaimedBytes uint64 `json:"reclaimed_bytes"`
	// Of the limiter at its end, where a file could be read: its usage and limit,
	// and since it was made how long some or all of its tasks stood still for
	// memory, and how often the limit was reached.
	UsageBytes *uint64 `json:"usage_bytes,omitempty"`
	LimitBytes *uint64 `json:"limit_bytes,omitempty"`
	PSISomeNS  *uint64 `json:"psi_some_total_ns,omitempty"`
	PSIFullNS  *uint64 `json:"psi_full_total_ns,omitempty"`
	MaxEvents  *uint64 `json:"max_events,omitempty"`
	// HighEvents is how often memory.high made them reclaim, since it was made.
	HighEvents *uint64 `json:"high_events,omitempty"`
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
	// Shares are the cgroups right below the limiter, the largest first.
	Shares     []Share     `json:"shares,omitempty"`
	Candidates []Candidate `json:"candidates,omitempty"` // the likeliest first
	// How many more there were.
	SharesLeftOut     int        `json:"shares_left_out,omitempty"`
	CandidatesLeftOut int        `json:"candidates_left_out,omitempty"`
	NodeState         *NodeState `json:"node_state,omitempty"`
	Eviction          *Eviction  `json:"eviction,omitempty"`
	Reported          []Reported `json:"reported,omitempty"`
	Causes            []Cause    `json:"causes,omitempty"` // the best supported first
	Log               *Log       `json:"log,omitempty"`    // of tier kernel_log
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
	// Shown is how many of the incidents passed a filter, on their way to people. It
	// is no key of the contract.
	Shown *uint64 `json:"-"`
}
