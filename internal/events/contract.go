// SPDX-License-Identifier: Apache-2.0

// Package events is the event contract: the lines of -o json, of recordings and
// of replay. It imports nothing of the project, so that replay, reports and
// fuzzing stay light.
//
// Comments of types, fields and constants are published: the schema and the tables
// of docs/events.md are made from them, with the JSON key in the place of the
// field's name.
//
// Rules of the contract: keys are only ever added. Sizes are bytes (_bytes),
// durations nanoseconds (_ns), times RFC 3339 in UTC with nanoseconds. What
// could not be read is absent and named in "unknown"; zero means zero.
package events

import (
	"reflect"
	"strings"
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

// Scope is the scope of the shortage of memory, or of a kill without one.
type Scope string

// The scopes. A constraint that a future kernel adds is passed through under
// the kernel's own name.
const (
	ScopeMemcg     Scope = "memcg"     // a cgroup's limit
	ScopeGlobal    Scope = "global"    // the whole node
	ScopeCpuset    Scope = "cpuset"    // the NUMA nodes of a cpuset
	ScopeMempolicy Scope = "mempolicy" // the NUMA nodes of a memory policy
	ScopeSysrq     Scope = "sysrq"     // sysrq-f: nothing ran out
	ScopeUser      Scope = "user"      // a SIGKILL that the OOM killer did not send
	ScopeUnknown   Scope = "unknown"   // the evidence was lost
)

// Outcome is the result of an OOM invocation.
type Outcome string

// The outcomes.
const (
	OutcomeKilled         Outcome = "killed"             // at least one process was sent SIGKILL
	OutcomeNoKillable     Outcome = "no_killable_task"   // nothing could be killed
	OutcomeWaiting        Outcome = "waiting_for_victim" // an earlier victim is still dying
	OutcomeAlreadyExiting Outcome = "already_exiting"    // the chosen task was exiting by itself: no signal, no count
	OutcomeSkipped        Outcome = "skipped"            // out_of_memory returned without a choice (no __GFP_FS, or a notifier freed memory)
	OutcomePanic          Outcome = "panic"              // vm.panic_on_oom: the kernel panicked (known from a kernel log only)
)

// Level is the level of a cgroup in the cgroup tree of the node.
type Level string

// The levels.
const (
	LevelContainer Level = "container" // a container
	LevelPod       Level = "pod"       // a pod
	LevelQoS       Level = "qos"       // burstable or besteffort
	LevelKubepods  Level = "kubepods"  // all pods: node allocatable
	LevelService   Level = "service"   // a systemd service or a scope of the host
	LevelSlice     Level = "slice"     // a systemd slice that is not of Kubernetes
	LevelCgroup    Level = "cgroup"    // any other cgroup
	LevelNode      Level = "node"      // the whole machine
)

// Tier is the attach mode of a hook, or the source of an incident.
type Tier string

// The tiers, best first.
const (
	TierFentry     Tier = "fentry"     // BPF trampolines
	TierKprobe     Tier = "kprobe"     // kprobes
	TierTracepoint Tier = "tracepoint" // tracepoints only, which provide less
	// TierKernelLog is an incident that was read from a kernel log afterwards.
	TierKernelLog Tier = "kernel_log"
)

// StallKind is the kind of a stall.
type StallKind string

// The kinds of stalls. A sleep for memory.high may hold memcg reclaim within it.
const (
	StallMemcgReclaim  StallKind = "memcg_reclaim"  // for a cgroup's limit
	StallDirectReclaim StallKind = "direct_reclaim" // for the node
	StallNodeReclaim   StallKind = "node_reclaim"   // for one NUMA node
	StallMemoryHigh    StallKind = "memory_high"    // reclaim and sleep over memory.high
	StallCompaction    StallKind = "compaction"     // compaction
	StallThrottle      StallKind = "throttle"       // asleep in reclaim
	StallAfterKill     StallKind = "after_kill"     // reclaim by a process that already has its SIGKILL
)

// Role is the reason why a victim was killed.
type Role string

// The roles.
const (
	RoleChosen   Role = "chosen"    // chosen by badness
	RoleGroup    Role = "group"     // memory.oom.group of its cgroup or of an ancestor
	RoleSharedMM Role = "shared_mm" // it shares the memory of the victim (CLONE_VM)
	RoleChild    Role = "child"     // sacrificed for its parent, which had been chosen (kernels before 5.1)
	RoleUnknown  Role = "unknown"   // the evidence was lost
)

// The kinds of early warnings, as PressureLine.What has them.
const (
	PressureMemoryHigh = "memory_high_throttling" // a cgroup is throttled over memory.high
	PressureNoProgress = "reclaim_gains_nothing"  // reclaim makes no progress, an OOM kill is imminent
	PressureCritical   = "guardian_stalled"       // a critical service is stalled
)

// What was lost, as Lost.What has it, beside the kinds of records.
const (
	LostRecording      = "recording"       // lines that could not be recorded
	LostNameLookup     = "name_lookup"     // look-ups of names, or of reports of container runtimes
	LostHostState      = "host_state"      // readings of the state of the host
	LostStallHistory   = "stall_history"   // stalls that were evicted from the flight recorder
	LostIncidentUpdate = "incident_update" // updates that came too late
)

// The phases of a trace, as Status.Phase has them.
const (
	PhaseStart = "start"
	PhaseAudit = "audit" // a finding of the audit that belongs to no incident
	PhaseEnd   = "end"
)

// The confidence in a cause, as Cause.Confidence has it.
const (
	ConfidenceCertain  = "certain"  // the evidence leaves nothing else
	ConfidenceLikely   = "likely"   // the evidence fits, and that of another cause could look the same
	ConfidencePossible = "possible" // worth checking
)

// The kinds of killers, as Killer.Kind has them.
const (
	KillerKernel = "kernel"
	KillerUser   = "user"
)

// The ways of a kill by the OOM killer, as Killer.Path has them.
const (
	PathMemcg   = "memcg"
	PathGlobal  = "global"
	PathGroup   = "group" // memory.oom.group
	PathSysrq   = "sysrq"
	PathUnknown = "unknown"
)

// The senders of a SIGKILL in scope user, as Killer.Path has them.
const (
	PathRuntime     = "runtime"      // a container runtime, on request of a client
	PathSystemd     = "systemd"      // a service manager
	PathSystemdOOMD = "systemd-oomd" // this and the next three kill to free memory
	PathEarlyOOM    = "earlyoom"
	PathOOMD        = "oomd"
	PathNohang      = "nohang"
	PathSelf        = "self"        // a process of the same container or service
	PathPIDNS       = "pidns"       // PID 1 of the container exited, and the kernel killed the others
	PathCgroupKill  = "cgroup_kill" // a write to cgroup.kill by any other process
	PathHuman       = "human"       // a login session, a terminal
	PathCron        = "cron"
	PathKernel      = "kernel" // ptrace, RLIMIT_CPU, a page that went bad
	PathOther       = "other"
)

// The reasons of a kill in scope user, as Killer.Reason has them.
const (
	ReasonEviction   = "eviction"
	ReasonDelete     = "delete"
	ReasonProbe      = "probe"
	ReasonPreemption = "preemption"
	ReasonUnitStop   = "unit_stop"
	ReasonTimeout    = "timeout" // of a stop: SIGTERM was not enough
	ReasonMemory     = "memory_pressure"
	ReasonAsked      = "asked"
)

// Envelope is common to all lines.
type Envelope struct {
	// V is the version of the contract, 1. It changes only if a rule of the contract is broken.
	V int `json:"v"`
	// Kind is the kind of the line.
	Kind string `json:"kind"`
	// Time is when it happened: of an incident, its first victim, or its first OOM invocation if
	// nothing was killed.
	Time time.Time `json:"time"`
	// BootID is the id of the boot, /proc/sys/kernel/random/boot_id.
	BootID string `json:"boot_id"`
	// Node is the name of the node.
	Node string `json:"node"`
}

// CgroupKey names a cgroup. Ids are unique only within a hierarchy (0 is
// cgroup v2); an id is never used again while the node is up.
type CgroupKey struct {
	// Hierarchy is the hierarchy of the cgroup; 0 is cgroup v2.
	Hierarchy uint32 `json:"hierarchy"`
	// ID is unique within the hierarchy, and never used again while the node is up.
	ID uint64 `json:"id"`
}

// Cgroup is a cgroup as it is shown. Path is relative to the mount of its
// hierarchy and starts with "/"; it is empty if it could not be read.
type Cgroup struct {
	CgroupKey
	// Path is the path from the mount of the hierarchy, starting with "/"; absent if it could not be
	// read.
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
	// Namespace is the namespace of the pod.
	Namespace string `json:"namespace,omitempty"`
	// Pod is the name of the pod.
	Pod string `json:"pod,omitempty"`
	// PodUID is the UID of the pod.
	PodUID string `json:"pod_uid,omitempty"`
	// Container is the name of the container in its pod.
	Container string `json:"container,omitempty"`
	// ContainerID is the id of the container, as the runtime has it.
	ContainerID string `json:"container_id,omitempty"`
	// Runtime is the container runtime, as the cgroup path names it, such as containerd.
	Runtime string `json:"runtime,omitempty"`
	// QoS is the QoS class of the pod: guaranteed, burstable, besteffort.
	QoS string `json:"qos,omitempty"`
	// Unit is the systemd unit.
	Unit string `json:"unit,omitempty"`
	// NodeContainerID is the container that a nested node (kind, k3d) runs in.
	NodeContainerID string `json:"node_container_id,omitempty"`
	// Image is the image of the container, as the runtime names it.
	Image string `json:"image,omitempty"`
	// Labels are the labels of the pod.
	Labels map[string]string `json:"labels,omitempty"`
	// RestartCount is how often the container was restarted in its pod.
	RestartCount *uint32 `json:"restart_count,omitempty"`
	// OOMScoreAdj is the oom_score_adj in the configuration of the container.
	OOMScoreAdj *int `json:"oom_score_adj,omitempty"`
	// Source is the best source that answered: path, log_dir, disk, cri, kubelet.
	Source string `json:"source,omitempty"`
}

// IsZero reports whether nothing is known.
func (w *Workload) IsZero() bool { return reflect.ValueOf(*w).IsZero() }

// Limiter is the owner of the limit that was hit.
type Limiter struct {
	// Level is the level of the limiter in the cgroup tree of the node.
	Level Level `json:"level"`
	// Which is the file of the limit: memory.max, memory.limit_in_bytes, memory.memsw.limit_in_bytes;
	// or node; or numa_nodes.
	Which string `json:"which,omitempty"`
	// LimitBytes is the limit that was hit.
	LimitBytes *uint64 `json:"limit_bytes,omitempty"`
	// UsageBytes is the usage under that limit.
	UsageBytes *uint64 `json:"usage_bytes,omitempty"`
	// SwapLimitBytes is the limit of swap; of memory and swap together in cgroup v1.
	SwapLimitBytes *uint64 `json:"swap_limit_bytes,omitempty"`
	// SwapUsageBytes is the swap in use; memory and swap together in cgroup v1.
	SwapUsageBytes *uint64 `json:"swap_usage_bytes,omitempty"`
	// Nodes are the allowed NUMA nodes, for scope cpuset and mempolicy.
	Nodes []int `json:"nodes,omitempty"`
	// Cgroup is the cgroup of the limiter; absent if it is the node.
	Cgroup *Cgroup `json:"cgroup,omitempty"`
	// Workload is what runs in it.
	Workload *Workload `json:"workload,omitempty"`
}

// V1 reports whether the limit is of cgroup v1, which counts swap together with memory, and
// has neither memory.high nor memory.oom.group. A kernel log has no hierarchies, but the
// file of the limit.
func (l *Limiter) V1() bool {
	return l != nil && (l.Cgroup != nil && l.Cgroup.Hierarchy != 0 ||
		strings.HasPrefix(l.Which, "memory.limit_in_bytes") || strings.HasPrefix(l.Which, "memory.memsw."))
}

// Rung is one memcg of the ladder at the instant of the kill. A limit that is absent, and not named in
// unknown, is not set.
type Rung struct {
	// Cgroup is the memcg.
	Cgroup Cgroup `json:"cgroup"`
	// Level is its level in the cgroup tree of the node.
	Level Level `json:"level"`
	// UsageBytes is its usage, including that of its descendants.
	UsageBytes *uint64 `json:"usage_bytes,omitempty"`
	// MaxBytes is its limit.
	MaxBytes *uint64 `json:"max_bytes,omitempty"`
	// HighBytes is its memory.high.
	HighBytes *uint64 `json:"high_bytes,omitempty"`
	// PeakBytes is its highest usage so far.
	PeakBytes *uint64 `json:"peak_bytes,omitempty"`
	// SwapUsageBytes is the swap in use; memory and swap together in cgroup v1.
	SwapUsageBytes *uint64 `json:"swap_usage_bytes,omitempty"`
	// SwapMaxBytes is its limit of swap; of memory and swap together in cgroup v1.
	SwapMaxBytes *uint64 `json:"swap_max_bytes,omitempty"`
	// OOMGroup is the value of its memory.oom.group.
	OOMGroup *bool `json:"oom_group,omitempty"`
	// Below is true for a cgroup between the victim and the limiter.
	Below bool `json:"below,omitempty"`
	// Workload is what runs in it.
	Workload *Workload `json:"workload,omitempty"`
}

// Process is a task and the process that it belongs to.
type Process struct {
	// PID is the process id (TGID).
	PID int `json:"pid"`
	// TID is the id of the thread.
	TID int `json:"tid"`
	// Comm is the name of the process (of its leader thread).
	Comm string `json:"comm"`
	// Thread is the name of the thread, where it differs.
	Thread string `json:"thread,omitempty"`
	// IsKernel is true for a kernel thread.
	IsKernel bool `json:"is_kernel,omitempty"`
	// Cgroup is its cgroup in the hierarchy of the memory controller.
	Cgroup *Cgroup `json:"cgroup,omitempty"`
	// Workload is what runs in that cgroup.
	Workload *Workload `json:"workload,omitempty"`
}

// Victim is a process that the OOM path sent SIGKILL. Its sizes are those at the signal.
type Victim struct {
	Process
	// Role is why it died; absent in scope user.
	Role Role `json:"role,omitempty"`
	// AnonRSSBytes is its resident anonymous memory.
	AnonRSSBytes *uint64 `json:"anon_rss_bytes,omitempty"`
	// FileRSSBytes is its resident file pages.
	FileRSSBytes *uint64 `json:"file_rss_bytes,omitempty"`
	// ShmemRSSBytes is its resident shared memory, tmpfs included.
	ShmemRSSBytes *uint64 `json:"shmem_rss_bytes,omitempty"`
	// SwapBytes is its memory in swap.
	SwapBytes *uint64 `json:"swap_bytes,omitempty"`
	// PgtablesBytes is the memory of its page tables.
	PgtablesBytes *uint64 `json:"pgtables_bytes,omitempty"`
	// TotalVMBytes is the size of its address space.
	TotalVMBytes *uint64 `json:"total_vm_bytes,omitempty"`
	// OOMScoreAdj is its oom_score_adj.
	OOMScoreAdj *int `json:"oom_score_adj,omitempty"`
	// Points is the badness, in pages, by which the kernel chose it.
	Points *int64 `json:"points,omitempty"`
	// UID is its real user id.
	UID *uint32 `json:"uid,omitempty"`
	// StartTime is when it was started.
	StartTime *time.Time `json:"start_time,omitempty"`
	// IsContainerInit is true for PID 1 of a PID namespace.
	IsContainerInit *bool `json:"is_container_init,omitempty"`
	// ExitAfterNS is the time from SIGKILL to the exit of its last thread.
	ExitAfterNS *uint64 `json:"exit_after_ns,omitempty"`
	// ReleasedAfterNS is the time from SIGKILL to the memory being given back (end of exit_mmap).
	ReleasedAfterNS *uint64 `json:"released_after_ns,omitempty"`
}

// Killer is the sender of the SIGKILL.
type Killer struct {
	// Kind is kernel or user. In scope user it is kernel where the kernel itself sent the signal:
	// ptrace, RLIMIT_CPU, a page that went bad.
	Kind string `json:"kind"`
	// Path is the way of the kill: by the OOM killer memcg, global, group, sysrq or unknown; in scope
	// user runtime, systemd, systemd-oomd, earlyoom, oomd, nohang, self, pidns, cgroup_kill, human,
	// cron, kernel or other.
	Path string `json:"path"`
	// GroupCgroup is the cgroup whose memory.oom.group=1 made it a group kill.
	GroupCgroup *Cgroup `json:"group_cgroup,omitempty"`
	// GroupLevel is the level of that cgroup.
	GroupLevel Level `json:"group_level,omitempty"`
	// PID is the process id of the sender, in scope user.
	PID int `json:"pid,omitempty"`
	// Comm is the name of the sender.
	Comm string `json:"comm,omitempty"`
	// Exe is the executable of the sender; only the last name of its path if it was gone before it
	// could be read.
	Exe string `json:"exe,omitempty"`
	// UID is the user id of the sender.
	UID *uint32 `json:"uid,omitempty"`
	// Cgroup is the cgroup of the sender.
	Cgroup *Cgroup `json:"cgroup,omitempty"`
	// Ancestry are the ancestors of the sender, the nearest first: the first eight as the kernel had
	// them at that instant.
	Ancestry []Ancestor `json:"ancestry,omitempty"`
	// Reason is the reason, as far as the node has evidence of it: eviction, delete, probe, preemption,
	// unit_stop, timeout, memory_pressure or asked.
	Reason string `json:"reason,omitempty"`
	// Evidence supports path and reason.
	Evidence []Evidence `json:"evidence,omitempty"`
	// TermBeforeNS is the time from the last SIGTERM to the same cgroup, or from the first of those
	// that were forwarded within it; absent: none since the victim started.
	TermBeforeNS *uint64 `json:"term_before_ns,omitempty"`
	// Login is the login session of the sender.
	Login *Login `json:"login,omitempty"`
}

// Ancestor is a parent of the sender, or a parent of its parents.
type Ancestor struct {
	// PID is the process id.
	PID int `json:"pid"`
	// Comm is the name of the process.
	Comm string `json:"comm"`
	// Exe is the path of its executable.
	Exe string `json:"exe,omitempty"`
}

// Login is a login session.
type Login struct {
	// Session is the session of logind.
	Session string `json:"session,omitempty"`
	// TTY is the terminal.
	TTY string `json:"tty,omitempty"`
	// User is the user who logged in (loginuid), also through sudo.
	User string `json:"user,omitempty"`
	// SudoUser is SUDO_USER of the environment, which any user may set.
	SudoUser string `json:"sudo_user,omitempty"`
}

// Evidence is one fact and its source.
type Evidence struct {
	// What is the name of the fact.
	What string `json:"what"`
	// Value is its value, as text for users.
	Value string `json:"value"`
	// Source is the file or record that it was read from.
	Source string `json:"source"`
}

// Allocation describes the allocation that failed.
type Allocation struct {
	// Order is the order: 2^order pages; -1 for sysrq-f.
	Order *int `json:"order,omitempty"`
	// GFP is the gfp flags, as a number.
	GFP *uint32 `json:"gfp,omitempty"`
	// GFPFlags are the gfp flags by name.
	GFPFlags []string `json:"gfp_flags,omitempty"`
	// TotalPages is the most that can be used: the limit plus swap, or RAM plus swap. It is neither
	// the size of the victim nor the usage; oomkill of bcc prints it.
	TotalPages *uint64 `json:"total_pages,omitempty"`
	// Class is the use of the memory: anon_fault, page_cache, tmpfs, slab, sock, pagetable,
	// limit_lowered, sysrq, other.
	Class string `json:"class,omitempty"`
}

// Memory is the charge of the limiter by kind. The file part includes shmem.
type Memory struct {
	// AnonBytes is anonymous memory.
	AnonBytes *uint64 `json:"anon_bytes,omitempty"`
	// FileBytes is page cache, with shared memory.
	FileBytes *uint64 `json:"file_bytes,omitempty"`
	// ShmemBytes is shared memory and tmpfs.
	ShmemBytes *uint64 `json:"shmem_bytes,omitempty"`
	// SlabBytes is slab.
	SlabBytes *uint64 `json:"slab_bytes,omitempty"`
	// KernelStackBytes is kernel stacks.
	KernelStackBytes *uint64 `json:"kernel_stack_bytes,omitempty"`
	// PagetablesBytes is page tables.
	PagetablesBytes *uint64 `json:"pagetables_bytes,omitempty"`
	// SockBytes is socket buffers.
	SockBytes *uint64 `json:"sock_bytes,omitempty"`
	// FileDirtyBytes is the part of file that is dirty.
	FileDirtyBytes *uint64 `json:"file_dirty_bytes,omitempty"`
	// FileWritebackBytes is the part of file under writeback.
	FileWritebackBytes *uint64 `json:"file_writeback_bytes,omitempty"`
	// ActiveFileBytes is the part of file on the active list.
	ActiveFileBytes *uint64 `json:"active_file_bytes,omitempty"`
	// InactiveFileBytes is the part of file on the inactive list.
	InactiveFileBytes *uint64 `json:"inactive_file_bytes,omitempty"`
	// UnevictableBytes is the part of anon and file that is locked.
	UnevictableBytes *uint64 `json:"unevictable_bytes,omitempty"`
	// AnonTHPBytes is the part of anon in transparent huge pages.
	AnonTHPBytes *uint64 `json:"anon_thp_bytes,omitempty"`
	// SlabReclaimableBytes is the part of slab that can be reclaimed.
	SlabReclaimableBytes *uint64 `json:"slab_reclaimable_bytes,omitempty"`
	// SlabUnreclaimableBytes is the part of slab that cannot be reclaimed.
	SlabUnreclaimableBytes *uint64 `json:"slab_unreclaimable_bytes,omitempty"`
	// PercpuBytes is per-CPU memory.
	PercpuBytes *uint64 `json:"percpu_bytes,omitempty"`
}

// Share is the usage of one of several cgroups under a limit.
type Share struct {
	// Cgroup is the cgroup that uses it.
	Cgroup Cgroup `json:"cgroup"`
	// Level is its level in the cgroup tree of the node.
	Level Level `json:"level"`
	// Workload is what runs in it.
	Workload *Workload `json:"workload,omitempty"`
	// UsageBytes is its usage.
	UsageBytes *uint64 `json:"usage_bytes,omitempty"`
	// MaxBytes is its own limit; absent: it has none.
	MaxBytes *uint64 `json:"max_bytes,omitempty"`
}

// Candidate is a process that could have been killed.
type Candidate struct {
	Process
	// AnonRSSBytes is its resident anonymous memory.
	AnonRSSBytes *uint64 `json:"anon_rss_bytes,omitempty"`
	// FileRSSBytes is its resident file pages.
	FileRSSBytes *uint64 `json:"file_rss_bytes,omitempty"`
	// ShmemRSSBytes is its resident shared memory.
	ShmemRSSBytes *uint64 `json:"shmem_rss_bytes,omitempty"`
	// RSSBytes is the sum of these, where only the sum is known.
	RSSBytes *uint64 `json:"rss_bytes,omitempty"`
	// SwapBytes is its memory in swap.
	SwapBytes *uint64 `json:"swap_bytes,omitempty"`
	// PgtablesBytes is the memory of its page tables.
	PgtablesBytes *uint64 `json:"pgtables_bytes,omitempty"`
	// OOMScoreAdj is its oom_score_adj.
	OOMScoreAdj *int `json:"oom_score_adj,omitempty"`
	// Points is its badness in pages, as the kernel computes it (mm/oom_kill.c: oom_badness).
	Points *int64 `json:"points,omitempty"`
	// Victim is true if it was killed.
	Victim bool `json:"victim,omitempty"`
	// Unkillable is true for oom_score_adj -1000.
	Unkillable bool `json:"unkillable,omitempty"`
}

// NodeState is the state of the node's memory.
type NodeState struct {
	// AfterNS is the time from the kill to its reading; absent: the kernel logged it at the kill.
	AfterNS *uint64 `json:"after_ns,omitempty"`
	// TotalBytes is MemTotal.
	TotalBytes *uint64 `json:"total_bytes,omitempty"`
	// FreeBytes is MemFree.
	FreeBytes *uint64 `json:"free_bytes,omitempty"`
	// AvailableBytes is MemAvailable.
	AvailableBytes *uint64 `json:"available_bytes,omitempty"`
	// AnonBytes is anonymous memory.
	AnonBytes *uint64 `json:"anon_bytes,omitempty"`
	// FileBytes is page cache, with shared memory.
	FileBytes *uint64 `json:"file_bytes,omitempty"`
	// ShmemBytes is shared memory and tmpfs.
	ShmemBytes *uint64 `json:"shmem_bytes,omitempty"`
	// DirtyBytes is dirty page cache.
	DirtyBytes *uint64 `json:"dirty_bytes,omitempty"`
	// WritebackBytes is page cache under writeback.
	WritebackBytes *uint64 `json:"writeback_bytes,omitempty"`
	// SlabReclaimable is slab that can be reclaimed.
	SlabReclaimable *uint64 `json:"slab_reclaimable_bytes,omitempty"`
	// SlabUnreclaimable is slab that cannot be reclaimed.
	SlabUnreclaimable *uint64 `json:"slab_unreclaimable_bytes,omitempty"`
	// KernelStackBytes is kernel stacks.
	KernelStackBytes *uint64 `json:"kernel_stack_bytes,omitempty"`
	// PagetablesBytes is page tables.
	PagetablesBytes *uint64 `json:"pagetables_bytes,omitempty"`
	// UnevictableBytes is locked memory.
	UnevictableBytes *uint64 `json:"unevictable_bytes,omitempty"`
	// AnonTHPBytes is anonymous memory in transparent huge pages.
	AnonTHPBytes *uint64 `json:"anon_thp_bytes,omitempty"`
	// HugetlbBytes is memory reserved for hugetlb.
	HugetlbBytes *uint64 `json:"hugetlb_bytes,omitempty"`
	// HugetlbFreeBytes is the free part of hugetlb.
	HugetlbFreeBytes *uint64 `json:"hugetlb_free_bytes,omitempty"`
	// SwapTotalBytes is the size of swap.
	SwapTotalBytes *uint64 `json:"swap_total_bytes,omitempty"`
	// SwapFreeBytes is free swap.
	SwapFreeBytes *uint64 `json:"swap_free_bytes,omitempty"`
	// PSISome is the share of time in which some tasks stalled for memory.
	PSISome *PSI `json:"psi_some,omitempty"`
	// PSIFull is the share of time in which all tasks stalled for memory.
	PSIFull *PSI `json:"psi_full,omitempty"`
	// Zones are the zones of all NUMA nodes.
	Zones []Zone `json:"zones,omitempty"`
	// Slabs are the largest slab caches, the largest first.
	Slabs []SlabCache `json:"slabs,omitempty"`
	// TransparentHuge is the mode of transparent huge pages: always, madvise, never.
	TransparentHuge string `json:"transparent_hugepage,omitempty"`
	// Cgroups are the largest cgroups of the first two levels of the tree, the largest first.
	Cgroups []Share `json:"cgroups,omitempty"`
}

// PSI is the share of time in which tasks stalled for memory, in percent.
type PSI struct {
	// Avg10 is the average over 10 s.
	Avg10 float64 `json:"avg10"`
	// Avg60 is the average over 60 s.
	Avg60 float64 `json:"avg60"`
	// Avg300 is the average over 300 s.
	Avg300 float64 `json:"avg300"`
}

// Zone is one zone of one NUMA node.
type Zone struct {
	// Node is the NUMA node.
	Node int `json:"node"`
	// Zone is the name of the zone.
	Zone string `json:"zone"`
	// FreeBytes is free memory.
	FreeBytes *uint64 `json:"free_bytes,omitempty"`
	// MinBytes is the min watermark.
	MinBytes *uint64 `json:"min_bytes,omitempty"`
	// LowBytes is the low watermark.
	LowBytes *uint64 `json:"low_bytes,omitempty"`
	// HighBytes is the high watermark.
	HighBytes *uint64 `json:"high_bytes,omitempty"`
	// ManagedBytes is the memory of the zone that the allocator manages.
	ManagedBytes *uint64 `json:"managed_bytes,omitempty"`
	// FreeBlocks counts free blocks by order: the fourth number is of blocks of 8 pages.
	FreeBlocks []uint64 `json:"free_blocks,omitempty"`
}

// SlabCache is a cache of the kernel's slab allocator.
type SlabCache struct {
	// Name is the name of the cache.
	Name string `json:"name"`
	// Bytes is its size.
	Bytes uint64 `json:"bytes"`
}

// Eviction is the view of the kubelet: the distance to an eviction, and whether the kernel was faster
// than an eviction.
type Eviction struct {
	// AvailableBytes is memory.available as the kubelet computes it: capacity less the working set.
	AvailableBytes *uint64 `json:"available_bytes,omitempty"`
	// MemAvailableBytes is MemAvailable of /proc/meminfo.
	MemAvailableBytes *uint64 `json:"mem_available_bytes,omitempty"`
	// HardBytes is the hard threshold of memory.available.
	HardBytes *uint64 `json:"hard_bytes,omitempty"`
	// SoftBytes is the soft threshold of memory.available.
	SoftBytes *uint64 `json:"soft_bytes,omitempty"`
	// Signals are all thresholds as they are configured.
	Signals map[string]string `json:"signals,omitempty"`
	// HardSinceNS is the time since it fell below the hard threshold; absent: it was above.
	HardSinceNS *uint64 `json:"hard_since_ns,omitempty"`
	// SoftSinceNS is the time since it fell below the soft threshold; absent: it was above.
	SoftSinceNS *uint64 `json:"soft_since_ns,omitempty"`
	// Text is a sentence for users.
	Text string `json:"text,omitempty"`
	// Source is the source of the thresholds.
	Source string `json:"source,omitempty"`
	// Log are lines of the kubelet's log about it.
	Log []string `json:"log,omitempty"`
}

// Reported is the container runtime's report of the end of a container, compared with the kernel's
// kill.
type Reported struct {
	// ContainerID is the id of the container.
	ContainerID string `json:"container_id"`
	// Container is its name.
	Container string `json:"container,omitempty"`
	// State is running, exited; or unknown: the runtime did not answer, or no longer knows the
	// container.
	State string `json:"state"`
	// Reason is the reason as the runtime has it, such as OOMKilled.
	Reason string `json:"reason,omitempty"`
	// ExitCode is the exit code as the runtime has it, such as 137.
	ExitCode *int `json:"exit_code,omitempty"`
	// Source is cri, or disk (files of Docker).
	Source string `json:"source"`
	// Agrees is true if the report matches what the kernel did.
	Agrees bool `json:"agrees"`
	// Text describes both in a sentence for users.
	Text string `json:"text"`
}

// Cause is a reason for the kill: a rule that found its evidence.
type Cause struct {
	// ID is the id of the rule.
	ID string `json:"id"`
	// Text is the cause in a sentence.
	Text string `json:"text"`
	// Confidence is certain, likely, possible.
	Confidence string `json:"confidence"`
	// Evidence supports the cause.
	Evidence []Evidence `json:"evidence"`
	// Advice lists possible remedies.
	Advice []Advice `json:"advice,omitempty"`
	// Reference is a document about it.
	Reference string `json:"reference,omitempty"`
}

// Advice is a remedy for a cause.
type Advice struct {
	// Layer is the layer to change: kubernetes, cgroup, kernel, application.
	Layer string `json:"layer"`
	// Text is the advice.
	Text string `json:"text"`
}

// Log is the place of an incident in a kernel log.
type Log struct {
	// FirstLine is the first line of the report, counted from 1.
	FirstLine int `json:"first_line"`
	// LastLine is its last line.
	LastLine int `json:"last_line"`
	// UptimeNS is the time by the clock of the log: since boot, and some milliseconds off other
	// clocks.
	UptimeNS *uint64 `json:"uptime_ns,omitempty"`
	// Truncated is true if the report has gaps or no end.
	Truncated bool `json:"truncated,omitempty"`
	// Panic is true if the kernel panicked with it.
	Panic bool `json:"panic,omitempty"`
}

// Before is the stall history of a kill: of tasks in the limiter and below it, or on the whole node.
type Before struct {
	// WindowNS is the length of the history.
	WindowNS uint64 `json:"window_ns"`
	// Stalls are the sums by kind, the longest in total first. A sleep for memory.high may include
	// memcg reclaim: kinds do not add up.
	Stalls []StallSum `json:"stalls"`
	// Timeline has a row for each second in which something stalled, oldest first.
	Timeline []StallSecond `json:"timeline,omitempty"`
	// Unseen are kinds that are not traced here: their absence proves nothing.
	Unseen []string `json:"unseen,omitempty"`
	// Longest are the longest single stalls, longest first.
	Longest []LongStall `json:"longest,omitempty"`
	// Guardians are critical services (--guardians) that stalled, the longest first, whatever the
	// limiter.
	Guardians []GuardianStall `json:"guardians,omitempty"`
	// Kswapd is the activity of kswapd, if no cgroup was the limiter.
	Kswapd []Kswapd `json:"kswapd,omitempty"`
	// GaveUp is why the allocator called the OOM killer, if no cgroup was the limiter.
	GaveUp *GaveUpLine `json:"gave_up,omitempty"`
}

// GuardianStall is the stall of a critical service: kubelet, a runtime, sshd, ...
type GuardianStall struct {
	// Unit is the systemd unit.
	Unit string `json:"unit"`
	// TotalNS is the time that its tasks stalled.
	TotalNS uint64 `json:"total_ns"`
}

// Kswapd is the activity of kswapd on one NUMA node in the window.
type Kswapd struct {
	// Node is the NUMA node.
	Node int `json:"node"`
	// Wakeups is the number of wakeups of kswapd.
	Wakeups uint64 `json:"wakeups"`
	// AwakeNS is the time that it was awake.
	AwakeNS uint64 `json:"awake_ns"`
}

// GaveUpLine has the allocator's last decisions, for the trigger, on another round of reclaim or
// compaction (mm/page_alloc.c: should_reclaim_retry, should_compact_retry).
type GaveUpLine struct {
	// Reclaim is the last decision on reclaim.
	Reclaim *ReclaimAnswer `json:"reclaim,omitempty"`
	// Compact is the last decision on compaction.
	Compact *CompactAnswer `json:"compact,omitempty"`
}

// ReclaimAnswer is a decision on reclaim, for the zone that was tried last.
type ReclaimAnswer struct {
	// BeforeNS is the time from the decision to the kill.
	BeforeNS uint64 `json:"before_ns"`
	// Order is the order of the allocation.
	Order uint32 `json:"order"`
	// Zone is the name of the zone.
	Zone string `json:"zone"`
	// Node is its NUMA node.
	Node uint32 `json:"node"`
	// ReclaimableBytes is reclaimable memory.
	ReclaimableBytes uint64 `json:"reclaimable_bytes"`
	// AvailableBytes is free and reclaimable memory.
	AvailableBytes uint64 `json:"available_bytes"`
	// MinWatermarkBytes is the min watermark.
	MinWatermarkBytes uint64 `json:"min_watermark_bytes"`
	// NoProgressLoops is the number of consecutive rounds without progress; the allocator gives up
	// after 16.
	NoProgressLoops uint32 `json:"no_progress_loops"`
	// WatermarkOK is true if reclaiming all of it would meet the watermark.
	WatermarkOK bool `json:"watermark_ok"`
}

// CompactAnswer is a decision on compaction, for an order above 0.
type CompactAnswer struct {
	// BeforeNS is the time from the decision to the kill.
	BeforeNS uint64 `json:"before_ns"`
	// Order is the order of the allocation.
	Order uint32 `json:"order"`
	// Priority is the priority of compaction.
	Priority uint32 `json:"priority"`
	// Result is its result.
	Result string `json:"result"`
	// Retries is the number of attempts.
	Retries uint32 `json:"retries"`
	// MaxRetries is the maximum number of attempts.
	MaxRetries uint32 `json:"max_retries"`
	// Again is true if the decision was to try again.
	Again bool `json:"again"`
}

// StallSum sums up the stalls of one kind.
type StallSum struct {
	// What is the kind of stall.
	What string `json:"what"`
	// Count is the number of stalls.
	Count uint64 `json:"count"`
	// Fruitless is the number of stalls that reclaimed nothing.
	Fruitless uint64 `json:"fruitless_count"`
	// TotalNS is the total duration.
	TotalNS uint64 `json:"total_ns"`
	// MaxNS is the longest duration; short ones are rounded up to a power of two.
	MaxNS uint64 `json:"max_ns"`
	// ReclaimedBytes is the memory reclaimed.
	ReclaimedBytes uint64 `json:"reclaimed_bytes"`
}

// StallSecond is one second before the kill.
type StallSecond struct {
	// BeforeNS is the time from its end to the kill.
	BeforeNS uint64 `json:"before_ns"`
	// Count is the number of stalls.
	Count uint64 `json:"count"`
	// TotalNS is the total duration.
	TotalNS uint64 `json:"total_ns"`
	// HighNS is the part of total_ns that was throttling by memory.high.
	HighNS uint64 `json:"memory_high_ns,omitempty"`
	// ReclaimedBytes is the memory reclaimed.
	ReclaimedBytes uint64 `json:"reclaimed_bytes"`
	// UsageBytes is the usage of the limiter at its end.
	UsageBytes *uint64 `json:"usage_bytes,omitempty"`
	// LimitBytes is the limit of the limiter at its end.
	LimitBytes *uint64 `json:"limit_bytes,omitempty"`
	// PSISomeNS is the time in which some of its tasks stalled for memory, since it was created.
	PSISomeNS *uint64 `json:"psi_some_total_ns,omitempty"`
	// PSIFullNS is the time in which all of its tasks stalled for memory, since it was created.
	PSIFullNS *uint64 `json:"psi_full_total_ns,omitempty"`
	// MaxEvents counts how often its limit was reached, since it was created.
	MaxEvents *uint64 `json:"max_events,omitempty"`
	// HighEvents counts how often memory.high made its tasks reclaim, since it was created.
	HighEvents *uint64 `json:"high_events,omitempty"`
}

// LongStall is a single stall.
type LongStall struct {
	// What is the kind of stall.
	What string `json:"what"`
	// BeforeNS is the time from its end to the kill.
	BeforeNS uint64 `json:"before_ns"`
	// DurationNS is its duration.
	DurationNS uint64 `json:"duration_ns"`
	// ReclaimedBytes is the memory reclaimed.
	ReclaimedBytes uint64 `json:"reclaimed_bytes"`
	// Task is the task that stalled.
	Task Process `json:"task"`
	// Limiter is the cgroup whose limit it reclaimed for, where the kernel names it.
	Limiter *Cgroup `json:"limiter,omitempty"`
}

// PressureLine is an early warning (Kind "pressure").
type PressureLine struct {
	Envelope
	// What is memory_high_throttling, reclaim_gains_nothing or guardian_stalled.
	What string `json:"what"`
	// Cgroup is the cgroup that the warning is about.
	Cgroup Cgroup `json:"cgroup"`
	// Workload is what runs in it.
	Workload *Workload `json:"workload,omitempty"`
	// WindowNS is the length of the window.
	WindowNS uint64 `json:"window_ns"`
	// TotalNS is the time stalled in the window, of all its tasks together.
	TotalNS uint64 `json:"total_ns"`
	// Count is the number of reclaims.
	Count uint64 `json:"count"`
	// Fruitless is the number of those without progress.
	Fruitless uint64 `json:"fruitless_count"`
}

// StallLine is a single long stall (Kind "stall"). Its time is the end of the stall.
type StallLine struct {
	Envelope
	// What is the kind of stall.
	What string `json:"what"`
	// DurationNS is its duration.
	DurationNS uint64 `json:"duration_ns"`
	// ReclaimedBytes is the memory reclaimed.
	ReclaimedBytes uint64 `json:"reclaimed_bytes"`
	// Task is the task that stalled.
	Task Process `json:"task"`
	// Limiter is the cgroup whose limit it reclaimed for, where the kernel names it.
	Limiter *Cgroup `json:"limiter,omitempty"`
}

// Passes counts the OOM invocations of an incident by outcome. Those without a kill are one incident.
type Passes struct {
	// Killed counts invocations that killed.
	Killed uint64 `json:"killed,omitempty"`
	// NoKillable counts invocations that found nothing killable.
	NoKillable uint64 `json:"no_killable_task,omitempty"`
	// Waiting counts invocations that waited for an earlier victim.
	Waiting uint64 `json:"waiting_for_victim,omitempty"`
	// AlreadyExiting counts invocations that chose a task which was exiting.
	AlreadyExiting uint64 `json:"already_exiting,omitempty"`
	// Skipped counts invocations that made no choice.
	Skipped uint64 `json:"skipped,omitempty"`
}

// Audit compares the counters of the kernel with what was reported.
type Audit struct {
	// Victims is the number of processes reported as killed.
	Victims int `json:"victims"`
	// KernelKills is how often __oom_kill_process was seen to send SIGKILL: the chosen victim of a
	// group may be killed twice.
	KernelKills uint64 `json:"kernel_kills"`
	// VMStatDelta is the growth of oom_kill in /proc/vmstat over the window.
	VMStatDelta *uint64 `json:"vmstat_oom_kill,omitempty"`
	// Incidents is the number of incidents in the window.
	Incidents int `json:"window_incidents,omitempty"`
	// WindowKills is the number of kills by the kernel in the window.
	WindowKills uint64 `json:"window_kernel_kills,omitempty"`
	// MemcgDelta is the growth of oom_kill in memory.events of the limiter.
	MemcgDelta *uint64 `json:"memory_events_oom_kill,omitempty"`
	// Explained is true if the numbers agree.
	Explained bool `json:"explained"`
	// Text explains the result to users.
	Text string `json:"text"`
}

// Incident is one OOM decision with all its victims (Kind "incident"), or a later change of it (Kind
// "incident_update": same id, only new or changed keys; victims are matched by pid).
type Incident struct {
	Envelope
	// ID is unique within a boot; together with boot_id, it is unique.
	ID string `json:"id"`
	// Scope is the scope of the shortage.
	Scope Scope `json:"scope,omitempty"`
	// Outcome is the result of the OOM invocation.
	Outcome Outcome `json:"outcome,omitempty"`
	// Limiter is the owner of the limit that was hit.
	Limiter *Limiter `json:"limiter,omitempty"`
	// Ladder are the memcg ancestors from the limiter up to the root at that instant. Those
	// below it, down to the cgroup of the victim, may precede the limiter.
	Ladder []Rung `json:"ladder,omitempty"`
	// Trigger is the process whose allocation failed.
	Trigger *Process `json:"trigger,omitempty"`
	// Victims are all processes that were sent SIGKILL.
	Victims []Victim `json:"victims,omitempty"`
	// Killer is the sender of the signal.
	Killer *Killer `json:"killer,omitempty"`
	// Allocation is the allocation that failed.
	Allocation *Allocation `json:"allocation,omitempty"`
	// Memory is the charge of the limiter by kind.
	Memory *Memory `json:"memory,omitempty"`
	// Before is the stall history.
	Before *Before `json:"before,omitempty"`
	// Passes is the number of OOM invocations by outcome.
	Passes *Passes `json:"passes,omitempty"`
	// Audit compares the counters of the kernel with what was reported.
	Audit *Audit `json:"audit,omitempty"`
	// Shares are the cgroups right below the limiter, the largest first.
	Shares []Share `json:"shares,omitempty"`
	// Candidates are processes that could have been killed, the likeliest first.
	Candidates []Candidate `json:"candidates,omitempty"`
	// SharesLeftOut is the number of shares that are not listed.
	SharesLeftOut int `json:"shares_left_out,omitempty"`
	// CandidatesLeftOut is the number of candidates that are not listed.
	CandidatesLeftOut int `json:"candidates_left_out,omitempty"`
	// NodeState is the state of the node's memory.
	NodeState *NodeState `json:"node_state,omitempty"`
	// Eviction is the distance of the node to an eviction by the kubelet.
	Eviction *Eviction `json:"eviction,omitempty"`
	// Reported are the container runtime's reports of the containers.
	Reported []Reported `json:"reported,omitempty"`
	// Causes are the causes, the best supported first.
	Causes []Cause `json:"causes,omitempty"`
	// Log is its place in the kernel log, for tier kernel_log.
	Log *Log `json:"log,omitempty"`
	// Notes are sentences for users about what is unusual.
	Notes []string `json:"notes,omitempty"`
	// Tier is the attach mode that it was traced by.
	Tier Tier `json:"tier,omitempty"`
	// Unknown are the names of the keys that could not be read.
	Unknown []string `json:"unknown,omitempty"`
}

// Lost counts records that did not reach user space since the last such line (Kind "lost").
type Lost struct {
	Envelope
	// What is the kind of record, or recording, name_lookup, host_state, stall_history or
	// incident_update.
	What string `json:"what"`
	// Count is the number lost.
	Count uint64 `json:"count"`
}

// Hook is the attach mode of one hook.
type Hook struct {
	// Name is the name of the hook.
	Name string `json:"name"`
	// Tier is its attach mode; absent: it is not attached.
	Tier Tier `json:"tier,omitempty"`
	// Why is why a better mode is not available.
	Why string `json:"why,omitempty"`
}

// Status opens and closes a trace, and carries findings of the audit that belong to no incident (Kind
// "status").
type Status struct {
	Envelope
	// Phase is start, audit, end.
	Phase string `json:"phase"`
	// Text is a sentence for users.
	Text string `json:"text,omitempty"`
	// Tier is the best attach mode of this node.
	Tier Tier `json:"tier,omitempty"`
	// CgroupMode is v1, v2, hybrid.
	CgroupMode string `json:"cgroup_mode,omitempty"`
	// KernelRelease is the release of the kernel.
	KernelRelease string `json:"kernel_release,omitempty"`
	// PageSizeBytes is the size of a page.
	PageSizeBytes int `json:"page_size_bytes,omitempty"`
	// Hooks are the hooks with their attach modes.
	Hooks []Hook `json:"hooks,omitempty"`
	// Incidents is the number of incidents since the start, in phase end, also where a filter shows
	// fewer.
	Incidents *uint64 `json:"incident_count,omitempty"`
	// Victims is the number of victims since the start, in phase end.
	Victims *uint64 `json:"victim_count,omitempty"`
	// Lost is the number of lost records since the start, in phase end.
	Lost *uint64 `json:"lost_count,omitempty"`
	// Shown is the number of incidents that passed a filter. It is not published.
	Shown *uint64 `json:"-"`
}
