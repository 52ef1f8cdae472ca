// SPDX-License-Identifier: Apache-2.0

package events

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

// The kinds of early warnings, as PressureLine.What has them.
const (
	PressureMemoryHigh = "memory_high_throttling" // a cgroup is throttled over memory.high
	PressureNoProgress = "reclaim_gains_nothing"  // reclaim makes no progress, an OOM kill is imminent
	PressureCritical   = "guardian_stalled"       // a critical service is stalled
)

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
	// AnonBytes is its anonymous memory at its end.
	AnonBytes *uint64 `json:"anon_bytes,omitempty"`
	// FileBytes is its page cache, including shmem_bytes.
	FileBytes *uint64 `json:"file_bytes,omitempty"`
	// ShmemBytes is its shared memory and tmpfs.
	ShmemBytes *uint64 `json:"shmem_bytes,omitempty"`
	// KernelBytes is its kernel memory: slab, stacks, page tables, per-CPU data and sockets.
	KernelBytes *uint64 `json:"kernel_bytes,omitempty"`
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
